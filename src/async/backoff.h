// SPDX-License-Identifier: Apache-2.0
// Backoff: how long to wait before the next attempt. Pure: no clock, and its randomness is a seed.
#pragma once
#include <chrono>
#include <cstdint>

#include "base/time.h"

namespace aether::async {

struct BackoffPolicy {
  Duration min = std::chrono::milliseconds(100);  ///< The first wait, before jitter.
  Duration max = std::chrono::seconds(30);        ///< No wait is longer, jitter included.
  double factor = 2.0;                            ///< Growth per attempt, at least 1.
  double jitter = 0.2;  ///< Each wait is shortened by up to this share (0..1).
  friend bool operator==(BackoffPolicy const&, BackoffPolicy const&) = default;
};

/// The same policy and seed give the same waits.
class Backoff {
 public:
  Backoff(BackoffPolicy policy, std::uint64_t seed);

  /// The wait before the next attempt; each call is one failed attempt.
  [[nodiscard]] Duration next();
  /// After a success.
  void reset() { attempts_ = 0; }
  [[nodiscard]] std::uint32_t attempts() const { return attempts_; }

 private:
  BackoffPolicy policy_;
  std::uint64_t random_;
  std::uint32_t attempts_ = 0;
};

}  // namespace aether::async
