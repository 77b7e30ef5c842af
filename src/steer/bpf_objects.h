// SPDX-License-Identifier: Apache-2.0
// The compiled programs of bpf/, as they lie in our own binary.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace aether::steer {

enum class BpfObject : std::uint8_t {
  Steer,     ///< bpf/steer.bpf.c
  XdpPorts,  ///< bpf/xdp_ports.bpf.c
};

/// The ELF file; empty in a build with AETHER_BPF=OFF.
[[nodiscard]] std::span<std::byte const> embedded_bpf(BpfObject object);

}  // namespace aether::steer
