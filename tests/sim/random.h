// SPDX-License-Identifier: Apache-2.0
// Random: the simulation's only source of chance. The same seed gives the same run on every
// machine, which the standard distributions do not promise.
#pragma once
#include <cstdint>

#include "base/time.h"

namespace aether::sim {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  /// SplitMix64 (Steele, Lea and Flood, 2014).
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
  }
  /// In [0, end).
  std::uint64_t below(std::uint64_t end) { return next() % end; }
  bool one_in(std::uint64_t times) { return below(times) == 0; }
  Duration between(Duration least, Duration most) {
    auto const width = static_cast<std::uint64_t>((most - least).count());
    return least + Duration(static_cast<std::int64_t>(below(width + 1)));
  }

 private:
  std::uint64_t state_;
};

}  // namespace aether::sim
