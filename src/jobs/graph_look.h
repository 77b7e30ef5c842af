// SPDX-License-Identifier: Apache-2.0
// What the state of a run says about each node of its graph, and what a node is to do with what the
// others gave. Inside of this room. Borrows all that it is made of. Pure.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "jobs/call_step.h"
#include "jobs/graph.h"

namespace aether::jobs {

enum class Phase : std::uint8_t {
  Unseen,
  Open,
  Between,  ///< Two attempts.
  Ran,
  Skipped,
  Failed,
};

/// What a node is to do, all references filled in.
struct NodePlan {
  std::string skip;  ///< Why it does not run; empty: it does.
  boost::json::value input;
  boost::json::value with;
  std::string business_key;
  std::string error;  ///< A reference leads nowhere.
};

class GraphLook {
 public:
  using Positions = std::map<std::string, std::size_t, std::less<>>;

  GraphLook(Graph const& graph, Positions const& by_id, std::string const& prefix,
            RunState const& state);

  [[nodiscard]] Phase phase(std::size_t node) const { return phases_[node]; }
  [[nodiscard]] StepState const* step(std::size_t node) const { return steps_[node]; }
  [[nodiscard]] std::size_t recorded() const { return recorded_; }
  /// The node that failed first.
  [[nodiscard]] std::optional<std::size_t> failed() const { return failed_; }
  [[nodiscard]] Pace pace() const;
  [[nodiscard]] std::string path_of(std::size_t node) const {
    return prefix_ + graph_.nodes[node].id;
  }
  /// Whether all that the node waits for has ended well, or was skipped.
  [[nodiscard]] bool parents_over(GraphNode const& node) const;
  [[nodiscard]] Scope scope() const;
  [[nodiscard]] NodePlan plan_of(std::size_t node) const;

 private:
  [[nodiscard]] bool is_taken(NodeParent const& parent) const;
  [[nodiscard]] bool is_reached(GraphNode const& node) const;

  Graph const& graph_;
  Positions const& by_id_;
  std::string const& prefix_;
  RunState const& state_;
  std::vector<Phase> phases_;
  std::vector<StepState const*> steps_;
  boost::json::value run_value_;
  std::optional<std::size_t> failed_;
  std::size_t recorded_ = 0;
};

}  // namespace aether::jobs
