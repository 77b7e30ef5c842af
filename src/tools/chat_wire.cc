// SPDX-License-Identifier: Apache-2.0
// The way out: messages and tools in OpenAI's form.
#include <algorithm>
#include <array>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "tools/arguments.h"
#include "tools/chat.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 5> kRoles{"system", "developer", "user", "assistant",
                                                 "tool"};

Failure wrong(std::string_view member, std::string_view why) {
  return fail(ErrorCode::RequestInvalid, fmt::format("llm: {} {}", member, why));
}

/// {id, name, arguments} to {id, type, function {name, arguments as text}}; its own form stays.
Result<json::value> wire_call(json::value const& given, std::string const& where) {
  if (!given.is_object()) return wrong(where, "is not an object");
  json::object const& call = given.get_object();
  if (call.contains("function")) return given;
  auto const* const name = call.if_contains("name");
  auto const* const id = call.if_contains("id");
  if (name == nullptr || !name->is_string()) return wrong(where + ".name", "is not a string");
  if (id == nullptr || !id->is_string()) return wrong(where + ".id", "is not a string");
  json::object function;
  function["name"] = *name;
  function["arguments"] = body_bytes(call.if_contains("arguments"));
  return json::value{{"id", *id}, {"type", "function"}, {"function", std::move(function)}};
}

Result<json::value> wire_message(json::value const& given, std::string const& where) {
  if (!given.is_object()) return wrong(where, "is not an object");
  json::object message = given.get_object();
  auto const* const role = message.if_contains("role");
  if (role == nullptr || !role->is_string() ||
      std::ranges::find(kRoles, std::string_view(role->get_string())) == kRoles.end())
    return wrong(where + ".role", "is none of system, developer, user, assistant and tool");
  auto* const content = message.if_contains("content");
  // What a tool gave may be any value; the wire knows texts, and lists of parts.
  if (content != nullptr && !content->is_string() && !content->is_null() && !content->is_array())
    *content = canonical_json(*content);
  if (content != nullptr && content->is_array() && role->get_string() == "tool")
    *content = canonical_json(*content);
  auto* const calls = message.if_contains("tool_calls");
  if (calls == nullptr) return json::value(std::move(message));
  if (!calls->is_array()) return wrong(where + ".tool_calls", "is not a list");
  json::array wired;
  for (std::size_t i = 0; i < calls->get_array().size(); ++i) {
    TRY_ASSIGN(json::value call,
               wire_call(calls->get_array()[i], fmt::format("{}.tool_calls[{}]", where, i)));
    wired.push_back(std::move(call));
  }
  if (wired.empty())
    message.erase("tool_calls");
  else
    message["tool_calls"] = std::move(wired);
  return json::value(std::move(message));
}

}  // namespace

Result<json::value> wire_messages(json::value const& args) {
  json::array messages;
  json::object const& object = args.get_object();
  if (auto const* const system = object.if_contains("system")) {
    if (!system->is_string()) return wrong("system", "is not a string");
    if (!system->get_string().empty())
      messages.push_back({{"role", "system"}, {"content", *system}});
  }
  auto const* const given = object.if_contains("messages");
  auto const* const prompt = object.if_contains("prompt");
  if ((given == nullptr) == (prompt == nullptr))
    return wrong("prompt", "is missing: give a prompt, or messages, and not both");
  if (prompt != nullptr) {
    messages.push_back({{"role", "user"}, {"content", body_bytes(prompt)}});
    return json::value(std::move(messages));
  }
  if (!given->is_array() || given->get_array().empty())
    return wrong("messages", "is not a list of messages");
  for (std::size_t i = 0; i < given->get_array().size(); ++i) {
    TRY_ASSIGN(json::value message,
               wire_message(given->get_array()[i], fmt::format("messages[{}]", i)));
    messages.push_back(std::move(message));
  }
  return json::value(std::move(messages));
}

Result<json::value> wire_tools(json::value const& args) {
  json::array tools;
  auto const* const given = args.get_object().if_contains("tools");
  if (given == nullptr) return json::value(std::move(tools));
  if (!given->is_array()) return wrong("tools", "is not a list");
  for (std::size_t i = 0; i < given->get_array().size(); ++i) {
    json::value const& tool = given->get_array()[i];
    bool const own_form = tool.is_object() && tool.get_object().contains("function");
    json::value const* const function = own_form ? &tool.get_object().at("function") : &tool;
    bool const named = function->is_object() && function->get_object().contains("name") &&
                       function->get_object().at("name").is_string();
    if (!named) return wrong(fmt::format("tools[{}]", i), "has no name");
    tools.push_back(own_form ? tool : json::value{{"type", "function"}, {"function", tool}});
  }
  return json::value(std::move(tools));
}

}  // namespace aether::tools
