// SPDX-License-Identifier: Apache-2.0
// Keys and values of the maps of bpf/xdp_ports.bpf.c, for it and for XdpCounters. Plain C.
#pragma once
#include <linux/types.h>

enum {
  AETHER_XDP_PORTS = 1024,
  AETHER_XDP_SOURCES = 65536,
};

struct aether_xdp_port {
  __u8 protocol;
  __u8 pad;
  __u16 port;  // Host order.
};

// Per CPU.
struct aether_xdp_count {
  __u64 packets;
  __u64 bytes;
  __u64 dropped;
};

// The limit of each source. cost 0: there is none.
struct aether_xdp_limit {
  __u64 cost_ns;   // Time in which one packet is earned.
  __u64 ahead_ns;  // How far a source may be ahead of its time: the burst.
};

// IPv4 as ::ffff:a.b.c.d; the first 64 bits of IPv6.
struct aether_xdp_source {
  __u32 address[4];
};
