// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace aether {
namespace {

struct TimeUnit {
  std::string_view name;
  std::int64_t nanoseconds;
};

// Largest first: the order in which a duration is written.
constexpr std::array kTimeUnits{
    TimeUnit{"d", 86'400'000'000'000},
    TimeUnit{"h", 3'600'000'000'000},
    TimeUnit{"m", 60'000'000'000},
    TimeUnit{"s", 1'000'000'000},
    TimeUnit{"ms", 1'000'000},
    TimeUnit{"us", 1'000},
    TimeUnit{"ns", 1},
};

Failure not_a_duration(std::string_view text, std::string_view reason) {
  return fail(ErrorCode::UsageInvalid,
              fmt::format("\"{}\" is not a duration: {}; write it as 500ms, 30s, 1m30s or 2h", text,
                          reason));
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view take_while(std::string_view& rest, bool (*wanted)(char)) {
  auto const end = std::ranges::find_if_not(rest, wanted);
  std::string_view const taken = rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
  rest.remove_prefix(taken.size());
  return taken;
}

// whole.fraction units in nanoseconds; digits below a nanosecond are cut. Nothing if it overflows.
std::optional<std::int64_t> scale_duration(std::string_view whole, std::string_view fraction,
                                           TimeUnit unit) {
  std::int64_t count = 0;
  if (!whole.empty() &&
      std::from_chars(whole.data(), whole.data() + whole.size(), count).ec != std::errc()) {
    return std::nullopt;
  }
  std::int64_t total = 0;
  if (__builtin_mul_overflow(count, unit.nanoseconds, &total)) return std::nullopt;
  std::int64_t place = unit.nanoseconds;
  for (char const digit : fraction) {
    place /= 10;
    if (__builtin_add_overflow(total, place * (digit - '0'), &total)) return std::nullopt;
  }
  return total;
}

}  // namespace

Instant SystemClock::now() const {
  return std::chrono::steady_clock::now();
}
WallTime SystemClock::wall() const {
  return std::chrono::system_clock::now();
}

Result<Duration> parse_duration(std::string_view text) {
  if (text.empty()) return not_a_duration(text, "it is empty");
  if (text == "0") return Duration::zero();
  std::string_view rest = text;
  std::int64_t total = 0;
  std::int64_t previous_unit = std::numeric_limits<std::int64_t>::max();
  while (!rest.empty()) {
    std::string_view const whole = take_while(rest, is_digit);
    std::string_view fraction;
    if (rest.starts_with('.')) {
      rest.remove_prefix(1);
      fraction = take_while(rest, is_digit);
    }
    if (whole.empty() && fraction.empty()) return not_a_duration(text, "a number is missing");
    std::string_view const name = take_while(rest, [](char c) { return !is_digit(c) && c != '.'; });
    if (name.empty()) return not_a_duration(text, "its unit is missing (ns, us, ms, s, m, h or d)");
    auto const unit = std::ranges::find(kTimeUnits, name == "µs" ? "us" : name, &TimeUnit::name);
    if (unit == kTimeUnits.end())
      return not_a_duration(text, fmt::format("there is no unit \"{}\"", name));
    if (unit->nanoseconds >= previous_unit)
      return not_a_duration(text, "units must go from large to small");
    previous_unit = unit->nanoseconds;
    std::optional<std::int64_t> const part = scale_duration(whole, fraction, *unit);
    if (!part || __builtin_add_overflow(total, *part, &total)) {
      return not_a_duration(text, "it is longer than 292 years");
    }
  }
  return Duration(total);
}

std::string format_duration(Duration duration) {
  if (duration == Duration::zero()) return "0s";
  std::string text = duration < Duration::zero() ? "-" : "";
  // Unsigned, so that the most negative duration has an absolute value.
  auto rest = static_cast<std::uint64_t>(duration.count());
  if (duration < Duration::zero()) rest = 0 - rest;
  for (TimeUnit const& unit : kTimeUnits) {
    std::uint64_t const size = static_cast<std::uint64_t>(unit.nanoseconds);
    if (rest < size) continue;
    text += fmt::format("{}{}", rest / size, unit.name);
    rest %= size;
  }
  return text;
}

std::string humanize(Duration duration) {
  if (duration == Duration::zero()) return "0s";
  double const count = std::abs(static_cast<double>(duration.count()));
  char const* sign = duration < Duration::zero() ? "-" : "";
  if (count < 1000) return fmt::format("{}{:.0f}ns", sign, count);
  for (TimeUnit const& unit : kTimeUnits) {
    double const value = count / static_cast<double>(unit.nanoseconds);
    // 0.9995 of a unit is written as 1.00 of it, not as 1000 of the next smaller one.
    bool const decimal = unit.nanoseconds <= 1'000'000'000;
    if (value < (decimal ? 0.9995 : 1.0)) continue;
    int const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    return fmt::format("{}{:.{}f}{}", sign, value, digits, unit.name);
  }
  return "0s";
}

std::string format_rfc3339(WallTime time) {
  auto const milliseconds = std::chrono::floor<std::chrono::milliseconds>(time);
  auto const seconds = std::chrono::floor<std::chrono::seconds>(milliseconds);
  time_t const epoch = std::chrono::system_clock::to_time_t(seconds);
  tm parts{};
  ::gmtime_r(&epoch, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     (milliseconds - seconds).count());
}

}  // namespace aether
