// SPDX-License-Identifier: Apache-2.0
// PacketCounts: what the program at a network interface (XDP, `orchestrator.ebpf`) has seen for the
// ports of functions and services. Plain values.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace aether::api {

/// Of one port, since it is watched.
struct PortPackets {
  enum class Owner : std::uint8_t { Function, Service };
  Owner kind = Owner::Function;
  std::string owner;     ///< Its name.
  std::string protocol;  ///< "tcp" or "udp".
  std::uint16_t port = 0;
  std::vector<pid_t> pids;  ///< Of the processes that answer there now.
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;    ///< Of whole frames.
  std::uint64_t dropped = 0;  ///< Of the packets: their source had sent more than its rate.
};

struct PacketCounts {
  std::string interface;
  std::string mode;  ///< As attached: "generic", "native" or "offload".
  std::uint32_t rate = 0;
  std::uint32_t burst = 0;
  std::vector<PortPackets> ports;
};

[[nodiscard]] constexpr char const* owner_name(PortPackets::Owner kind) {
  return kind == PortPackets::Owner::Function ? "function" : "service";
}

}  // namespace aether::api
