// SPDX-License-Identifier: Apache-2.0
// RefusalLog: which refusals are worth a line in the log, so that nobody can fill it by asking.
#pragma once
#include <cstdint>
#include <optional>
#include <utility>

#include "base/time.h"

namespace aether::api {

/// Lines in a burst; afterwards one for each kRefusalPause.
inline constexpr std::uint64_t kRefusalBurst = 20;
inline constexpr Duration kRefusalPause = std::chrono::seconds(10);

/// Pure but for the clock, which outlives it.
class RefusalLog {
 public:
  explicit RefusalLog(Clock const& clock) : clock_(clock), since_(clock.now()) {}

  /// Nothing: leave this one out. Else how many were left out before it.
  [[nodiscard]] std::optional<std::uint64_t> next() {
    Instant const now = clock_.now();
    auto const regained = static_cast<std::uint64_t>((now - since_) / kRefusalPause);
    if (regained > 0) {
      used_ = regained >= used_ ? 0 : used_ - regained;
      since_ += static_cast<std::int64_t>(regained) * kRefusalPause;
    }
    if (used_ >= kRefusalBurst) {
      ++left_out_;
      return std::nullopt;
    }
    ++used_;
    return std::exchange(left_out_, 0);
  }

 private:
  Clock const& clock_;
  Instant since_;
  std::uint64_t used_ = 0;
  std::uint64_t left_out_ = 0;
};

}  // namespace aether::api
