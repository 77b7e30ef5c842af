// SPDX-License-Identifier: Apache-2.0
#include "relay/srp_json.h"

#include <cmath>
#include <limits>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace aether::relay {
namespace {

namespace json = boost::json;

/// Longer texts from a child are cut: they end up in logs and reports.
constexpr std::size_t kTextMax = 4096;
/// Figures above this are not durations: a day.
constexpr double kMillisecondsMax = 86'400'000;

}  // namespace

Result<json::object> parse_object(Frame const& frame) {
  if (frame.payload.empty()) return json::object();
  json::error_code ec;
  json::value value = json::parse(frame.payload, ec);
  if (ec || !value.is_object()) {
    return fail(
        ErrorCode::ProtocolViolation,
        fmt::format("the payload of a {} frame is not a JSON object", frame_name(frame.type)));
  }
  return std::move(value.get_object());
}

std::string text_field(json::object const& object, std::string_view name) {
  json::value const* const value = object.if_contains(name);
  if (value == nullptr || !value->is_string()) return {};
  return std::string(std::string_view(value->get_string()).substr(0, kTextMax));
}

std::optional<std::uint64_t> number_field(json::object const& object, std::string_view name) {
  json::value const* const value = object.if_contains(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_uint64()) return value->get_uint64();
  if (value->is_int64() && value->get_int64() >= 0) {
    return static_cast<std::uint64_t>(value->get_int64());
  }
  return std::nullopt;
}

std::uint32_t version_field(json::object const& object) {
  std::uint64_t const number = number_field(object, "state_version").value_or(0);
  return number <= std::numeric_limits<std::uint32_t>::max() ? static_cast<std::uint32_t>(number)
                                                             : 0;
}

double milliseconds_field(json::object const& object, std::string_view name) {
  json::value const* const value = object.if_contains(name);
  if (value == nullptr || !value->is_number()) return 0;
  auto const number = value->to_number<double>();
  return std::isfinite(number) && number >= 0 && number <= kMillisecondsMax ? number : 0;
}

bool answers_of(Frame const& frame, FrameType type, std::string_view of) {
  if (frame.type != type) return false;
  auto const object = parse_object(frame);
  return object && text_field(*object, "of") == of;
}

std::string error_json(std::string_view of, Error const& error) {
  return json::serialize(json::object{{"of", of},
                                      {"code", std::string_view(info(error.code()).name)},
                                      {"message", error.message()}});
}

}  // namespace aether::relay
