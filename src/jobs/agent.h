// SPDX-License-Identifier: Apache-2.0
// Agent: a model with instructions and tools, declared without code. Read from a value, so that a
// run keeps the declaration as it was when it began.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/time.h"
#include "jobs/graph_mistake.h"
#include "jobs/policy.h"

namespace aether::jobs {

inline constexpr int kAgentIterationsMax = 1000;
inline constexpr int kAgentIterationsDefault = 10;
inline constexpr std::size_t kAgentToolsMax = 128;

/// What a model may ask for: one of Aether's tools, with arguments that it fills in.
struct AgentTool {
  std::string name;               ///< By which the model knows it.
  std::string tool;               ///< Aether's; the name, if the declaration says no other.
  std::string description;        ///< For the model.
  boost::json::value parameters;  ///< JSON Schema of the arguments; null: any object.
  boost::json::value with;        ///< Absent (null): the model's arguments as they are. Else the
                                  ///< tool's arguments, with ${args.name} for what the model gave.
  std::optional<Policy> policy;
  std::optional<Duration> timeout;
};

struct Agent {
  std::string name = "agent";
  bool is_only_named = false;  ///< In a graph, before with_agents() wrote it out.
  bool is_code = false;        ///< Workers do it; nothing else is said of it here.
  std::string model;           ///< Empty: the one that the llm tool has by default.
  std::string instructions;
  std::vector<AgentTool> tools;
  int max_iterations = kAgentIterationsDefault;  ///< Calls of the model.
  std::optional<Policy> policy;                  ///< Of the model's calls; absent: the llm tool's.
  std::optional<Duration> timeout;               ///< Of one call of the model.
  boost::json::object options;                   ///< Passed to the llm tool as they are.

  [[nodiscard]] AgentTool const* find(std::string_view tool_name) const;
};

/// `{name, model, instructions, tools: [NAME | {name, tool, description, parameters, with, policy,
/// timeout}], max_iterations, policy, timeout, options}`. Mistakes are added with their pointers
/// below `pointer`; what comes back is to be used only if there were none.
[[nodiscard]] Agent read_agent(boost::json::value const& value, std::string const& pointer,
                               GraphMistakes& mistakes);
/// RequestInvalid lists the mistakes.
[[nodiscard]] Result<Agent> parse_agent(boost::json::value const& value);

/// The tools as OpenAI's chat completions want them.
[[nodiscard]] boost::json::array tools_for_model(Agent const& agent);

struct RunSpec;
/// The name of the agent with code whose workers do such a run; empty: it is done here.
[[nodiscard]] std::string code_agent(RunSpec const& spec);

}  // namespace aether::jobs
