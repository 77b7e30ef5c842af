// SPDX-License-Identifier: Apache-2.0
#include "config/timetable.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <string>

#include <fmt/format.h>

namespace aether::config {
namespace {

/// February 29th may be eight years away (2096 to 2104).
constexpr std::chrono::days kFarthest{8 * 366};

struct CronField {
  std::string_view name;
  int min;
  int max;
};
constexpr std::array kCronFields{CronField{"minute", 0, 59}, CronField{"hour", 0, 23},
                                 CronField{"day of the month", 1, 31}, CronField{"month", 1, 12},
                                 CronField{"day of the week", 0, 7}};

std::optional<int> whole_number(std::string_view text) {
  int number = 0;
  auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// What is before the separator; `text` becomes what is after it.
std::string_view cut(std::string_view& text, char separator) {
  std::size_t const end = std::min(text.find(separator), text.size());
  std::string_view const part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

/// "*", "5", "1-5", each with "/STEP".
template <std::size_t N>
bool add_part(std::string_view part, CronField const& field, std::bitset<N>& bits) {
  std::string_view step_text = part;
  std::string_view range = cut(step_text, '/');
  bool const stepped = part.contains('/');
  auto const step = stepped ? whole_number(step_text) : 1;
  if (!step || *step < 1) return false;
  int first = field.min;
  int last = field.max;
  if (range != "*") {
    bool const is_range = range.contains('-');
    auto const from = whole_number(cut(range, '-'));
    auto const to = is_range ? whole_number(range) : from;
    if (!from || !to || *from < field.min || *to > field.max || *from > *to) return false;
    first = *from;
    last = stepped && !is_range ? field.max : *to;
  }
  for (int i = first; i <= last; i += *step) bits.set(static_cast<std::size_t>(i));
  return true;
}

template <std::size_t N>
Status add_field(std::string_view text, CronField const& field, std::bitset<N>& bits) {
  std::string_view rest = text;
  bool good = !text.empty();
  while (good && !rest.empty()) good = add_part(cut(rest, ','), field, bits);
  if (good && !text.ends_with(',')) return {};
  return fail(ErrorCode::UsageInvalid,
              fmt::format("the {} \"{}\" is not *, a number from {} to {}, a range, a list or a "
                          "step of them",
                          field.name, text, field.min, field.max));
}

}  // namespace

Result<Timetable> Timetable::cron(std::string_view text) {
  std::array<std::string_view, kCronFields.size()> fields;
  std::size_t count = 0;
  while (!text.empty()) {
    std::string_view const field = cut(text, ' ');
    if (field.empty()) continue;
    if (count == fields.size()) count = fields.size() + 1;
    if (count < fields.size()) fields[count++] = field;
    if (count > fields.size()) break;
  }
  if (count != fields.size()) {
    return fail(ErrorCode::UsageInvalid,
                "a cron text has five fields: minute, hour, day of the month, month, day of the "
                "week");
  }
  Timetable table;
  TRY(add_field(fields[0], kCronFields[0], table.minutes_));
  TRY(add_field(fields[1], kCronFields[1], table.hours_));
  TRY(add_field(fields[2], kCronFields[2], table.days_));
  TRY(add_field(fields[3], kCronFields[3], table.months_));
  TRY(add_field(fields[4], kCronFields[4], table.weekdays_));
  if (table.weekdays_[7]) table.weekdays_.set(0);
  table.any_day_ = fields[2].starts_with('*');
  table.any_weekday_ = fields[4].starts_with('*');
  return table;
}

Timetable Timetable::every(Duration period) {
  Timetable table;
  table.period_ = period;
  return table;
}

bool Timetable::is_day(std::chrono::sys_days day) const {
  std::chrono::year_month_day const date(day);
  if (!months_[static_cast<unsigned>(date.month())]) return false;
  bool const by_day = days_[static_cast<unsigned>(date.day())];
  bool const by_weekday = weekdays_[std::chrono::weekday(day).c_encoding()];
  // Two limits are alternatives; one alone decides (man 5 crontab).
  if (any_day_ || any_weekday_) return by_day && by_weekday;
  return by_day || by_weekday;
}

std::optional<WallTime> Timetable::next_after(WallTime time) const {
  using namespace std::chrono;
  if (period_ > Duration::zero()) {
    auto const since = duration_cast<Duration>(time.time_since_epoch());
    return WallTime(duration_cast<WallTime::duration>((since / period_ + 1) * period_));
  }
  auto const from = floor<minutes>(time) + minutes(1);
  sys_days const first = floor<days>(from);
  for (sys_days day = first; day < first + kFarthest; day += days(1)) {
    if (!is_day(day)) continue;
    for (auto at = day == first ? from : time_point_cast<minutes>(day); at < day + days(1);
         at += minutes(1)) {
      auto const minute = static_cast<std::size_t>((at - day).count());
      if (hours_[minute / 60] && minutes_[minute % 60]) return WallTime(at);
    }
  }
  return std::nullopt;
}

}  // namespace aether::config
