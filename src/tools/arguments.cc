// SPDX-License-Identifier: Apache-2.0
#include "tools/arguments.h"

#include <algorithm>

#include <boost/json/value.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"
#include "supervise/printable.h"

namespace aether::tools {

namespace json = boost::json;

Arguments::Arguments(json::value const& args, std::string what)
    : args_(&args), what_(std::move(what)) {
  if (!args.is_object()) {
    status_ =
        fail(ErrorCode::RequestInvalid, fmt::format("{}: the arguments are not an object", what_));
  }
}

void Arguments::refuse(std::string_view name, std::string_view why) {
  if (!status_) return;
  status_ = fail(ErrorCode::RequestInvalid, fmt::format("{}: {} {}", what_, name, why));
}

void Arguments::only(std::initializer_list<std::string_view> names) {
  if (!status_) return;
  for (auto const& member : args_->get_object()) {
    std::string_view const name = member.key();
    if (std::ranges::find(names, name) != names.end()) continue;
    refuse(name, fmt::format("is no argument of it; there are {}", fmt::join(names, ", ")));
  }
}

json::value const* Arguments::find(std::string_view name) const {
  if (!status_) return nullptr;
  return args_->get_object().if_contains(name);
}

std::string Arguments::required_text(std::string_view name) {
  std::string value = text(name);
  if (value.empty()) refuse(name, "is missing");
  return value;
}

std::string Arguments::text(std::string_view name, std::string_view otherwise) {
  json::value const* const value = find(name);
  if (value == nullptr) return std::string(otherwise);
  if (value->is_string()) return {value->get_string().data(), value->get_string().size()};
  refuse(name, "is not a string");
  return {};
}

std::optional<std::uint64_t> Arguments::number(std::string_view name, std::uint64_t least,
                                               std::uint64_t most) {
  json::value const* const value = find(name);
  if (value == nullptr) return std::nullopt;
  json::error_code error;
  auto const number = value->to_number<std::uint64_t>(error);
  if (!error && number >= least && number <= most) return number;
  refuse(name, fmt::format("is not a whole number from {} to {}", least, most));
  return std::nullopt;
}

std::optional<double> Arguments::real(std::string_view name, double least, double most) {
  json::value const* const value = find(name);
  if (value == nullptr) return std::nullopt;
  json::error_code error;
  auto const number = value->to_number<double>(error);
  if (!error && number >= least && number <= most) return number;
  refuse(name, fmt::format("is not a number from {} to {}", least, most));
  return std::nullopt;
}

bool Arguments::flag(std::string_view name, bool otherwise) {
  json::value const* const value = find(name);
  if (value == nullptr) return otherwise;
  if (value->is_bool()) return value->get_bool();
  refuse(name, "is neither true nor false");
  return otherwise;
}

std::vector<std::string> Arguments::texts(std::string_view name) {
  std::vector<std::string> texts;
  json::value const* const value = find(name);
  if (value == nullptr) return texts;
  bool fits = value->is_array();
  for (std::size_t i = 0; fits && i < value->get_array().size(); ++i) {
    json::value const& element = value->get_array()[i];
    fits = element.is_string();
    if (fits) texts.emplace_back(element.get_string().data(), element.get_string().size());
  }
  if (!fits) refuse(name, "is not a list of strings");
  return texts;
}

Arguments::Pairs Arguments::pairs(std::string_view name) {
  Pairs pairs;
  json::value const* const value = find(name);
  if (value == nullptr) return pairs;
  if (!value->is_object()) {
    refuse(name, "is not an object");
    return pairs;
  }
  for (auto const& member : value->get_object()) {
    json::value const& held = member.value();
    if (held.is_object() || held.is_array() || held.is_null())
      refuse(fmt::format("{}.{}", name, std::string_view(member.key())), "is not a string");
    pairs.emplace_back(member.key(), body_bytes(&held));
  }
  return pairs;
}

std::optional<Duration> Arguments::duration(std::string_view name) {
  std::string const given = text(name);
  if (given.empty()) return std::nullopt;
  auto const duration = parse_duration(given);
  if (duration && *duration > Duration::zero()) return *duration;
  refuse(name, "is not a duration such as 500ms, 30s or 1h30m");
  return std::nullopt;
}

std::string body_bytes(json::value const* value) {
  if (value == nullptr || value->is_null()) return {};
  if (value->is_string()) return {value->get_string().data(), value->get_string().size()};
  return canonical_json(*value);
}

json::value value_of_bytes(std::string_view bytes, bool may_be_json) {
  if (may_be_json && bytes.find_first_not_of(" \t\r\n") != std::string_view::npos) {
    if (auto parsed = parse_json(bytes, "answer")) return std::move(*parsed);
  }
  return json::value(supervise::printable(bytes, supervise::Controls::Keep));
}

}  // namespace aether::tools
