// SPDX-License-Identifier: Apache-2.0
#include "jobs/graph_mistake.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "config/suggest.h"
#include "jobs/expand.h"

namespace aether::jobs {

namespace json = boost::json;

void GraphMistakes::add(std::string pointer, std::string message) {
  all_.push_back({std::move(pointer), false, std::move(message)});
}

void GraphMistakes::add_key(std::string pointer, std::string message) {
  all_.push_back({std::move(pointer), true, std::move(message)});
}

std::string GraphMistakes::lines() const {
  std::string text;
  for (std::size_t i = 0; i < all_.size() && i < kGraphMistakesMax; ++i) {
    std::string const& pointer = all_[i].pointer;
    text += fmt::format("{}{}: {}", i == 0 ? "" : "\n", pointer.empty() ? "/" : pointer,
                        all_[i].message);
  }
  if (all_.size() > kGraphMistakesMax)
    text += fmt::format("\nand {} more mistakes", all_.size() - kGraphMistakesMax);
  return text;
}

MemberReader::MemberReader(json::value const& value, std::string pointer, std::string_view what,
                           GraphMistakes& mistakes)
    : object_(value.if_object()), pointer_(std::move(pointer)), what_(what), mistakes_(mistakes) {
  if (object_ == nullptr)
    mistakes_.add(pointer_, fmt::format("{} must be an object with members", what_));
}

void MemberReader::expect_only(std::span<std::string_view const> known) {
  if (object_ == nullptr) return;
  for (auto const& member : *object_) {
    std::string_view const key(member.key().data(), member.key().size());
    if (std::ranges::find(known, key) != known.end()) continue;
    mistakes_.add_key(pointer_of(key), fmt::format("{} has no member \"{}\"{}", what_, key,
                                                   config::did_you_mean(key, known)));
  }
}

json::value const* MemberReader::find(std::string_view name) const {
  json::value const* value = object_ == nullptr ? nullptr : object_->if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

std::optional<std::string> MemberReader::text(std::string_view name) {
  json::value const* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (auto const* text = value->if_string()) return std::string(text->data(), text->size());
  mistake(name, fmt::format("{} must be a text", name));
  return std::nullopt;
}

std::optional<std::int64_t> MemberReader::integer(std::string_view name, std::int64_t min,
                                                  std::int64_t max) {
  json::value const* value = find(name);
  if (value == nullptr) return std::nullopt;
  boost::json::error_code error;
  auto const number = value->to_number<std::int64_t>(error);
  if (!error && !value->is_double() && number >= min && number <= max) return number;
  mistake(name, fmt::format("{} must be a whole number from {} to {}", name, min, max));
  return std::nullopt;
}

std::optional<Duration> MemberReader::duration(std::string_view name) {
  json::value const* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_int64() && value->get_int64() == 0) return Duration::zero();
  auto const* text = value->if_string();
  if (text == nullptr) {
    mistake(name, fmt::format("{} must be a duration with its unit: 500ms, 30s, 1h", name));
    return std::nullopt;
  }
  auto duration = parse_duration(std::string_view(text->data(), text->size()));
  if (duration) return *duration;
  mistake(name, duration.error().message());
  return std::nullopt;
}

std::vector<std::string> MemberReader::texts(std::string_view name, std::size_t max) {
  json::value const* value = find(name);
  std::vector<std::string> result;
  if (value == nullptr) return result;
  if (auto const* text = value->if_string()) {
    result.emplace_back(text->data(), text->size());
    return result;
  }
  auto const* array = value->if_array();
  if (array == nullptr || array->size() > max) {
    mistake(name, fmt::format("{} must be a list of at most {} texts", name, max));
    return result;
  }
  for (std::size_t i = 0; i < array->size(); ++i) {
    auto const* text = (*array)[i].if_string();
    if (text == nullptr)
      mistakes_.add(pointer_of(name) + "/" + std::to_string(i), "this must be a text");
    // Kept even so, that positions stay those of the list.
    result.emplace_back(text == nullptr ? std::string() : std::string(text->data(), text->size()));
  }
  return result;
}

std::string MemberReader::pointer_of(std::string_view name) const {
  return pointer_ + "/" + pointer_token(name);
}

void MemberReader::mistake(std::string_view name, std::string message) {
  mistakes_.add(pointer_of(name), std::move(message));
}

}  // namespace aether::jobs
