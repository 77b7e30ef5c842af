// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>

namespace aether {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};

// In lower case: units are read without regard to case. "" is the bare number.
constexpr std::array kUnits{
    Unit{"", 1},
    Unit{"b", 1},
    Unit{"kb", 1'000},
    Unit{"mb", 1'000'000},
    Unit{"gb", 1'000'000'000},
    Unit{"tb", 1'000'000'000'000},
    Unit{"kib", 1ULL << 10},
    Unit{"mib", 1ULL << 20},
    Unit{"gib", 1ULL << 30},
    Unit{"tib", 1ULL << 40},
    Unit{"ki", 1ULL << 10},
    Unit{"mi", 1ULL << 20},
    Unit{"gi", 1ULL << 30},
    Unit{"ti", 1ULL << 40},
};

Failure refuse(std::string_view text, std::string_view reason) {
  return fail(ErrorCode::UsageInvalid,
              fmt::format("\"{}\" is not a size: {}; write it as 4096, 64KiB, 128MB or 1.5GiB",
                          text, reason));
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view take_digits(std::string_view& rest) {
  auto const end = std::ranges::find_if_not(rest, is_digit);
  std::string_view const taken = rest.substr(0, static_cast<std::size_t>(end - rest.begin()));
  rest.remove_prefix(taken.size());
  return taken;
}

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

// Parts of a byte are cut. Nothing if it overflows.
std::optional<std::uint64_t> scale(std::string_view whole, std::string_view fraction,
                                   std::uint64_t unit) {
  std::uint64_t count = 0;
  if (!whole.empty() &&
      std::from_chars(whole.data(), whole.data() + whole.size(), count).ec != std::errc()) {
    return std::nullopt;
  }
  std::uint64_t total = 0;
  if (__builtin_mul_overflow(count, unit, &total)) return std::nullopt;
  double part = 0;
  double place = 0.1;
  for (char const digit : fraction) {
    part += place * (digit - '0');
    place /= 10;
  }
  // A little more, so that 0.1 KB, which no binary fraction is, gives 100 and not 99.
  auto const extra =
      static_cast<std::uint64_t>(std::floor(part * static_cast<double>(unit) + 1e-3));
  if (__builtin_add_overflow(total, extra, &total)) return std::nullopt;
  return total;
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  std::string_view rest = text;
  std::string_view const whole = take_digits(rest);
  std::string_view fraction;
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    fraction = take_digits(rest);
  }
  if (whole.empty() && fraction.empty()) return refuse(text, "it does not begin with a number");
  if (rest.starts_with(' ')) rest.remove_prefix(1);
  std::string const name = lower_case(rest);
  if (name == "k" || name == "m" || name == "g" || name == "t") {
    return refuse(text, fmt::format("{0} can mean 1000s or 1024s, so say {0}B or {0}iB", rest));
  }
  auto const unit = std::ranges::find(kUnits, name, &Unit::name);
  if (unit == kUnits.end()) return refuse(text, fmt::format("there is no unit \"{}\"", rest));
  std::optional<std::uint64_t> const bytes = scale(whole, fraction, unit->bytes);
  if (!bytes) return refuse(text, "it is larger than 16 EiB");
  return *bytes;
}

std::string humanize_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  constexpr std::array<std::string_view, 6> names{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  // 1023.5 of a unit would be written as 1024 of it: go on to the next.
  while (value >= 1023.5 && unit + 1 < names.size()) {
    value /= 1024;
    ++unit;
  }
  int const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, digits, names.at(unit));
}

}  // namespace aether
