// SPDX-License-Identifier: Apache-2.0
#include "tools/builtin_model.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "tools/arguments.h"
#include "tools/llm_tool.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

/// How many bytes count as a token: near enough to what real models count.
constexpr std::size_t kBytesPerToken = 4;

/// The lines of a conversation that are instructions, in their order.
struct Script {
  struct Use {
    std::string tool;
    std::string arguments;
    bool again = false;  ///< "loop": it never ends.
  };
  std::vector<Use> uses;
  std::vector<std::string> says;
};

struct Conversation {
  Script script;
  std::string last_user;
  std::vector<std::string> results;  ///< What tools said, in order.
  std::size_t bytes = 0;
};

std::string_view trimmed(std::string_view text) {
  std::size_t const begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

/// Takes `word` and the space behind it from the front.
bool take_word(std::string_view& line, std::string_view word) {
  if (!line.starts_with(word) || line.size() == word.size() || line[word.size()] != ' ')
    return false;
  line = trimmed(line.substr(word.size()));
  return true;
}

void read_line(std::string_view line, Script& script) {
  line = trimmed(line);
  if (take_word(line, "say")) {
    script.says.emplace_back(line);
    return;
  }
  std::string_view rest = line;
  bool const again = take_word(rest, "loop");
  if (!again && !take_word(rest, "call")) return;
  std::size_t const end = rest.find_first_of(" {");
  std::string_view const name = rest.substr(0, end);
  std::string_view const given =
      end == std::string_view::npos ? std::string_view() : trimmed(rest.substr(end));
  // "call me later" is no instruction.
  if (name.empty() || !given.starts_with('{') || !parse_json(given, "call")) return;
  script.uses.push_back(
      {.tool = std::string(name), .arguments = std::string(given), .again = again});
}

void read_script(std::string_view text, Script& script) {
  while (!text.empty()) {
    std::size_t const end = std::min(text.find('\n'), text.size());
    read_line(text.substr(0, end), script);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

std::string text_of_content(json::object const& message) {
  auto const* const content = message.if_contains("content");
  if (content == nullptr || !content->is_array()) return body_bytes(content);
  std::string text;  // A list of parts: those that are text.
  for (json::value const& part : content->get_array()) {
    if (part.is_object()) text += body_bytes(part.get_object().if_contains("text"));
  }
  return text;
}

Conversation read_conversation(json::value const& messages) {
  Conversation talk;
  for (json::value const& each : messages.get_array()) {
    json::object const& message = each.get_object();
    std::string text = text_of_content(message);
    talk.bytes += text.size();
    std::string_view const role = message.at("role").get_string();
    if (role == "tool")
      talk.results.push_back(std::move(text));
    else if (role != "assistant")
      read_script(text, talk.script);
    if (role == "user") talk.last_user = std::move(text);
  }
  return talk;
}

/// {last} is what the last tool said, {1} what the first one did.
std::string fill(std::string_view text, std::vector<std::string> const& results) {
  std::string out;
  while (true) {
    std::size_t const at = text.find('{');
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    text.remove_prefix(at);
    std::size_t const end = text.find('}');
    std::string_view const name = text.substr(1, end == std::string_view::npos ? 0 : end - 1);
    std::string const* value = nullptr;
    if (name == "last" && !results.empty()) value = &results.back();
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (name == std::to_string(i + 1)) value = &results[i];
    }
    out += value != nullptr ? std::string_view(*value) : text.substr(0, 1);
    text.remove_prefix(value != nullptr ? end + 1 : 1);
  }
}

/// The next call that the script asks for.
std::optional<Script::Use> next_use(Conversation const& talk) {
  std::size_t const done = talk.results.size();
  auto const& uses = talk.script.uses;
  auto const endless = std::ranges::find_if(uses, [](auto const& use) { return use.again; });
  auto const place = static_cast<std::size_t>(endless - uses.begin());
  if (done < std::min(place, uses.size())) return uses[done];
  if (endless != uses.end()) return *endless;
  return std::nullopt;
}

bool is_offered(json::value const& tools, std::string_view name) {
  return std::ranges::any_of(tools.get_array(), [name](json::value const& tool) {
    return tool.get_object().at("function").get_object().at("name").get_string() == name;
  });
}

std::string final_text(Conversation const& talk) {
  std::string text;
  for (std::string const& line : talk.script.says) {
    if (!text.empty()) text += '\n';
    text += fill(line, talk.results);
  }
  if (!text.empty()) return text;
  if (!talk.results.empty()) return talk.results.back();
  return std::string(trimmed(talk.last_user));
}

}  // namespace

ChatAnswer ask_builtin_model(json::value const& messages, json::value const& tools) {
  Conversation const talk = read_conversation(messages);
  ChatAnswer answer{.model = std::string(kBuiltinModel), .finish_reason = "stop"};
  auto const use = next_use(talk);
  if (use && is_offered(tools, use->tool)) {
    answer.finish_reason = "tool_calls";
    answer.tool_calls.push_back({.id = fmt::format("call_{}", talk.results.size() + 1),
                                 .name = use->tool,
                                 .arguments = fill(use->arguments, talk.results)});
    // What a tool said may be no part of JSON: then the arguments stay as they were written.
    if (!parse_json(answer.tool_calls[0].arguments, "call"))
      answer.tool_calls[0].arguments = use->arguments;
  } else if (use) {
    answer.content = fmt::format("I was not given the tool {}.", use->tool);
  } else {
    answer.content = final_text(talk);
  }
  std::size_t said = answer.content.size();
  for (ChatToolCall const& call : answer.tool_calls)
    said += call.name.size() + call.arguments.size();
  auto const tokens = [](std::size_t bytes) {
    return (bytes + kBytesPerToken - 1) / kBytesPerToken;
  };
  answer.usage = {.prompt = tokens(talk.bytes), .completion = tokens(said)};
  return answer;
}

std::vector<std::string_view> pieces_of(std::string_view text) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    std::size_t const space = text.find_first_of(" \n", 1);
    pieces.push_back(text.substr(0, space));
    text.remove_prefix(std::min(space, text.size()));
  }
  return pieces;
}

}  // namespace aether::tools
