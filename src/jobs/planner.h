// SPDX-License-Identifier: Apache-2.0
// A goal in words becomes a TaskGraph, and the graph is run. The plan is the result of the step
// "plan": it is made once, and recorded; its nodes run as "plan/<id>".
//
// With a model: it is asked for a graph as JSON, and once more with the mistakes if what it gave is
// none. Without one, or when that failed too: by rules (plan_rules.h).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "jobs/agent.h"
#include "jobs/driver.h"
#include "jobs/graph_driver.h"

namespace aether::jobs {

inline constexpr std::string_view kPlanPath = "plan";

/// The graph in an answer of a model: JSON, alone or within a fence of three backticks.
/// RequestInvalid lists what is wrong with it.
[[nodiscard]] Result<boost::json::value> graph_in_answer(std::string_view answer);

class PlanDriver final : public Driver {
 public:
  /// @param planner Whose model plans, and which tools there are; absent: by rules.
  PlanDriver(std::string goal, std::optional<Agent> planner);
  [[nodiscard]] std::vector<Decision> decide(RunState const& state) const override;

 private:
  friend class PlanTurn;
  std::string goal_;
  std::optional<Agent> planner_;
  /// The driver of the plan, made once it is recorded; of the run `planned_for_`.
  mutable std::unique_ptr<GraphDriver> graph_driver_;
  mutable std::string planned_for_;
  mutable RunMemory memory_;
};

}  // namespace aether::jobs
