// SPDX-License-Identifier: Apache-2.0
#include "daemon/known_tools.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/suggest.h"
#include "jobs/graph.h"

namespace aether::daemon {
namespace {

class ToolCheck {
 public:
  explicit ToolCheck(tools::ToolSet const& tools) : tools_(tools) {}

  // NOLINTNEXTLINE(misc-no-recursion): read_graph() has a limit of workflows within workflows.
  void look_at(jobs::Graph const& graph) {
    for (jobs::GraphNode const& node : graph.nodes) {
      if (!node.tool.empty()) look_for(node.tool, node.pointer + "/tool");
      if (node.undo) look_for(node.undo->tool, node.pointer + "/compensate/tool");
      if (node.agent) look_at(*node.agent, node.pointer + "/agent");
      if (node.graph.is_null()) continue;
      jobs::GraphMistakes mistakes;
      look_at(jobs::read_graph(node.graph, mistakes, node.pointer + "/graph"));
    }
  }
  void look_at(jobs::Agent const& agent, std::string const& pointer) {
    for (std::size_t i = 0; i < agent.tools.size(); ++i)
      look_for(agent.tools[i].tool, fmt::format("{}/tools/{}", pointer, i));
  }
  [[nodiscard]] Status result() const {
    if (lacking_.empty()) return {};
    return fail(ErrorCode::RequestInvalid, fmt::format("{}", fmt::join(lacking_, "\n")));
  }

 private:
  void look_for(std::string_view tool, std::string const& place) {
    if (tools_.find(tool) != nullptr) return;
    std::vector<std::string_view> const known = tools_.names();
    lacking_.push_back(fmt::format("{}: there is no tool \"{}\"{}; there is: {}", place, tool,
                                   config::did_you_mean(tool, known), fmt::join(known, ", ")));
  }

  tools::ToolSet const& tools_;
  std::vector<std::string> lacking_;
};

}  // namespace

Status check_tools(jobs::RunSpec const& spec, tools::ToolSet const& tools) {
  ToolCheck check(tools);
  jobs::GraphMistakes mistakes;
  if (!spec.graph.is_null()) check.look_at(jobs::read_graph(spec.graph, mistakes));
  if (!spec.agent.is_null())
    check.look_at(jobs::read_agent(spec.agent, "/agent", mistakes), "/agent");
  return mistakes.empty() ? check.result() : Status();
}

}  // namespace aether::daemon
