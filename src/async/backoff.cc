// SPDX-License-Identifier: Apache-2.0
#include "async/backoff.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace aether::async {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to keep clients from retrying in
// step.
std::uint64_t next_random(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = state;
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31U);
}

// In [0, 1).
double next_unit(std::uint64_t& state) {
  return static_cast<double>(next_random(state) >> 11U) * 0x1.0p-53;
}

}  // namespace

Backoff::Backoff(BackoffPolicy policy, std::uint64_t seed) : policy_(policy), random_(seed) {
  AETHER_CHECK(policy.min >= Duration::zero() && policy.max >= policy.min);
  AETHER_CHECK(policy.factor >= 1.0 && policy.jitter >= 0.0 && policy.jitter <= 1.0);
}

Duration Backoff::next() {
  double const max = static_cast<double>(policy_.max.count());
  double const grown =
      static_cast<double>(policy_.min.count()) * std::pow(policy_.factor, attempts_);
  // Infinity ends here as well.
  double const wait = std::min(grown, max) * (1.0 - (policy_.jitter * next_unit(random_)));
  if (attempts_ < UINT32_MAX) ++attempts_;
  // The largest Duration, as a double, does not fit into one.
  return wait >= max ? policy_.max : Duration(static_cast<Duration::rep>(wait));
}

}  // namespace aether::async
