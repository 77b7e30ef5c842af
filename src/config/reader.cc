// SPDX-License-Identifier: Apache-2.0
#include "config/reader.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "base/bytes.h"
#include "config/limits.h"

namespace aether::config {
namespace {

constexpr Duration kDurationMax = std::chrono::hours(24 * 30);

bool is_name_start(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

// The variable at the start of `rest`, which begins with "${". Takes it from `rest`.
Result<std::string> expand_one(std::string_view& rest, Environment const& environment) {
  std::size_t const end = rest.find('}');
  std::string_view const whole = rest.substr(0, end == std::string_view::npos ? end : end + 1);
  auto const refuse = [&](std::string_view reason) {
    return fail(ErrorCode::ConfigInvalid,
                fmt::format("{} {}; write $${} if it is not meant for Aether", whole.substr(0, 60),
                            reason, whole.substr(1, 59)));
  };
  if (end == std::string_view::npos) return refuse("has no closing \"}\"");
  std::string_view const inside = rest.substr(2, end - 2);
  rest.remove_prefix(end + 1);
  std::size_t const colon = inside.find(":-");
  std::string_view const name = inside.substr(0, colon);
  bool const is_name =
      !name.empty() && is_name_start(name[0]) &&
      std::ranges::all_of(name, [](char c) { return is_name_start(c) || (c >= '0' && c <= '9'); });
  if (!is_name) return refuse("is not a variable: ${NAME} or ${NAME:-default} is");
  auto const found = environment.find(name);
  bool const has_default = colon != std::string_view::npos;
  // As in a shell, ":-" also stands in for a variable that is set but empty.
  if (found != environment.end() && !(has_default && found->second.empty())) return found->second;
  if (has_default) return std::string(inside.substr(colon + 2));
  return fail(
      ErrorCode::ConfigInvalid,
      fmt::format("the environment variable {0} is not set; set it, or write ${{{0}:-default}}",
                  name));
}

}  // namespace

Result<std::string> expand(std::string_view text, Environment const& environment) {
  std::string result;
  while (!text.empty()) {
    std::size_t const dollar = text.find('$');
    result += text.substr(0, dollar);
    if (dollar == std::string_view::npos) break;
    text.remove_prefix(dollar);
    if (text.starts_with("$$")) {
      result += '$';
      text.remove_prefix(2);
    } else if (text.starts_with("${")) {
      TRY_ASSIGN(std::string const value, expand_one(text, environment));
      result += value;
    } else {
      result += '$';
      text.remove_prefix(1);
    }
    if (result.size() > kScalarBytesMax) {
      return fail(ErrorCode::ConfigInvalid,
                  fmt::format("the value is longer than {} bytes once its variables are expanded",
                              kScalarBytesMax));
    }
  }
  return result;
}

// "services[2].env[0]": a part that is an index needs no dot.
std::string Reader::scoped(std::string message) const {
  std::string where;
  for (std::string const& part : scope_) {
    where += (where.empty() || part.starts_with('[') ? "" : ".") + part;
  }
  return where.empty() ? message : where + ": " + message;
}

void Reader::mistake(Place place, std::string message) {
  mistakes_.push_back({place, scoped(std::move(message))});
}

void Reader::warn(Place place, std::string message) {
  warnings_.push_back({place, scoped(std::move(message))});
}

std::vector<Remark> Reader::take_mistakes() {
  return std::exchange(mistakes_, {});
}
std::vector<Remark> Reader::take_warnings() {
  return std::exchange(warnings_, {});
}

bool Reader::charge(Place place, std::size_t bytes) {
  bool const was_over = charged_ > kExpandedBytesMax;
  charged_ += bytes;
  if (charged_ <= kExpandedBytesMax) return true;
  // Once is enough: everything after it would be refused as well.
  if (!was_over) {
    mistakes_.push_back(
        {place, fmt::format("the configuration is larger than {} MiB once its aliases and "
                            "variables are expanded",
                            kExpandedBytesMax >> 20)});
  }
  return false;
}

std::optional<std::string> Reader::text(Node const& node) {
  if (!expect(node, Node::Kind::Scalar, "a value")) return std::nullopt;
  Result<std::string> expanded = expand(node.text, environment_);
  if (!expanded) {
    mistake(node.place, expanded.error().message());
    return std::nullopt;
  }
  // What each value costs beside its letters: the std::string in a vector.
  if (!charge(node.place, expanded->size() + sizeof(std::string))) return std::nullopt;
  if (expanded->find('\0') != std::string::npos) {
    mistake(node.place, "the value has a zero byte in it, which no program can be given");
    return std::nullopt;
  }
  return std::move(*expanded);
}

std::optional<std::string> Reader::word(Node const& node) {
  auto value = text(node);
  if (value && value->empty()) {
    mistake(node.place, "is empty");
    return std::nullopt;
  }
  return value;
}

bool Reader::expect(Node const& node, Node::Kind kind, std::string_view wanted) {
  if (node.kind == kind) return true;
  mistake(node.place, fmt::format("needs {}, and has {}", wanted, node.kind_text()));
  return false;
}

std::span<Node const* const> Reader::items(Node const& node, std::size_t max,
                                           std::string_view wanted) {
  if (!expect(node, Node::Kind::List, wanted)) return {};
  if (node.items.size() > max) {
    mistake(node.place, fmt::format("has {} items; the limit is {}", node.items.size(), max));
    return {};
  }
  return node.items;
}

std::optional<std::string> read_text(Reader& reader, Node const& node) {
  return reader.text(node);
}
std::optional<std::string> read_word(Reader& reader, Node const& node) {
  return reader.word(node);
}

std::optional<std::string> read_path(Reader& reader, Node const& node) {
  auto path = reader.word(node);
  if (!path || path->starts_with('/') || reader.folder().empty()) return path;
  return (std::filesystem::path(reader.folder()) / *path).lexically_normal().string();
}

std::optional<std::string> read_absolute_path(Reader& reader, Node const& node) {
  auto path = reader.word(node);
  if (!path || path->starts_with('/')) return path;
  reader.mistake(node.place,
                 fmt::format("\"{}\" must be an absolute path, beginning with /", *path));
  return std::nullopt;
}

std::optional<bool> read_bool(Reader& reader, Node const& node) {
  auto const word = reader.word(node);
  if (!word) return std::nullopt;
  for (std::string_view const yes : {"true", "True", "TRUE", "yes", "on"}) {
    if (*word == yes) return true;
  }
  for (std::string_view const no : {"false", "False", "FALSE", "no", "off"}) {
    if (*word == no) return false;
  }
  reader.mistake(node.place, fmt::format("\"{}\" is neither true nor false", *word));
  return std::nullopt;
}

std::optional<std::int64_t> read_integer(Reader& reader, Node const& node, std::int64_t min,
                                         std::int64_t max) {
  auto const word = reader.word(node);
  if (!word) return std::nullopt;
  std::int64_t number = 0;
  auto const [end, error] = std::from_chars(word->data(), word->data() + word->size(), number);
  if (error == std::errc::invalid_argument || end != word->data() + word->size()) {
    reader.mistake(node.place, fmt::format("\"{}\" is not a whole number", *word));
    return std::nullopt;
  }
  if (error != std::errc() || number < min || number > max) {
    reader.mistake(node.place, fmt::format("{} is out of range: {} to {}", *word, min, max));
    return std::nullopt;
  }
  return number;
}

std::optional<Duration> read_duration(Reader& reader, Node const& node) {
  auto const word = reader.word(node);
  if (!word) return std::nullopt;
  auto const duration = reader.accept(node, parse_duration(*word));
  if (!duration || *duration <= kDurationMax) return duration;
  reader.mistake(node.place, fmt::format("{} is longer than 30 days", *word));
  return std::nullopt;
}

std::optional<Duration> read_timeout(Reader& reader, Node const& node) {
  auto const duration = read_duration(reader, node);
  if (!duration || *duration > Duration::zero()) return duration;
  reader.mistake(node.place, "must be longer than 0");
  return std::nullopt;
}

std::optional<std::uint64_t> read_size(Reader& reader, Node const& node) {
  auto const word = reader.word(node);
  return word ? reader.accept(node, parse_size(*word)) : std::nullopt;
}

std::optional<double> read_cpu(Reader& reader, Node const& node) {
  auto const word = reader.word(node);
  if (!word) return std::nullopt;
  double cores = 0;
  auto const [end, error] =
      std::from_chars(word->data(), word->data() + word->size(), cores, std::chars_format::fixed);
  bool const whole = error == std::errc() && end == word->data() + word->size();
  if (whole && cores >= 0.01 && cores <= 4096) return cores;
  reader.mistake(node.place,
                 fmt::format("\"{}\" is not a number of cores: 0.01 to 4096, e.g. 0.5", *word));
  return std::nullopt;
}

std::optional<std::vector<std::string>> read_words(Reader& reader, Node const& node) {
  auto const items = reader.items(node, kArgumentsMax, "a list");
  if (node.kind != Node::Kind::List) return std::nullopt;
  std::vector<std::string> words;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    if (auto word = reader.word(*items[i])) words.push_back(std::move(*word));
  }
  return words;
}

}  // namespace aether::config
