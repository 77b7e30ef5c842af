// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <vector>

#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/parse_options.hpp>
#include <boost/json/value_stack.hpp>
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

/// Builds a value, with each number that has a fraction or an exponent read from its own digits:
/// Boost.JSON 1.81 rounds them only nearly right, and what is hashed must read as it was written.
class ExactHandler {
 public:
  static constexpr std::size_t max_object_size = std::size_t(-1);
  static constexpr std::size_t max_array_size = std::size_t(-1);
  static constexpr std::size_t max_key_size = std::size_t(-1);
  static constexpr std::size_t max_string_size = std::size_t(-1);

  bool on_document_begin(json::error_code& /*error*/) {
    stack_.reset();
    return true;
  }
  bool on_document_end(json::error_code& /*error*/) { return true; }
  bool on_object_begin(json::error_code& /*error*/) { return true; }
  bool on_object_end(std::size_t count, json::error_code& /*error*/) {
    stack_.push_object(count);
    return true;
  }
  bool on_array_begin(json::error_code& /*error*/) { return true; }
  bool on_array_end(std::size_t count, json::error_code& /*error*/) {
    stack_.push_array(count);
    return true;
  }
  bool on_key_part(json::string_view text, std::size_t /*all*/, json::error_code& /*error*/) {
    stack_.push_chars(text);
    return true;
  }
  bool on_key(json::string_view text, std::size_t /*all*/, json::error_code& /*error*/) {
    stack_.push_key(text);
    return true;
  }
  bool on_string_part(json::string_view text, std::size_t /*all*/, json::error_code& /*error*/) {
    stack_.push_chars(text);
    return true;
  }
  bool on_string(json::string_view text, std::size_t /*all*/, json::error_code& /*error*/) {
    stack_.push_string(text);
    return true;
  }
  bool on_number_part(json::string_view text, json::error_code& /*error*/) {
    digits_ += std::string_view(text.data(), text.size());
    return true;
  }
  bool on_int64(std::int64_t number, json::string_view /*text*/, json::error_code& /*error*/) {
    digits_.clear();
    stack_.push_int64(number);
    return true;
  }
  bool on_uint64(std::uint64_t number, json::string_view /*text*/, json::error_code& /*error*/) {
    digits_.clear();
    stack_.push_uint64(number);
    return true;
  }
  bool on_double(double nearly, json::string_view text, json::error_code& error) {
    digits_ += std::string_view(text.data(), text.size());
    double exact = nearly;
    std::from_chars(digits_.data(), digits_.data() + digits_.size(), exact);
    digits_.clear();
    if (!std::isfinite(exact)) {
      error = json::error::exponent_overflow;
      return false;
    }
    stack_.push_double(exact);
    return true;
  }
  bool on_bool(bool value, json::error_code& /*error*/) {
    stack_.push_bool(value);
    return true;
  }
  bool on_null(json::error_code& /*error*/) {
    stack_.push_null();
    return true;
  }
  bool on_comment_part(json::string_view /*text*/, json::error_code& /*error*/) { return true; }
  bool on_comment(json::string_view /*text*/, json::error_code& /*error*/) { return true; }

  json::value release() { return stack_.release(); }

 private:
  json::value_stack stack_;
  std::string digits_;  ///< Of the number that is being read.
};

}  // namespace

std::string canonical_json(json::value const& value) {
  std::string text;
  append_value(text, value);
  return text;
}

Result<json::value> parse_json(std::string_view text, std::string_view what) {
  json::parse_options options;
  options.max_depth = kJsonDepthMax;
  json::basic_parser<ExactHandler> parser(options);
  json::error_code error;
  std::size_t const used = parser.write_some(false, text.data(), text.size(), error);
  if (!error && used < text.size())
    return mistake_at(text, used, what, "something follows the value");
  if (error) return mistake_at(text, used, what, error.message());
  return parser.handler().release();
}

}  // namespace aether
