// SPDX-License-Identifier: Apache-2.0
#include "steer/bpf_objects.h"

#ifdef AETHER_WITH_BPF
// clang-format off
#define AETHER_EMBED(symbol, file)                    \
  asm(".pushsection .rodata\n"                        \
      ".balign 8\n"                                   \
      ".global " #symbol "_begin, " #symbol "_end\n"  \
      #symbol "_begin:\n"                             \
      ".incbin \"" AETHER_BPF_FOLDER file "\"\n"      \
      #symbol "_end:\n"                               \
      ".popsection\n");                               \
  extern "C" std::byte const symbol##_begin[];        \
  extern "C" std::byte const symbol##_end[];
// clang-format on

AETHER_EMBED(aether_bpf_steer, "steer.bpf.o")
AETHER_EMBED(aether_bpf_xdp_ports, "xdp_ports.bpf.o")
#endif

namespace aether::steer {

std::span<std::byte const> embedded_bpf([[maybe_unused]] BpfObject object) {
#ifdef AETHER_WITH_BPF
  if (object == BpfObject::XdpPorts) return {aether_bpf_xdp_ports_begin, aether_bpf_xdp_ports_end};
  return {aether_bpf_steer_begin, aether_bpf_steer_end};
#else
  return {};
#endif
}

}  // namespace aether::steer
