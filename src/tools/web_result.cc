// SPDX-License-Identifier: Apache-2.0
#include "tools/web_result.h"

#include <algorithm>
#include <array>
#include <chrono>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "supervise/printable.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

// What follows from the request itself, or would make the server see another one.
constexpr std::array<std::string_view, 6> kReserved{
    "Host", "Content-Length", "Connection", "Transfer-Encoding", "Upgrade", "Expect"};

bool same_word(std::string_view a, std::string_view b) {
  auto const lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  return std::ranges::equal(a, b, {}, lower, lower);
}

json::object header_object(http::Headers const& headers) {
  json::object object;
  for (auto const& [name, value] : headers) {
    std::string lowered = name;
    for (char& c : lowered) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    std::string const text = supervise::printable(value, supervise::Controls::Replace);
    json::value& held = object[lowered];
    held = held.is_string() ? json::value(fmt::format("{}, {}", held.get_string().c_str(), text))
                            : json::value(text);
  }
  return object;
}

bool is_word(std::string_view name) {
  auto const allowed = [](char c) {
    return c > ' ' && c < 0x7f && !std::string_view("()<>@,;:\\\"/[]?={}").contains(c);
  };
  return !name.empty() && std::ranges::all_of(name, allowed);
}

bool is_line(std::string_view value) {
  auto const control = [](char c) { return c != '\t' && static_cast<unsigned char>(c) < 0x20U; };
  return std::ranges::none_of(value, control);
}

}  // namespace

json::value web_value(http::Response const& response, bool cut) {
  bool const says_json = is_json_type(response.headers.get("Content-Type"));
  json::object value;
  value["status"] = response.status;
  value["headers"] = header_object(response.headers);
  value["body"] = value_of_bytes(response.body, says_json && !cut);
  if (cut) value["truncated"] = true;
  if (auto const wait = retry_after(response)) {
    value["retry_after_ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(*wait).count();
  }
  return value;
}

std::string message_of_body(std::string_view body) {
  auto const parsed = parse_json(body, "answer");
  if (parsed && parsed->is_object()) {
    json::object const* object = &parsed->get_object();
    if (auto const* error = object->if_contains("error"); error != nullptr && error->is_object())
      object = &error->get_object();
    for (std::string_view const name : {"message", "detail", "error", "title"}) {
      auto const* const text = object->if_contains(name);
      if (text != nullptr && text->is_string())
        return supervise::excerpt(std::string_view(text->get_string()));
    }
  }
  return supervise::excerpt(supervise::printable(body.substr(0, 2 * supervise::kExcerptMax),
                                                 supervise::Controls::Replace));
}

CallResult web_result(std::string_view what, Verdict verdict, WebAnswer const& answer) {
  http::Response const& response = *answer.response;
  CallResult result{.outcome = verdict.outcome, .retryable = verdict.retryable};
  result.result = web_value(response, answer.cut);
  if (verdict.outcome == EffectOutcome::Ok) return result;
  std::string const said = message_of_body(response.body);
  result.error = fmt::format("{}: the answer was {} {}{}{}", what, response.status,
                             http::reason_phrase(response.status), said.empty() ? "" : ": ", said);
  if (verdict.outcome == EffectOutcome::Unknown)
    result.error += "; whether it was done, this answer does not say";
  return result;
}

CallResult failed_result(WebAnswer const& answer) {
  return {.outcome = answer.failed.outcome,
          .error = answer.error,
          .retryable = answer.failed.retryable};
}

void read_content(Arguments& args, http::Request& request) {
  for (auto& [name, value] : args.pairs("headers")) {
    std::string const member = fmt::format("headers.{}", name);
    auto const same = [&](std::string_view reserved) { return same_word(name, reserved); };
    if (!is_word(name) || !is_line(value)) args.refuse(member, "cannot be sent in a header");
    if (std::ranges::any_of(kReserved, same)) args.refuse(member, "is set by Aether alone");
    request.headers.set(name, std::move(value));
  }
  boost::json::value const* const body = args.find("body");
  request.body = body_bytes(body);
  bool const is_value = body != nullptr && !body->is_string() && !body->is_null();
  if (is_value && request.headers.find("Content-Type") == nullptr)
    request.headers.set("Content-Type", "application/json");
}

void add_key(http::Request& request, std::string const& key) {
  if (key.empty() || request.headers.find("Idempotency-Key") != nullptr) return;
  request.headers.set("Idempotency-Key", key);
}

}  // namespace aether::tools
