// SPDX-License-Identifier: Apache-2.0
// Inside of this room: the characters of HTTP, which are ASCII whatever the locale says.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string_view>

namespace aether::http {

[[nodiscard]] constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

[[nodiscard]] constexpr bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, to_lower, to_lower);
}

[[nodiscard]] constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

[[nodiscard]] constexpr bool is_alphanumeric(char c) {
  return is_digit(c) || (to_lower(c) >= 'a' && to_lower(c) <= 'z');
}

/// RFC 9110, 5.6.2: what methods and field names are made of.
[[nodiscard]] constexpr bool is_token(std::string_view text) {
  auto const allowed = [](char c) {
    return is_alphanumeric(c) || std::string_view("!#$%&'*+-.^_`|~").contains(c);
  };
  return !text.empty() && std::ranges::all_of(text, allowed);
}

/// RFC 9110, 5.5: no control characters but the tab. CR and LF would end the field.
[[nodiscard]] constexpr bool is_field_value(std::string_view text) {
  auto const allowed = [](char c) {
    auto const byte = static_cast<unsigned char>(c);
    return c == '\t' || (byte >= 0x20 && byte != 0x7f);
  };
  return std::ranges::all_of(text, allowed);
}

/// Visible ASCII: what a request target is made of.
[[nodiscard]] constexpr bool is_visible(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace aether::http
