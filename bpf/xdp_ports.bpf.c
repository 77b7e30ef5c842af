// SPDX-License-Identifier: Apache-2.0
//
// Counts the frames that arrive for watched ports, and drops those of sources that are over the
// limit, before the stack does any work. What it does not understand passes: nothing here decides
// who gets a connection.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer/bpf_xdp_maps.h"

enum {
  kVlanTags = 2,
  kExtensionHeaders = 6,
  kHopByHop = 0,
  kRouting = 43,
  kFragment = 44,
  kAuthentication = 51,
  kDestination = 60,
  kMobility = 135,
  kOffsetMask = 0x1fff,  // Of IPv4's frag_off, in units of 8 bytes.
};

struct vlan_tag {
  __be16 control;
  __be16 next;
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
  __uint(max_entries, AETHER_XDP_PORTS);
  __type(key, struct aether_xdp_port);
  __type(value, struct aether_xdp_count);
} aether_ports SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct aether_xdp_limit);
} aether_limit SEC(".maps");

// The one map that may forget: a source that was silent for longest begins with a full bucket
// again.
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, AETHER_XDP_SOURCES);
  __type(key, struct aether_xdp_source);
  __type(value, __u64);  // When, by bpf_ktime_get_ns(), its bucket is full again.
} aether_sources SEC(".maps");

struct packet {
  void* at;
  void* end;
  struct aether_xdp_source source;
  __u8 protocol;
  __be16 type;
};

static __always_inline int skip_ethernet(struct packet* packet) {
  struct ethhdr* ethernet = packet->at;
  if ((void*)(ethernet + 1) > packet->end) return 0;
  packet->type = ethernet->h_proto;
  packet->at = ethernet + 1;
  for (int i = 0; i < kVlanTags; ++i) {
    if (packet->type != bpf_htons(ETH_P_8021Q) && packet->type != bpf_htons(ETH_P_8021AD)) break;
    struct vlan_tag* tag = packet->at;
    if ((void*)(tag + 1) > packet->end) return 0;
    packet->type = tag->next;
    packet->at = tag + 1;
  }
  return 1;
}

static __always_inline int skip_ipv4(struct packet* packet) {
  struct iphdr* ip = packet->at;
  if ((void*)(ip + 1) > packet->end || ip->version != 4 || ip->ihl < 5) return 0;
  // Ports are in the first fragment only.
  if (ip->frag_off & bpf_htons(kOffsetMask)) return 0;
  packet->source.address[2] = bpf_htonl(0xffff);
  packet->source.address[3] = ip->saddr;
  packet->protocol = ip->protocol;
  packet->at = (void*)ip + ip->ihl * 4;
  return 1;
}

struct extension {
  __u8 next;
  __u8 length;
  __be16 offset;  // Of a fragment header: in the upper 13 bits.
};

static __always_inline int skip_ipv6(struct packet* packet) {
  struct ipv6hdr* ip = packet->at;
  if ((void*)(ip + 1) > packet->end || ip->version != 6) return 0;
  packet->source.address[0] = ip->saddr.in6_u.u6_addr32[0];
  packet->source.address[1] = ip->saddr.in6_u.u6_addr32[1];
  packet->at = ip + 1;
  __u8 next = ip->nexthdr;
  for (int i = 0; i < kExtensionHeaders; ++i) {
    struct extension* header = packet->at;
    if (next != kHopByHop && next != kRouting && next != kFragment && next != kAuthentication &&
        next != kDestination && next != kMobility)
      break;
    if ((void*)(header + 1) > packet->end) return 0;
    __u32 length = ((__u32)header->length + 1) * 8;
    if (next == kAuthentication) length = ((__u32)header->length + 2) * 4;
    if (next == kFragment) {
      if (bpf_ntohs(header->offset) >> 3) return 0;
      length = 8;
    }
    next = header->next;
    packet->at = (void*)header + length;
  }
  packet->protocol = next;
  return 1;
}

// A token bucket kept as one time, so that two processors can share it without a lock: a packet
// moves the time at which the bucket is full by its cost, and is over the limit if that time is too
// far ahead.
static __always_inline int is_over(const struct aether_xdp_source* source) {
  __u32 zero = 0;
  struct aether_xdp_limit* limit = bpf_map_lookup_elem(&aether_limit, &zero);
  if (!limit || !limit->cost_ns) return 0;
  __u64 now = bpf_ktime_get_ns();
  __u64* full_at = bpf_map_lookup_elem(&aether_sources, source);
  if (!full_at) {
    __u64 first = now + limit->cost_ns;
    bpf_map_update_elem(&aether_sources, source, &first, BPF_NOEXIST);
    return 0;
  }
  for (int i = 0; i < 4; ++i) {
    __u64 was = *(__u64 volatile*)full_at;
    __u64 from = was > now ? was : now;
    if (from - now > limit->ahead_ns) return 1;
    if (__sync_val_compare_and_swap(full_at, was, from + limit->cost_ns) == was) return 0;
  }
  return 0;  // Others took the time: they are counted, this one is let go.
}

SEC("xdp.frags")
int aether_xdp(struct xdp_md* ctx) {
  struct packet packet = {.at = (void*)(long)ctx->data, .end = (void*)(long)ctx->data_end};
  if (!skip_ethernet(&packet)) return XDP_PASS;
  if (packet.type == bpf_htons(ETH_P_IP)) {
    if (!skip_ipv4(&packet)) return XDP_PASS;
  } else if (packet.type == bpf_htons(ETH_P_IPV6)) {
    if (!skip_ipv6(&packet)) return XDP_PASS;
  } else {
    return XDP_PASS;
  }
  if (packet.protocol != IPPROTO_TCP && packet.protocol != IPPROTO_UDP) return XDP_PASS;
  // TCP and UDP both begin with the two ports.
  __be16* ports = packet.at;
  if ((void*)(ports + 2) > packet.end) return XDP_PASS;
  struct aether_xdp_port port = {.protocol = packet.protocol, .port = bpf_ntohs(ports[1])};
  struct aether_xdp_count* count = bpf_map_lookup_elem(&aether_ports, &port);
  if (!count) return XDP_PASS;
  ++count->packets;
  count->bytes += bpf_xdp_get_buff_len(ctx);
  if (!is_over(&packet.source)) return XDP_PASS;
  ++count->dropped;
  return XDP_DROP;
}

char _license[] SEC("license") = "Apache-2.0";
