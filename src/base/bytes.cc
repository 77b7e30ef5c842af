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

struct SizeUnit {
  std::string_view name;
  std::uint64_t bytes;
};

// In lower case: units are read without regard to case. "" is the bare number.
constexpr std::array kSizeUnits{
    SizeUnit{"", 1},
    SizeUnit{"b", 1},
    SizeUnit{"kb", 1'000},
    SizeUnit{"mb", 1'000'000},
    SizeUnit{"gb", 1'000'000'000},
    SizeUnit{"tb", 1'000'000'000'000},
    SizeUnit{"kib", 1ULL << 10},
    SizeUnit{"mib", 1ULL << 20},
    SizeUnit{"gib", 1ULL << 30},
    SizeUnit{"tib", 1ULL << 40},
    SizeUnit{"ki", 1ULL << 10},
    SizeUnit{"mi", 1ULL << 20},
    SizeUnit{"gi", 1ULL << 30},
    SizeUnit{"ti", 1ULL << 40},
};

Failure not_a_size(std::string_view text, std::string_view reason) {
  return fail(ErrorCode::UsageInvalid,
              fmt::format("\"{}\" is not a size: {}; write it as 4096, 64KiB, 128MB or 1.5GiB",
                          text, reason));
}

bool is_decimal(char c) {
  return c >= '0' && c <= '9';
}

std::string_view take_digits(std::string_view& rest) {
  auto const end = std::ranges::find_if_not(rest, is_decimal);
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
std::optional<std::uint64_t> scale_size(std::string_view whole, std::string_view fraction,
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
  if (whole.empty() && fraction.empty()) return not_a_size(text, "it does not begin with a number");
  if (rest.starts_with(' ')) rest.remove_prefix(1);
  std::string const name = lower_case(rest);
  if (name == "k" || name == "m" || name == "g" || name == "t") {
    return not_a_size(text, fmt::format("{0} can mean 1000s or 1024s, so say {0}B or {0}iB", rest));
  }
  auto const unit = std::ranges::find(kSizeUnits, name, &SizeUnit::name);
  if (unit == kSizeUnits.end())
    return not_a_size(text, fmt::format("there is no unit \"{}\"", rest));
  std::optional<std::uint64_t> const bytes = scale_size(whole, fraction, unit->bytes);
  if (!bytes) return not_a_size(text, "it is larger than 16 EiB");
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
