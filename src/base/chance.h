// SPDX-License-Identifier: Apache-2.0
// Chance: random numbers for simulations and random tests: the same run for the same seed, on every
// machine and with every standard library. Not for secrets. SplitMix64 (Steele, Lea and Flood,
// "Fast Splittable Pseudorandom Number Generators", 2014).
#pragma once
#include <cstdint>

namespace aether {

class Chance {
 public:
  explicit Chance(std::uint64_t seed) : state_(seed) {}
  /// 0 to end - 1; `end` is not 0.
  std::uint64_t below(std::uint64_t end) {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return (z ^ (z >> 31U)) % end;
  }
  bool one_in(std::uint64_t times) { return below(times) == 0; }

 private:
  std::uint64_t state_;
};

}  // namespace aether
