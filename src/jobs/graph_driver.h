// SPDX-License-Identifier: Apache-2.0
// GraphDriver: walks a TaskGraph. What it decides follows from the graph and the state alone, so a
// crash, a restart or a replay changes nothing. docs/jobs-graphs.md says what each node does.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "jobs/call_step.h"
#include "jobs/driver.h"
#include "jobs/graph.h"

namespace aether::jobs {

/// Where the path of the step that takes another one back ends.
inline constexpr std::string_view kUndoSuffix = "~undo";

class GraphDriver final : public Driver {
 public:
  /// @param prefix Before the path of each step: "" or "plan/".
  explicit GraphDriver(Graph graph, std::string prefix = {});

  [[nodiscard]] std::vector<Decision> decide(RunState const& state) const override;

  [[nodiscard]] Graph const& graph() const { return graph_; }

 private:
  friend class GraphTurn;
  Graph graph_;
  std::string prefix_;
  std::map<std::string, std::size_t, std::less<>> by_id_;
  mutable RunMemory memory_;
};

}  // namespace aether::jobs
