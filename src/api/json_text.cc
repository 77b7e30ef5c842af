// SPDX-License-Identifier: Apache-2.0
#include "api/json_text.h"

#include <cmath>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace aether::api {
namespace {

namespace json = boost::json;

/// The shortest digits that are the same number again; as an exponent only what is not for reading
/// (over 1e16 or under 1e-4).
std::string number_text(double number) {
  return std::isfinite(number) ? fmt::format("{}", number) : "null";
}

void append(std::string& text, json::value const& value);

void append(std::string& text, json::object const& object) {
  char before = '{';
  for (auto const& [key, value] : object) {
    text += before;
    text += json::serialize(json::string_view(key));
    text += ':';
    append(text, value);
    before = ',';
  }
  text += object.empty() ? "{}" : "}";
}

void append(std::string& text, json::array const& array) {
  char before = '[';
  for (json::value const& value : array) {
    text += before;
    append(text, value);
    before = ',';
  }
  text += array.empty() ? "[]" : "]";
}

void append(std::string& text, json::value const& value) {
  switch (value.kind()) {
    case json::kind::object:
      return append(text, value.get_object());
    case json::kind::array:
      return append(text, value.get_array());
    case json::kind::double_:
      text += number_text(value.get_double());
      return;
    default:
      text += json::serialize(value);
  }
}

}  // namespace

std::string json_text(json::value const& value) {
  std::string text;
  append(text, value);
  return text;
}

}  // namespace aether::api
