// SPDX-License-Identifier: Apache-2.0
#include "tools/chat.h"

#include <algorithm>
#include <utility>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "supervise/printable.h"
#include "tools/web_result.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

Failure no_chat(std::string_view why) {
  return fail(ErrorCode::ProtocolViolation,
              fmt::format("the answer is no chat completion: {}", why));
}

json::object const* object_in(json::object const& object, std::string_view name) {
  auto const* const value = object.if_contains(name);
  return value == nullptr ? nullptr : value->if_object();
}

std::string_view text_in(json::object const& object, std::string_view name) {
  auto const* const value = object.if_contains(name);
  if (value == nullptr || !value->is_string()) return {};
  return {value->get_string().data(), value->get_string().size()};
}

std::uint64_t count_in(json::object const& object, std::string_view name) {
  auto const* const value = object.if_contains(name);
  json::error_code error;
  auto const count = value == nullptr ? 0 : value->to_number<std::uint64_t>(error);
  return error ? 0 : count;
}

std::optional<ChatUsage> usage_of(json::object const& object) {
  json::object const* const usage = object_in(object, "usage");
  if (usage == nullptr) return std::nullopt;
  return ChatUsage{.prompt = count_in(*usage, "prompt_tokens"),
                   .completion = count_in(*usage, "completion_tokens")};
}

/// The first choice; null if there is none.
json::object const* choice_of(json::object const& object) {
  auto const* const choices = object.if_contains("choices");
  if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return nullptr;
  return choices->get_array()[0].if_object();
}

Result<json::object> read_object(std::string_view text) {
  auto value = parse_json(text, "answer");
  if (!value) return no_chat(value.error().message());
  if (!value->is_object()) return no_chat("it is no object");
  json::object object = std::move(value->get_object());
  auto const* const error = object.if_contains("error");
  if (error != nullptr && !error->is_null())
    return fail(ErrorCode::ProtocolViolation,
                fmt::format("the model's server reports an error: {}", message_of_body(text)));
  return object;
}

}  // namespace

Result<ChatAnswer> read_chat_answer(std::string_view body) {
  TRY_ASSIGN(json::object const object, read_object(body));
  json::object const* const choice = choice_of(object);
  json::object const* const message = choice == nullptr ? nullptr : object_in(*choice, "message");
  if (message == nullptr) return no_chat("it has no choices[0].message");
  ChatAnswer answer{.model = std::string(text_in(object, "model")),
                    .content = std::string(text_in(*message, "content")),
                    .finish_reason = std::string(text_in(*choice, "finish_reason")),
                    .usage = usage_of(object)};
  auto const* const calls = message->if_contains("tool_calls");
  if (calls == nullptr || !calls->is_array()) return answer;
  for (json::value const& call : calls->get_array()) {
    json::object const* const held = call.if_object();
    json::object const* const function = held == nullptr ? nullptr : object_in(*held, "function");
    if (function == nullptr) return no_chat("a tool call has no function");
    if (answer.tool_calls.size() >= kChatToolCallsMax) return no_chat("too many tool calls");
    answer.tool_calls.push_back({.id = std::string(text_in(*held, "id")),
                                 .name = std::string(text_in(*function, "name")),
                                 .arguments = std::string(text_in(*function, "arguments"))});
  }
  return answer;
}

Status ChatAssembler::count(std::size_t bytes) {
  bytes_ += bytes;
  if (bytes_ <= kChatBytesMax) return {};
  return fail(ErrorCode::LimitReached,
              fmt::format("the model's answer is longer than {} bytes", kChatBytesMax));
}

Result<std::string> ChatAssembler::feed(std::string_view bytes) {
  std::string added;
  std::string begun;
  if (form_ == Form::Unknown) {
    // A server that does not stream answers with one object, whatever it was asked for.
    TRY(count(bytes.size()));
    whole_ += bytes;
    std::size_t const first = whole_.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) return added;
    form_ = whole_[first] == '{' ? Form::Whole : Form::Stream;
    if (form_ == Form::Whole) return added;
    begun = std::exchange(whole_, {});
    bytes = begun;
    bytes_ = 0;
  }
  if (form_ == Form::Whole) {
    TRY(count(bytes.size()));
    whole_ += bytes;
    return added;
  }
  TRY_ASSIGN(std::vector<std::string> const events, sse_.feed(bytes));
  for (std::string const& event : events) TRY(take_event(event, added));
  return added;
}

Status ChatAssembler::take_event(std::string_view data, std::string& added) {
  if (done_) return {};
  if (data == "[DONE]") {
    done_ = true;
    return {};
  }
  TRY_ASSIGN(json::object const object, read_object(data));
  if (answer_.model.empty()) {
    answer_.model = text_in(object, "model");
    TRY(count(answer_.model.size()));
  }
  if (auto const usage = usage_of(object)) answer_.usage = usage;
  json::object const* const choice = choice_of(object);
  if (choice == nullptr) return {};
  if (auto const reason = text_in(*choice, "finish_reason"); !reason.empty())
    answer_.finish_reason = reason;
  json::object const* const delta = object_in(*choice, "delta");
  return delta == nullptr ? Status() : take_delta(*delta, added);
}

Status ChatAssembler::take_delta(json::object const& delta, std::string& added) {
  std::string_view const content = text_in(delta, "content");
  TRY(count(content.size()));
  answer_.content += content;
  added += content;
  auto const* const calls = delta.if_contains("tool_calls");
  if (calls == nullptr || !calls->is_array()) return {};
  for (std::size_t i = 0; i < calls->get_array().size(); ++i)
    TRY(take_tool_call(calls->get_array()[i], i));
  return {};
}

Status ChatAssembler::take_tool_call(json::value const& piece, std::size_t place) {
  if (!piece.is_object()) return no_chat("a tool call is no object");
  json::object const& object = piece.get_object();
  std::size_t const index = object.contains("index") ? count_in(object, "index") : place;
  // They come in their order; a gap would be filled by calls that nobody asked for.
  if (index > answer_.tool_calls.size() || index >= kChatToolCallsMax)
    return no_chat(fmt::format("a tool call has the index {}", index));
  if (index == answer_.tool_calls.size()) answer_.tool_calls.emplace_back();
  ChatToolCall& call = answer_.tool_calls[index];
  json::object const* const function = object_in(object, "function");
  std::string_view const id = text_in(object, "id");
  std::string_view const name = function == nullptr ? "" : text_in(*function, "name");
  std::string_view const arguments = function == nullptr ? "" : text_in(*function, "arguments");
  TRY(count(id.size() + name.size() + arguments.size()));
  if (call.id.empty()) call.id = id;
  // Some servers repeat the name in each piece: it is whole in the first one.
  if (call.name.empty()) call.name = name;
  call.arguments += arguments;
  return {};
}

Result<ChatAnswer> ChatAssembler::finish() && {
  if (form_ == Form::Whole) return read_chat_answer(whole_);
  if (!done_ && answer_.finish_reason.empty())
    return fail(ErrorCode::ProtocolViolation,
                "the model's answer was cut off: its stream ended without a finish_reason or "
                "[DONE]");
  return std::move(answer_);
}

json::value chat_value(ChatAnswer const& answer) {
  json::object value;
  auto const text = [](std::string_view bytes) {
    return supervise::printable(bytes, supervise::Controls::Keep);
  };
  value["content"] = text(answer.content);
  json::array calls;
  for (ChatToolCall const& call : answer.tool_calls) {
    std::string_view const given = call.arguments;
    std::string_view const arguments = given.empty() ? std::string_view("{}") : given;
    calls.push_back({{"id", text(call.id)},
                     {"name", text(call.name)},
                     {"arguments", value_of_bytes(arguments, true)}});
  }
  value["tool_calls"] = std::move(calls);
  value["finish_reason"] = text(answer.finish_reason);
  value["model"] = text(answer.model);
  if (answer.usage) {
    value["usage"] = {{"prompt_tokens", answer.usage->prompt},
                      {"completion_tokens", answer.usage->completion},
                      {"total_tokens", answer.usage->prompt + answer.usage->completion}};
  }
  return value;
}

}  // namespace aether::tools
