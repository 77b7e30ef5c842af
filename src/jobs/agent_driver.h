// SPDX-License-Identifier: Apache-2.0
// The loop of an agent: ask the model, make the calls it asks for, tell it what came of them, until
// it answers in words. Steps "model.N" and "tool.N.M": every call is recorded. Pure.
//
// Messages are those of OpenAI's chat completions. What a tool answers, and that it failed, goes
// back to the model; so does a tool that it does not have, and arguments that do not fit.
#pragma once
#include <optional>
#include <string>
#include <utility>

#include "jobs/agent.h"
#include "jobs/call_step.h"
#include "jobs/driver.h"

namespace aether::jobs {

/// What a call of the llm tool says, as the assistant's message; nothing if there is none in it.
[[nodiscard]] std::optional<boost::json::object> message_of(boost::json::value const& result);
/// The words of a message; "" if it has none.
[[nodiscard]] std::string content_of(boost::json::object const& message);
/// What an agent is given first: instructions, and the input as the user's message.
[[nodiscard]] boost::json::array first_messages(Agent const& agent,
                                                boost::json::value const& input);

/// How far an agent is.
struct AgentProgress {
  std::vector<Decision> decisions;
  std::optional<boost::json::value> output;  ///< It answered: {"text", "iterations"}.
  std::string error;                         ///< It failed; empty: it goes on, or it answered.
  std::size_t steps = 0;                     ///< Recorded ones that belong to it.
};
/// @param prefix Before its steps: "" for a run of its own, "NODE/" within a graph.
[[nodiscard]] AgentProgress advance_agent(RunState const& state, Agent const& agent,
                                          boost::json::value const& input,
                                          std::string const& prefix, Pace pace, RunMemory& memory);

class AgentDriver final : public Driver {
 public:
  explicit AgentDriver(Agent agent) : agent_(std::move(agent)) {}
  [[nodiscard]] std::vector<Decision> decide(RunState const& state) const override;

 private:
  Agent agent_;
  mutable RunMemory memory_;
};

}  // namespace aether::jobs
