// SPDX-License-Identifier: Apache-2.0
// Time types. Deadlines are Instants on the monotonic clock, which no one can set back.
#pragma once
#include <chrono>
#include <string>

#include "base/result.h"

namespace aether {

using Duration = std::chrono::nanoseconds;
using Instant = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

/// Where time comes from. Passed in by main; tests turn a ManualClock.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual Instant now() const = 0;
  [[nodiscard]] virtual WallTime wall() const = 0;
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] Instant now() const override;
  [[nodiscard]] WallTime wall() const override;
};

class ManualClock final : public Clock {
 public:
  [[nodiscard]] Instant now() const override { return now_; }
  [[nodiscard]] WallTime wall() const override { return WallTime(now_.time_since_epoch()); }
  void advance(Duration by) { now_ += by; }

 private:
  Instant now_{std::chrono::seconds(1)};
};

/// "500ms", "30s", "1h30m", "250us", "1.5s", "2d", "0"; any other bare number is refused (the unit
/// is the point). UsageInvalid says what is wrong. Never negative.
[[nodiscard]] Result<Duration> parse_duration(std::string_view text);
/// The exact form, large units first, as parse_duration takes it: "1h30m", "250us", "0s".
[[nodiscard]] std::string format_duration(Duration duration);
/// For people: three significant digits and one unit: "1.23ms", "45.6s", "2.50h".
[[nodiscard]] std::string humanize(Duration duration);
/// RFC 3339 in UTC with milliseconds: "2026-11-21T03:14:15.926Z".
[[nodiscard]] std::string format_rfc3339(WallTime time);
[[nodiscard]] constexpr double to_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace aether
