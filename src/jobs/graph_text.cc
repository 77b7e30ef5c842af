// SPDX-License-Identifier: Apache-2.0
#include "jobs/graph_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "config/yaml_tree.h"
#include "jobs/expand.h"
#include "jobs/graph.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

/// Values of a text once its aliases are written out: the end of alias bombs.
constexpr std::size_t kTextValuesMax = 100'000;

std::string mistake_line(std::string_view name, TextPlace place, std::string_view message) {
  if (place.line == 0) return fmt::format("{}: {}", name, message);
  return fmt::format("{}:{}:{}: {}", name, place.line, place.column, message);
}

class YamlConverter {
 public:
  explicit YamlConverter(GraphText& result) : result_(result) {}

  /// Nothing if there are too many values.
  std::optional<json::value> convert(config::Node const& node, std::string const& pointer) {
    if (++values_ > kTextValuesMax) return std::nullopt;
    result_.values.emplace(pointer, TextPlace{node.place.line, node.place.column});
    switch (node.kind) {
      case config::Node::Kind::Null:
        return json::value();
      case config::Node::Kind::Scalar:
        return node.quoted ? json::value(json::string(node.text)) : value_of_scalar(node.text);
      case config::Node::Kind::List:
        return list(node, pointer);
      case config::Node::Kind::Map:
        return map(node, pointer);
    }
    return std::nullopt;
  }

 private:
  std::optional<json::value> list(config::Node const& node, std::string const& pointer) {
    json::array array;
    for (config::Node const* item : node.items) {
      auto value = convert(*item, pointer + "/" + std::to_string(array.size()));
      if (!value) return std::nullopt;
      array.push_back(std::move(*value));
    }
    return json::value(std::move(array));
  }
  std::optional<json::value> map(config::Node const& node, std::string const& pointer) {
    json::object object;
    for (config::Node::Entry const& entry : node.entries) {
      std::string const place = pointer + "/" + pointer_token(entry.key);
      result_.keys.emplace(place, TextPlace{entry.place.line, entry.place.column});
      auto value = convert(*entry.value, place);
      if (!value) return std::nullopt;
      object[entry.key] = std::move(*value);
    }
    return json::value(std::move(object));
  }

  GraphText& result_;
  std::size_t values_ = 0;
};

Result<GraphText> read_yaml(std::string_view text, std::string_view name) {
  auto const tree = config::Tree::parse(text);
  if (!tree) {
    config::Remark const& remark = tree.error();
    bool const empty = remark.message.starts_with("the file is empty");
    return fail(ErrorCode::RequestInvalid,
                mistake_line(name, {remark.place.line, remark.place.column},
                             empty ? "the graph is empty; it needs nodes:" : remark.message));
  }
  std::string lines;
  for (config::Remark const& remark : tree->mistakes()) {
    lines += lines.empty() ? "" : "\n";
    lines += mistake_line(name, {remark.place.line, remark.place.column}, remark.message);
  }
  if (!lines.empty()) return fail(ErrorCode::RequestInvalid, lines);
  GraphText result;
  auto value = YamlConverter(result).convert(tree->root(), {});
  if (!value) {
    return fail(
        ErrorCode::RequestInvalid,
        fmt::format("{}: more than {} values; the graph is too large", name, kTextValuesMax));
  }
  result.value = std::move(*value);
  return result;
}

/// Finds the places in a text that is known to be JSON: so it only has to know where strings end.
class JsonPlaces {
 public:
  JsonPlaces(std::string_view text, GraphText& result) : text_(text), result_(result) {}

  void value(std::string const& pointer) {
    space();
    result_.values.emplace(pointer, place());
    char const c = text_[at_];
    if (c == '{')
      object(pointer);
    else if (c == '[')
      array(pointer);
    else if (c == '"')
      static_cast<void>(string());
    else
      at_ = std::min(text_.find_first_of(",]} \t\r\n", at_), text_.size());
  }

  [[nodiscard]] std::vector<std::pair<TextPlace, std::string>> const& twice() const {
    return twice_;
  }

 private:
  void space() {
    for (; at_ < text_.size() &&
           std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos;
         ++at_) {
      if (text_[at_] != '\n') continue;
      ++line_;
      line_begin_ = at_ + 1;
    }
  }
  [[nodiscard]] TextPlace place() const { return {line_, static_cast<int>(at_ - line_begin_) + 1}; }
  std::string string() {
    std::size_t const begin = at_++;
    while (text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    ++at_;
    auto const parsed = parse_json(text_.substr(begin, at_ - begin), "key");
    return parsed ? text_of_value(*parsed) : std::string();
  }
  void object(std::string const& pointer) {
    ++at_;
    space();
    while (text_[at_] != '}') {
      TextPlace const where = place();
      std::string const key = string();
      std::string const inner = pointer + "/" + pointer_token(key);
      if (!result_.keys.emplace(inner, where).second) twice_.emplace_back(where, key);
      space();
      ++at_;  // the colon
      value(inner);
      next();
    }
    ++at_;
  }
  void array(std::string const& pointer) {
    ++at_;
    space();
    for (std::size_t i = 0; text_[at_] != ']'; ++i) {
      value(pointer + "/" + std::to_string(i));
      next();
    }
    ++at_;
  }
  void next() {
    space();
    if (text_[at_] == ',') ++at_;
    space();
  }

  std::string_view text_;
  GraphText& result_;
  std::size_t at_ = 0;
  std::size_t line_begin_ = 0;
  int line_ = 1;
  std::vector<std::pair<TextPlace, std::string>> twice_;
};

Result<GraphText> read_json(std::string_view text, std::string_view name) {
  GraphText result;
  TRY_ASSIGN(result.value, parse_json(text, name));
  JsonPlaces places(text, result);
  places.value({});
  std::string lines;
  for (auto const& [place, key] : places.twice()) {
    lines += lines.empty() ? "" : "\n";
    lines += mistake_line(name, place, fmt::format("the key \"{}\" is given twice", key));
  }
  if (!lines.empty()) return fail(ErrorCode::RequestInvalid, lines);
  return result;
}

template <class Number>
std::optional<Number> whole_number(std::string_view text) {
  Number number{};
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

json::value value_of_scalar(std::string_view text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return {};
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  auto const is_digit = [](char c) { return c >= '0' && c <= '9'; };
  bool const numeric = is_digit(text.front()) ||
                       (text.size() > 1 && text.front() == '-' && is_digit(text[1])) ||
                       (text.size() > 1 && text.front() == '.' && is_digit(text[1]));
  if (numeric) {
    // A leading zero is kept as text: it is a name or a code, and no number of JSON.
    bool const padded = text.size() > 1 && text.front() == '0' && is_digit(text[1]);
    if (auto const whole = whole_number<std::int64_t>(text); whole && !padded) return *whole;
    auto const real = padded ? std::nullopt : whole_number<double>(text);
    if (real && std::isfinite(*real)) return *real;
  }
  return json::value(json::string(text));
}

TextPlace GraphText::place_of(GraphMistake const& mistake) const {
  std::string pointer = mistake.pointer;
  if (mistake.at_key) {
    auto const key = keys.find(pointer);
    if (key != keys.end()) return key->second;
  }
  while (true) {
    auto const value = values.find(pointer);
    if (value != values.end()) return value->second;
    auto const slash = pointer.rfind('/');
    if (slash == std::string::npos) return {};
    pointer.resize(slash);
  }
}

Result<GraphText> read_graph_text(std::string_view text, std::string_view name) {
  auto const first = text.find_first_not_of(" \t\r\n");
  bool const is_json =
      first != std::string_view::npos && (text[first] == '{' || text[first] == '[');
  return is_json ? read_json(text, name) : read_yaml(text, name);
}

Result<json::value> load_graph_text(std::string_view text, std::string_view name) {
  TRY_ASSIGN(GraphText read, read_graph_text(text, name));
  GraphMistakes mistakes;
  static_cast<void>(read_graph(read.value, mistakes));
  if (mistakes.empty()) return std::move(read.value);
  std::vector<std::pair<TextPlace, std::string_view>> placed;
  for (GraphMistake const& mistake : mistakes.all())
    placed.emplace_back(read.place_of(mistake), mistake.message);
  std::ranges::sort(placed, [](auto const& a, auto const& b) {
    return std::tuple(a.first.line, a.first.column, a.second) <
           std::tuple(b.first.line, b.first.column, b.second);
  });
  std::string lines;
  for (std::size_t i = 0; i < placed.size() && i < kGraphMistakesMax; ++i) {
    lines += i == 0 ? "" : "\n";
    lines += mistake_line(name, placed[i].first, placed[i].second);
  }
  if (placed.size() > kGraphMistakesMax)
    lines += fmt::format("\nand {} more mistakes", placed.size() - kGraphMistakesMax);
  return fail(ErrorCode::RequestInvalid, lines);
}

}  // namespace aether::jobs
