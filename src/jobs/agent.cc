// SPDX-License-Identifier: Apache-2.0
#include "jobs/agent.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "jobs/expand.h"
#include "jobs/run_event.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 10> kAgentMembers{
    "name",   "model",   "instructions", "tools",       "max_iterations",
    "policy", "timeout", "options",      "description", "code"};
constexpr std::array<std::string_view, 7> kAgentToolMembers{
    "name", "tool", "description", "parameters", "with", "policy", "timeout"};

/// What chat completions take as the name of a function.
bool is_tool_name(std::string_view name) {
  constexpr std::size_t longest = 64;
  return !name.empty() && name.size() <= longest && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

std::optional<Policy> agent_policy(MemberReader& members) {
  auto const word = members.text("policy");
  if (!word) return std::nullopt;
  auto policy = tools::parse_policy(*word);
  if (policy) return *policy;
  members.mistake("policy", policy.error().message());
  return std::nullopt;
}

void check_tool_texts(AgentTool const& tool, std::string const& pointer, GraphMistakes& mistakes) {
  visit_texts(tool.with, pointer + "/with", [&](std::string_view text, std::string const& where) {
    auto const pieces = parse_pieces(text);
    if (!pieces) {
      mistakes.add(where, pieces.error().message());
      return;
    }
    for (TextPiece const& piece : *pieces) {
      if (piece.reference && piece.reference->head != "args")
        mistakes.add(where, fmt::format("{}: a tool of an agent knows only ${{args.NAME}}, what "
                                        "the model gave",
                                        piece.reference->text));
    }
  });
}

AgentTool read_agent_tool(json::value const& value, std::string const& pointer,
                          GraphMistakes& mistakes) {
  AgentTool tool;
  if (auto const* name = value.if_string()) {
    tool.name = std::string(name->data(), name->size());
    tool.tool = tool.name;
  } else {
    MemberReader members(value, pointer, "a tool", mistakes);
    if (!members.is_object()) return tool;
    members.expect_only(kAgentToolMembers);
    tool.tool = members.text("tool").value_or("");
    tool.name = members.text("name").value_or(tool.tool);
    if (tool.tool.empty()) tool.tool = tool.name;
    tool.description = members.text("description").value_or("");
    if (auto const* parameters = members.find("parameters")) tool.parameters = *parameters;
    if (!tool.parameters.is_null() && !tool.parameters.is_object())
      members.mistake("parameters", "parameters must be a JSON Schema: {type: object, ...}");
    if (auto const* with = members.find("with")) tool.with = *with;
    tool.policy = agent_policy(members);
    tool.timeout = members.duration("timeout");
  }
  if (!is_tool_name(tool.name))
    mistakes.add(pointer, "a tool needs a name of letters, digits, _ and -, at most 64");
  check_tool_texts(tool, pointer, mistakes);
  return tool;
}

void read_agent_tools(MemberReader& members, Agent& agent, GraphMistakes& mistakes) {
  json::value const* tools = members.find("tools");
  if (tools == nullptr) return;
  auto const* list = tools->if_array();
  if (list == nullptr || list->size() > kAgentToolsMax) {
    members.mistake("tools", fmt::format("tools must be a list of at most {}", kAgentToolsMax));
    return;
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    std::string const pointer = members.pointer_of("tools") + "/" + std::to_string(i);
    AgentTool tool = read_agent_tool((*list)[i], pointer, mistakes);
    if (!tool.name.empty() && agent.find(tool.name) != nullptr)
      mistakes.add(pointer, fmt::format("the tool \"{}\" is given twice", tool.name));
    agent.tools.push_back(std::move(tool));
  }
}

}  // namespace

AgentTool const* Agent::find(std::string_view tool_name) const {
  auto const found = std::ranges::find(tools, tool_name, &AgentTool::name);
  return found == tools.end() ? nullptr : &*found;
}

Agent read_agent(json::value const& value, std::string const& pointer, GraphMistakes& mistakes) {
  Agent agent;
  MemberReader members(value, pointer, "an agent", mistakes);
  if (!members.is_object()) return agent;
  members.expect_only(kAgentMembers);
  agent.name = members.text("name").value_or(agent.name);
  agent.model = members.text("model").value_or("");
  agent.instructions = members.text("instructions").value_or("");
  agent.max_iterations = static_cast<int>(
      members.integer("max_iterations", 1, kAgentIterationsMax).value_or(kAgentIterationsDefault));
  agent.policy = agent_policy(members);
  agent.timeout = members.duration("timeout");
  if (auto const* options = members.find("options")) {
    if (options->is_object())
      agent.options = options->get_object();
    else
      members.mistake("options", "options must be an object: they go to the llm tool as they are");
  }
  if (auto const* code = members.find("code")) {
    agent.is_code = code->is_bool() && code->get_bool();
    if (!code->is_bool()) members.mistake("code", "code is neither true nor false");
  }
  read_agent_tools(members, agent, mistakes);
  return agent;
}

Result<Agent> parse_agent(json::value const& value) {
  GraphMistakes mistakes;
  Agent agent = read_agent(value, {}, mistakes);
  if (!mistakes.empty()) return fail(ErrorCode::RequestInvalid, mistakes.lines());
  return agent;
}

std::string code_agent(RunSpec const& spec) {
  auto const* declared = spec.agent.if_object();
  if (declared == nullptr || !spec.goal.empty()) return {};
  auto const* code = declared->if_contains("code");
  auto const* name = declared->if_contains("name");
  bool const is_code = code != nullptr && code->is_bool() && code->get_bool();
  if (!is_code || name == nullptr || !name->is_string()) return {};
  return std::string(name->get_string());
}

json::array tools_for_model(Agent const& agent) {
  json::array tools;
  for (AgentTool const& tool : agent.tools) {
    json::value const any = json::object{{"type", "object"}};
    json::object function;
    function["name"] = tool.name;
    if (!tool.description.empty()) function["description"] = tool.description;
    function["parameters"] = tool.parameters.is_null() ? any : tool.parameters;
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return tools;
}

}  // namespace aether::jobs
