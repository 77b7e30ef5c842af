// SPDX-License-Identifier: Apache-2.0
// The classic BPF program that names the place in a SO_REUSEPORT group which receives. One
// instruction in the ordinary case; more while a probe asks a revision that is not steered to, or
// while two revisions share what is new. Pure.
#pragma once
#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "steer/split.h"

namespace aether::steer {

struct ReuseportProgram {
  std::size_t place = 0;  ///< Of the one that receives, all or a part.
  /// What comes from `port` goes to `place`, if it is IPv4 from an address to itself or from
  /// 127.0.0.0/8, or IPv6: a local socket is bound to that port, nobody else of this machine is.
  struct Guest {
    std::uint16_t port = 0;
    std::size_t place = 0;
  };
  std::optional<Guest> guest = {};
  /// Of the others, so much goes to the first place, and the rest there.
  struct Rest {
    std::size_t place = 0;
    int percent = 100;  ///< Of what is new, to the first place.
    Stick stick = Stick::None;
  };
  std::optional<Rest> rest = {};
};

[[nodiscard]] std::vector<sock_filter> code_of(ReuseportProgram const& program);

}  // namespace aether::steer
