// SPDX-License-Identifier: Apache-2.0
#include "config/yaml_json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "config/limits.h"

namespace aether::config {
namespace {

void append_text(std::string& json, std::string_view text) {
  json += '"';
  for (char const c : text) {
    auto const code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (code < 0x20) {
      json += fmt::format("\\u{:04x}", code);
    } else {
      json += c;
    }
  }
  json += '"';
}

/// A number as JSON writes it; empty if the text is none.
std::string number_of(std::string_view text) {
  std::string_view digits = text.starts_with('+') ? text.substr(1) : text;
  std::string_view const unsigned_part = digits.starts_with('-') ? digits.substr(1) : digits;
  bool const plain = !unsigned_part.empty() && unsigned_part.front() >= '0' &&
                     unsigned_part.front() <= '9' &&
                     digits.find_first_not_of("0123456789+-.eE") == std::string_view::npos;
  if (!plain) return {};
  std::int64_t whole = 0;
  auto const [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), whole);
  if (failed == std::errc{} && end == digits.data() + digits.size())
    return fmt::format("{}", whole);
  double real = 0;
  auto const [stop, wrong] = std::from_chars(digits.data(), digits.data() + digits.size(), real);
  if (wrong != std::errc{} || stop != digits.data() + digits.size()) return {};
  return std::isfinite(real) ? fmt::format("{}", real) : std::string();
}

void append_scalar(std::string& json, Node const& node) {
  constexpr std::array<std::string_view, 4> kNulls{"null", "Null", "NULL", "~"};
  constexpr std::array<std::string_view, 3> kTrue{"true", "True", "TRUE"};
  constexpr std::array<std::string_view, 3> kFalse{"false", "False", "FALSE"};
  auto const is_one = [&](auto const& words) {
    return std::ranges::find(words, node.text) != words.end();
  };
  if (node.quoted) {
    append_text(json, node.text);
  } else if (is_one(kNulls)) {
    json += "null";
  } else if (is_one(kTrue)) {
    json += "true";
  } else if (is_one(kFalse)) {
    json += "false";
  } else if (std::string const number = number_of(node.text); !number.empty()) {
    json += number;
  } else {
    append_text(json, node.text);
  }
}

/// False: more than may be.
bool append(std::string& json, Node const& node) {
  if (json.size() > kExpandedBytesMax) return false;
  char const* between = "";
  switch (node.kind) {
    case Node::Kind::Null:
      json += "null";
      return true;
    case Node::Kind::Scalar:
      append_scalar(json, node);
      return true;
    case Node::Kind::List:
      json += '[';
      for (Node const* const item : node.items) {
        json += std::exchange(between, ",");
        if (!append(json, *item)) return false;
      }
      json += ']';
      return true;
    case Node::Kind::Map:
      json += '{';
      for (Node::Entry const& entry : node.entries) {
        json += std::exchange(between, ",");
        append_text(json, entry.key);
        json += ':';
        if (!append(json, *entry.value)) return false;
      }
      json += '}';
      return true;
  }
  return true;
}

Failure refuse_at(std::string_view name, Remark const& remark) {
  return fail(ErrorCode::RequestInvalid, fmt::format("{}:{}:{}: {}", name, remark.place.line,
                                                     remark.place.column, remark.message));
}

}  // namespace

std::optional<std::string> json_of(Node const& node) {
  std::string json;
  if (!append(json, node)) return std::nullopt;
  return json;
}

Result<std::string> yaml_to_json(std::string_view text, std::string_view name) {
  auto const tree = Tree::parse(text);
  if (!tree) return refuse_at(name, tree.error());
  if (!tree->mistakes().empty()) return refuse_at(name, tree->mistakes().front());
  std::optional<std::string> json = json_of(tree->root());
  if (!json) return fail(ErrorCode::RequestInvalid, fmt::format("{}: its aliases never end", name));
  return std::move(*json);
}

}  // namespace aether::config
