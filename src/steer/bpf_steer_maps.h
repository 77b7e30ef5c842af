// SPDX-License-Identifier: Apache-2.0
// What the programs of bpf/steer.bpf.c and Aether both read and write: keys and values of the maps.
// Plain C.
#pragma once
#include <linux/types.h>

enum {
  AETHER_ROUTES = 2048,  // Of one Aether. An address of both families has one for each.
  AETHER_SHARES = 64,    // Sockets of one route.
  AETHER_TABLES = 4,     // Tables of one route: one is read, the next is written.
  AETHER_SLOTS = 8192,   // Sockets of all routes.
  AETHER_CLAIMS = 16,    // Addresses that are rewritten in one cgroup.
  AETHER_HIDDEN = 8192,  // Ports that programs were given instead of the documented one.
};

// Where a packet goes to. All zero address: every address of that family.
struct aether_key {
  __u8 protocol;
  __u8 family;
  __u16 port;  // Host order.
  __u8 address[16];
};

struct aether_share {
  __u32 until;  // Sum of the weights up to and with this one.
  __u32 slot;
};

struct aether_table {
  __u32 seed;     // Of the draw; the same for a route's life.
  __u32 stick;    // 1: only the source address is drawn over.
  __u32 active;   // Shares with a weight: the first ones.
  __u32 count;    // All shares.
  __u32 total;    // Sum of the weights.
  __u32 waiting;  // Slot of the listener that holds the address.
  __u32 refuse;   // 1: there are sockets, but none takes this family: as if nobody listened.
  __u32 pad;
  struct aether_share share[AETHER_SHARES];
};

struct aether_route {
  __u64 current;  // The table that is read now. A store into it is the cutover.
  struct aether_table table[AETHER_TABLES];
};

// A documented address, as the programs of a cgroup may bind it.
struct aether_claim {
  __u8 protocol;
  __u8 ipv4;   // 1: the claim has IPv4 addresses.
  __u8 ipv6;   // 1: it has IPv6 addresses.
  __u8 any;    // 1: every address of these families.
  __u16 port;  // Host order.
  __u16 pad;
  __u8 address[16];  // IPv4 as ::ffff:a.b.c.d.
};

struct aether_claims {
  __u64 netns;   // Cookie of the network namespace in which they hold.
  __u64 cgroup;  // Id of the folder, so that its hidden ports are found again.
  __u32 count;
  __u32 pad;
  struct aether_claim claim[AETHER_CLAIMS];
};

// Of one socket that was bound to a claimed address.
struct aether_bound {
  __u16 port;    // Documented, host order; 0: none.
  __u16 hidden;  // What the kernel gave; 0 for UDP.
  __u32 pad;
  __u64 cgroup;
};

struct aether_hidden {
  __u64 cgroup;
  __s32 sockets;  // One port can serve several specific addresses.
  __u32 pad;
};
