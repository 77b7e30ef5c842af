// SPDX-License-Identifier: Apache-2.0
#include "jobs/driver.h"

#include <utility>

#include <fmt/format.h>

#include "jobs/agent_driver.h"
#include "jobs/code_driver.h"
#include "jobs/graph_driver.h"
#include "jobs/planner.h"

namespace aether::jobs {

namespace {

/// Who submits a graph writes out the agents that it names (with_agents), if the names are known.
Status check_agents_known(Graph const& graph) {
  for (GraphNode const& node : graph.nodes) {
    if (node.agent && node.agent->is_code) {
      return fail(ErrorCode::RequestInvalid,
                  fmt::format("{}/agent: the agent \"{}\" is code, which a graph cannot hold; "
                              "submit a job for it",
                              node.pointer, node.agent->name));
    }
    if (!node.agent || !node.agent->is_only_named) continue;
    return fail(ErrorCode::RequestInvalid,
                fmt::format("{}/agent: there is no agent \"{}\" in the configuration", node.pointer,
                            node.agent->name));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Driver>> make_driver(RunOpened const& opening) {
  RunSpec const& spec = opening.spec;
  if (!spec.graph.is_null()) {
    if (!spec.agent.is_null() || !spec.goal.empty())
      return fail(ErrorCode::RequestInvalid,
                  "a job has one of graph, agent and goal, and not more");
    TRY_ASSIGN(Graph graph, parse_graph(spec.graph));
    TRY(check_agents_known(graph));
    return std::make_unique<GraphDriver>(std::move(graph));
  }
  std::optional<Agent> agent;
  if (!spec.agent.is_null()) {
    TRY_ASSIGN(agent, parse_agent(spec.agent));
  }
  if (!spec.goal.empty() && agent && agent->is_code)
    return fail(ErrorCode::RequestInvalid, "an agent with code takes an input, and no goal");
  if (!spec.goal.empty()) return std::make_unique<PlanDriver>(spec.goal, std::move(agent));
  if (agent && agent->is_code) return std::make_unique<CodeDriver>();
  if (agent) return std::make_unique<AgentDriver>(std::move(*agent));
  return fail(ErrorCode::RequestInvalid,
              "a job needs something to do: a graph, an agent, or a goal in words");
}

}  // namespace aether::jobs
