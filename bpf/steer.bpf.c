// SPDX-License-Identifier: Apache-2.0
//
// Several programs "on" one port: aether_lookup gives new connections to sockets, whatever port
// these have; the others, attached to the cgroup of an instance, let its programs bind the
// documented port although it is taken. Maps are shared by all of them: src/steer/bpf_steer.cc
// loads this once for an Aether.
#include <linux/bpf.h>
#include <linux/in.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer/bpf_steer_maps.h"

enum { kInet = 2, kInet6 = 10, kSolSocket = 1, kSoReuseaddr = 2 };

// One load from a program's argument: the verifier refuses an address that was computed from two of
// them, which is what the compiler makes of loads in two branches.
#define READ(field) (*(volatile __u32*)&(field))

// What the programs of cgroup/bind return: allow (bit 0), and do not ask for CAP_NET_BIND_SERVICE
// (bit 1).
enum { kAllow = 1, kAllowAnyPort = 3 };

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, AETHER_ROUTES);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct aether_key);
  __type(value, __u32);
} aether_keys SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, AETHER_ROUTES);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct aether_route);
} aether_routes SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SOCKMAP);
  __uint(max_entries, AETHER_SLOTS);
  __type(key, __u32);
  __type(value, __u64);
} aether_sockets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, AETHER_SLOTS);
  __type(key, __u32);
  __type(value, __u64);
} aether_given SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, AETHER_HIDDEN);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u16);
  __type(value, struct aether_hidden);
} aether_hidden SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
  __type(key, __u64);
  __type(value, struct aether_claims);
} aether_claims SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct aether_bound);
} aether_bound SEC(".maps");

// ---- Which socket gets a connection

static __always_inline __u32 mix(__u32 hash, __u32 word) {
  hash ^= word;
  hash *= 0x85ebca6b;
  hash ^= hash >> 13;
  hash *= 0xc2b2ae35;
  return hash ^ (hash >> 16);
}

// The same for all packets of one connection attempt, so that a repeated SYN, and the answer to a
// SYN cookie, come to the same socket.
static __always_inline __u32 draw(struct bpf_sk_lookup* ctx, const struct aether_table* table) {
  __u32 hash = mix(table->seed, ctx->family);
  if (ctx->family == kInet) {
    hash = mix(hash, ctx->remote_ip4);
  } else {
    hash = mix(hash, ctx->remote_ip6[0]);
    hash = mix(hash, ctx->remote_ip6[1]);
    hash = mix(hash, ctx->remote_ip6[2]);
    hash = mix(hash, ctx->remote_ip6[3]);
  }
  if (table->stick) return hash;
  hash = mix(hash, ctx->remote_port);
  return mix(hash, ctx->local_port);
}

// 1 if the socket took it; 0 if it is gone, or cannot take packets of this family.
static __always_inline int give(struct bpf_sk_lookup* ctx, __u32 slot) {
  struct bpf_sock* sk = bpf_map_lookup_elem(&aether_sockets, &slot);
  if (!sk) return 0;
  // Without NO_REUSEPORT the kernel would draw again, among all of the socket's SO_REUSEPORT group.
  long refused = bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_NO_REUSEPORT);
  bpf_sk_release(sk);
  if (refused) return 0;
  __u64* given = bpf_map_lookup_elem(&aether_given, &slot);
  if (given) ++*given;
  return 1;
}

// A function of its own, and global: the verifier looks at it once, and knows nothing of what it
// returns. Inlined, it would follow each of 64 results through all that comes after, for most of a
// second.
__attribute__((noinline)) __u32 aether_first_of(const struct aether_table* table, __u32 hash) {
  if (!table) return 0;
  __u32 ticket = ((__u64)hash * table->total) >> 32;
  for (__u32 i = 0; i < AETHER_SHARES; ++i) {
    if (i >= table->active || ticket < table->share[i].until) return i;
  }
  return 0;
}

static __always_inline int route(struct bpf_sk_lookup* ctx, struct aether_route* route) {
  // A table is written again only after three others: nobody reads it any more by then.
  __u32 current = (__u32) * (__u64 volatile*)&route->current & (AETHER_TABLES - 1);
  const struct aether_table* table = &route->table[current];
  __u32 first = aether_first_of(table, draw(ctx, table));
  // From the drawn one around all that have a weight, then those that stand by.
  for (__u32 i = 0; i < AETHER_SHARES; ++i) {
    if (i >= table->count) break;
    __u32 at = i;
    if (i < table->active) {
      at = first + i;
      if (at >= table->active) at -= table->active;
    }
    if (at >= AETHER_SHARES) break;
    if (give(ctx, table->share[at].slot)) return SK_PASS;
  }
  // A client of "localhost" tries ::1 first: it has to see that nobody is there, not wait.
  if (table->refuse) return SK_DROP;
  give(ctx, table->waiting);
  return SK_PASS;
}

static __always_inline struct aether_route* route_of(const struct aether_key* key) {
  __u32* id = bpf_map_lookup_elem(&aether_keys, key);
  return id ? bpf_map_lookup_elem(&aether_routes, id) : 0;
}

static __always_inline int is_from_here(struct bpf_sk_lookup* ctx) {
  if (ctx->family == kInet) {
    __u32 local = ctx->local_ip4;
    return local == ctx->remote_ip4 || (bpf_ntohl(local) >> 24) == 127;
  }
  // ::1 too is only ever spoken to from ::1.
  return ctx->local_ip6[0] == ctx->remote_ip6[0] && ctx->local_ip6[1] == ctx->remote_ip6[1] &&
         ctx->local_ip6[2] == ctx->remote_ip6[2] && ctx->local_ip6[3] == ctx->remote_ip6[3];
}

SEC("sk_lookup")
int aether_lookup(struct bpf_sk_lookup* ctx) {
  struct aether_key key = {
      .protocol = ctx->protocol, .family = ctx->family, .port = ctx->local_port};
  // Most packets are for ports that are not ours, or for every address.
  struct aether_route* found = route_of(&key);
  struct aether_key exact = key;
  __u32 words[4] = {READ(ctx->local_ip4), 0, 0, 0};
  if (ctx->family == kInet6) {
    words[0] = READ(ctx->local_ip6[0]);
    words[1] = READ(ctx->local_ip6[1]);
    words[2] = READ(ctx->local_ip6[2]);
    words[3] = READ(ctx->local_ip6[3]);
  }
  __builtin_memcpy(exact.address, words, sizeof(words));
  struct aether_route* nearer = route_of(&exact);
  if (nearer) found = nearer;
  if (found) return route(ctx, found);

  // A hidden port is not there for other machines: its revision may not serve yet, or not any more.
  __u16 port = ctx->local_port;
  if (ctx->protocol == IPPROTO_TCP && bpf_map_lookup_elem(&aether_hidden, &port) &&
      !is_from_here(ctx))
    return SK_DROP;
  return SK_PASS;
}

// ---- What the programs of a cgroup bind

static __always_inline int is_zero(__u32 const address[4]) {
  return !(address[0] | address[1] | address[2] | address[3]);
}

static __always_inline int is_mapped(__u32 const address[4]) {
  return !(address[0] | address[1]) && address[2] == bpf_htonl(0xffff);
}

static __always_inline int overlaps(const struct aether_claim* claim, __u32 const address[4]) {
  // "[::]" takes IPv4 too, unless its program said otherwise, which cannot be seen from here.
  if (is_zero(address)) return 1;
  if (is_mapped(address) && !claim->ipv4) return 0;
  if (!is_mapped(address) && !claim->ipv6) return 0;
  if (claim->any || (is_mapped(address) && !address[3])) return 1;
  __u32 const* own = (__u32 const*)claim->address;
  return own[0] == address[0] && own[1] == address[1] && own[2] == address[2] &&
         own[3] == address[3];
}

static __always_inline int claims_it(const struct aether_claims* claims, __u8 protocol, __u16 port,
                                     __u32 const address[4]) {
// Unrolled: an offset that is computed would need CAP_PERFMON.
#pragma unroll
  for (__u32 i = 0; i < AETHER_CLAIMS; ++i) {
    if (i >= claims->count) break;
    const struct aether_claim* claim = &claims->claim[i];
    if (claim->protocol == protocol && claim->port == port && overlaps(claim, address)) return 1;
  }
  return 0;
}

static __always_inline int rewrite(struct bpf_sock_addr* ctx, __u32 const address[4]) {
  struct bpf_sock* sk = ctx->sk;
  if (!sk) return kAllow;
  struct aether_claims* claims = bpf_get_local_storage(&aether_claims, 0);
  __u16 port = bpf_ntohs((__u16)ctx->user_port);
  if (!port || claims->netns != bpf_get_netns_cookie(ctx) ||
      !claims_it(claims, ctx->protocol, port, address)) {
    // A bind that failed before may have left its mark.
    bpf_sk_storage_delete(&aether_bound, sk);
    return kAllow;
  }
  struct aether_bound* bound =
      bpf_sk_storage_get(&aether_bound, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
  if (!bound) return 0;
  bound->port = port;
  bound->hidden = 0;
  bound->cgroup = claims->cgroup;
  // UDP: answers must come from this very port, so it is shared, and aether_lookup chooses. TCP:
  // accepted sockets have the documented port and inherit the flag; in TIME_WAIT without it they
  // would keep Aether itself from binding it.
  int on = 1;
  bpf_setsockopt(ctx, kSolSocket, kSoReuseaddr, &on, sizeof(on));
  if (ctx->protocol == IPPROTO_TCP) ctx->user_port = 0;
  return kAllowAnyPort;
}

SEC("cgroup/bind4")
int aether_bind4(struct bpf_sock_addr* ctx) {
  __u32 address[4] = {0, 0, bpf_htonl(0xffff), ctx->user_ip4};
  return rewrite(ctx, address);
}

SEC("cgroup/bind6")
int aether_bind6(struct bpf_sock_addr* ctx) {
  __u32 address[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};
  return rewrite(ctx, address);
}

static __always_inline int tell(struct bpf_sock_addr* ctx) {
  struct bpf_sock* sk = ctx->sk;
  if (!sk) return 1;
  struct aether_bound* bound = bpf_sk_storage_get(&aether_bound, sk, 0, 0);
  if (bound && bound->port) ctx->user_port = bpf_htons(bound->port);
  return 1;
}

SEC("cgroup/getsockname4")
int aether_name4(struct bpf_sock_addr* ctx) {
  return tell(ctx);
}

SEC("cgroup/getsockname6")
int aether_name6(struct bpf_sock_addr* ctx) {
  return tell(ctx);
}

static __always_inline int hide(struct bpf_sock* ctx) {
  struct aether_bound* bound = bpf_sk_storage_get(&aether_bound, ctx, 0, 0);
  if (!bound || !bound->port || ctx->protocol != IPPROTO_TCP) return 1;
  __u16 port = ctx->src_port;
  struct aether_hidden first = {.cgroup = bound->cgroup, .sockets = 1};
  bound->hidden = port;
  if (bpf_map_update_elem(&aether_hidden, &port, &first, BPF_NOEXIST)) {
    struct aether_hidden* others = bpf_map_lookup_elem(&aether_hidden, &port);
    if (others) __sync_fetch_and_add(&others->sockets, 1);
  }
  return 1;
}

SEC("cgroup/post_bind4")
int aether_hide4(struct bpf_sock* ctx) {
  return hide(ctx);
}

SEC("cgroup/post_bind6")
int aether_hide6(struct bpf_sock* ctx) {
  return hide(ctx);
}

// Sockets of multipath TCP take no part in sk_lookup. Go (1.24 and newer) listens with them where it
// can, and with TCP where it is told that it cannot.
SEC("cgroup/sock_create")
int aether_plain(struct bpf_sock* ctx) {
  return ctx->protocol == IPPROTO_MPTCP ? 0 : 1;
}

SEC("cgroup/sock_release")
int aether_unhide(struct bpf_sock* ctx) {
  struct aether_bound* bound = bpf_sk_storage_get(&aether_bound, ctx, 0, 0);
  if (!bound || !bound->hidden) return 1;
  __u16 port = bound->hidden;
  bound->hidden = 0;
  struct aether_hidden* hidden = bpf_map_lookup_elem(&aether_hidden, &port);
  if (hidden && __sync_fetch_and_add(&hidden->sockets, -1) <= 1)
    bpf_map_delete_elem(&aether_hidden, &port);
  return 1;
}

// No function of the kernel that only GPL programs may call is used.
char _license[] SEC("license") = "Apache-2.0";
