// SPDX-License-Identifier: Apache-2.0
// AETHER_CHECK: for bugs only. On in every build; says what it saw and ends the process.
#pragma once
#include <string_view>

#include <fmt/core.h>

namespace aether::detail {
[[noreturn]] void check_failed(char const* condition, char const* file, int line,
                               std::string_view context);
}  // namespace aether::detail

/// AETHER_CHECK(condition) or AETHER_CHECK(condition, "format {}", values...).
#define AETHER_CHECK(condition, ...)                                 \
  do {                                                               \
    if (!(condition)) [[unlikely]]                                   \
      ::aether::detail::check_failed(#condition, __FILE__, __LINE__, \
                                     ::fmt::format("" __VA_ARGS__)); \
  } while (false)
