// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <vector>

#include <boost/json/parse_options.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/stream_parser.hpp>
#include <fmt/format.h>

namespace aether {
namespace {

namespace json = boost::json;

/// ECMA-262 Number::toString: the shortest digits that read as the same number; an exponent below
/// 1e-6 and from 1e21 on.
void append_number(std::string& text, double number) {
  if (!std::isfinite(number)) {
    text += "null";
    return;
  }
  if (number == 0) {
    text += '0';  // of -0 as well
    return;
  }
  std::array<char, 32> buffer{};
  auto const end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), std::abs(number),
                                 std::chars_format::scientific)
                       .ptr;
  std::string_view const scientific(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
  auto const e = scientific.find('e');
  std::string digits(1, scientific[0]);
  if (e > 2) digits += scientific.substr(2, e - 2);
  int exponent = 0;
  auto const sign = scientific[e + 1];
  std::from_chars(scientific.data() + e + 2, scientific.data() + scientific.size(), exponent);
  if (sign == '-') exponent = -exponent;
  int const count = static_cast<int>(digits.size());
  int const point = exponent + 1;  // Where the point stands, counted from the first digit.
  if (number < 0) text += '-';
  if (point > 21 || point < -5) {
    text += digits[0];
    if (count > 1) text += '.' + digits.substr(1);
    text += fmt::format("e{}{}", exponent < 0 ? '-' : '+', std::abs(exponent));
  } else if (point <= 0) {
    text += "0." + std::string(static_cast<std::size_t>(-point), '0') + digits;
  } else if (count <= point) {
    text += digits + std::string(static_cast<std::size_t>(point - count), '0');
  } else {
    auto const whole = static_cast<std::size_t>(point);
    text += digits.substr(0, whole) + '.' + digits.substr(whole);
  }
}

void append_integer(std::string& text, bool negative, std::uint64_t magnitude) {
  // Beyond 2^53 ECMAScript has no integers: it would write the nearest double.
  if (magnitude <= (std::uint64_t{1} << 53U))
    text += fmt::format("{}{}", negative ? "-" : "", magnitude);
  else
    append_number(text,
                  negative ? -static_cast<double>(magnitude) : static_cast<double>(magnitude));
}

void append_string(std::string& text, std::string_view string) {
  text += '"';
  for (char const c : string) {
    switch (c) {
      case '"':
        text += "\\\"";
        break;
      case '\\':
        text += "\\\\";
        break;
      case '\b':
        text += "\\b";
        break;
      case '\f':
        text += "\\f";
        break;
      case '\n':
        text += "\\n";
        break;
      case '\r':
        text += "\\r";
        break;
      case '\t':
        text += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20U)
          text += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        else
          text += c;
    }
  }
  text += '"';
}

/// Orders UTF-8 as its UTF-16 code units would be: surrogates stand before U+E000 to U+FFFF, so
/// that four-byte characters come before three-byte ones that begin with 0xEE or 0xEF.
bool before_in_utf16(std::string_view a, std::string_view b) {
  auto const [x, y] = std::ranges::mismatch(a, b);
  if (x == a.end() || y == b.end()) return x == a.end() && y != b.end();
  auto const weight = [](char c) {
    auto const byte = static_cast<unsigned char>(c);
    return byte >= 0xF0U ? 0xEDU * 2U + 1U : byte * 2U;
  };
  return weight(*x) < weight(*y);
}

void append_value(std::string& text, json::value const& value);

void append_object(std::string& text, json::object const& object) {
  std::vector<json::object::const_iterator> members;
  members.reserve(object.size());
  for (auto it = object.begin(); it != object.end(); ++it) members.push_back(it);
  std::ranges::sort(members, [](auto a, auto b) { return before_in_utf16(a->key(), b->key()); });
  text += '{';
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (i > 0) text += ',';
    append_string(text, members[i]->key());
    text += ':';
    append_value(text, members[i]->value());
  }
  text += '}';
}

void append_value(std::string& text, json::value const& value) {
  switch (value.kind()) {
    case json::kind::null:
      text += "null";
      return;
    case json::kind::bool_:
      text += value.get_bool() ? "true" : "false";
      return;
    case json::kind::int64: {
      auto const number = value.get_int64();
      auto const bits = static_cast<std::uint64_t>(number);
      append_integer(text, number < 0, number < 0 ? 0 - bits : bits);
      return;
    }
    case json::kind::uint64:
      append_integer(text, false, value.get_uint64());
      return;
    case json::kind::double_:
      append_number(text, value.get_double());
      return;
    case json::kind::string:
      append_string(text, value.get_string());
      return;
    case json::kind::array: {
      text += '[';
      bool first = true;
      for (auto const& element : value.get_array()) {
        if (!first) text += ',';
        first = false;
        append_value(text, element);
      }
      text += ']';
      return;
    }
    case json::kind::object:
      append_object(text, value.get_object());
  }
}

Failure mistake_at(std::string_view text, std::size_t offset, std::string_view what,
                   std::string_view mistake) {
  auto const before = text.substr(0, std::min(offset, text.size()));
  auto const line = std::ranges::count(before, '\n') + 1;
  auto const last = before.rfind('\n');
  auto const column = before.size() - (last == std::string_view::npos ? 0 : last + 1) + 1;
  return fail(ErrorCode::RequestInvalid,
              fmt::format("{}:{}:{}: not JSON: {}", what, line, column, mistake));
}

}  // namespace

std::string canonical_json(json::value const& value) {
  std::string text;
  append_value(text, value);
  return text;
}

Result<json::value> parse_json(std::string_view text, std::string_view what) {
  json::parse_options options;
  options.max_depth = kJsonDepthMax;
  json::stream_parser parser({}, options);
  json::error_code error;
  std::size_t const used = parser.write_some(text.data(), text.size(), error);
  if (!error && used < text.size()) {
    auto const rest = text.find_first_not_of(" \t\r\n", used);
    if (rest != std::string_view::npos)
      return mistake_at(text, rest, what, "something follows the value");
  }
  if (!error) parser.finish(error);
  if (error) return mistake_at(text, used, what, error.message());
  return parser.release();
}

}  // namespace aether
