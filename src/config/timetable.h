// SPDX-License-Identifier: Apache-2.0
// Timetable: when a schedule is due. In UTC, so that no hour of the year is missing or there twice.
// Pure.
#pragma once
#include <bitset>
#include <chrono>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace aether::config {

class Timetable {
 public:
  /// Five fields (man 5 crontab): minute, hour, day of the month, month, day of the week; each `*`,
  /// numbers, ranges, lists and steps: "*/15 8-18 * * 1-5". UsageInvalid names the field.
  static Result<Timetable> cron(std::string_view text);
  /// At each whole multiple since 1970, so that a restart moves nothing.
  static Timetable every(Duration period);

  /// The first time after `time`; nothing if there is none within eight years (February 30th).
  [[nodiscard]] std::optional<WallTime> next_after(WallTime time) const;

 private:
  [[nodiscard]] bool is_day(std::chrono::sys_days day) const;

  Duration period_{};
  std::bitset<60> minutes_;
  std::bitset<24> hours_;
  std::bitset<32> days_;
  std::bitset<13> months_;
  std::bitset<8> weekdays_;
  bool any_day_ = true, any_weekday_ = true;
};

}  // namespace aether::config
