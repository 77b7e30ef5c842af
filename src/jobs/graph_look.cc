// SPDX-License-Identifier: Apache-2.0
#include "jobs/graph_look.h"

#include <algorithm>
#include <utility>

#include "jobs/graph_wait.h"
#include "jobs/skip.h"

namespace aether::jobs {

namespace json = boost::json;

namespace {

Phase phase_of(StepState const& step) {
  if (step.open) return Phase::Open;
  if (step.outcome == StepOutcome::Retryable) return Phase::Between;
  if (step.outcome == StepOutcome::Failed) return Phase::Failed;
  return skip_reason(step).empty() ? Phase::Ran : Phase::Skipped;
}

}  // namespace

GraphLook::GraphLook(Graph const& graph, Positions const& by_id, std::string const& prefix,
                     RunState const& state)
    : graph_(graph),
      by_id_(by_id),
      prefix_(prefix),
      state_(state),
      phases_(graph.nodes.size(), Phase::Unseen),
      steps_(graph.nodes.size(), nullptr),
      run_value_(json::object{{"id", state.id.text}}) {
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    auto const found = state_.steps.find(path_of(i));
    if (found == state_.steps.end()) continue;
    steps_[i] = &found->second;
    phases_[i] = phase_of(found->second);
    ++recorded_;
    if (phases_[i] == Phase::Failed && (!failed_ || steps_[i]->order < steps_[*failed_]->order))
      failed_ = i;
  }
}

Pace GraphLook::pace() const {
  if (state_.cancel_requested) return Pace::Cancelled;
  return failed_ ? Pace::Ending : Pace::On;
}

bool GraphLook::parents_over(GraphNode const& node) const {
  return std::ranges::all_of(node.parents, [&](NodeParent const& parent) {
    Phase const phase = phases_[parent.node];
    return phase == Phase::Ran || phase == Phase::Skipped;
  });
}

Scope GraphLook::scope() const {
  return [this](std::string_view head) -> json::value const* {
    static json::value const null;
    if (head == "input") return &state_.opening.spec.input;
    if (head == "run") return &run_value_;
    auto const found = by_id_.find(head);
    if (found == by_id_.end()) return nullptr;
    return phases_[found->second] == Phase::Ran ? &steps_[found->second]->result : &null;
  };
}

bool GraphLook::is_taken(NodeParent const& parent) const {
  if (phases_[parent.node] != Phase::Ran) return false;
  GraphNode const& node = graph_.nodes[parent.node];
  json::value const& result = steps_[parent.node]->result;
  bool const decides = node.type == NodeType::Approval || node.type == NodeType::Wait;
  auto const decision = decides ? decision_in(result) : std::string_view();
  switch (parent.edge) {
    case Edge::Ran:
      if (decision == "rejected") return node.on_reject == Unhappy::Continue;
      if (decision == "expired") return node.on_expiry == Unhappy::Continue;
      return true;
    case Edge::Rejected:
      return decision == "rejected";
    case Edge::Expired:
      return decision == "expired";
    case Edge::Then:
      return result.as_object().at("value").as_bool();
    case Edge::Else:
      return !result.as_object().at("value").as_bool();
  }
  return false;
}

bool GraphLook::is_reached(GraphNode const& node) const {
  bool const ordered =
      std::ranges::any_of(node.parents, [](NodeParent const& parent) { return !parent.only_read; });
  if (node.parents.empty()) return true;
  return std::ranges::any_of(node.parents, [&](NodeParent const& parent) {
    return (!ordered || !parent.only_read) && is_taken(parent);
  });
}

NodePlan GraphLook::plan_of(std::size_t i) const {
  GraphNode const& node = graph_.nodes[i];
  NodePlan plan;
  if (!is_reached(node))
    plan.skip = kSkippedByParents;
  else if (node.when && !node.when->holds(scope()))
    plan.skip = kSkippedByWhen;
  if (!plan.skip.empty()) {
    plan.input = skip_input(plan.skip);
    return plan;
  }
  auto with = expand(node.with, scope());
  auto key = expand(json::value(json::string(node.business_key)), scope());
  if (!with || !key) {
    plan.error = with ? key.error().message() : with.error().message();
    plan.input = json::object{{"error", plan.error}};
    return plan;
  }
  plan.with = std::move(*with);
  plan.business_key = text_of_value(*key);
  json::object input{{"type", text_of(node.type)}, {"with", plan.with}};
  if (!node.tool.empty()) input["tool"] = node.tool;
  if (node.test) input["value"] = node.test->holds(scope());
  if (node.type == NodeType::Workflow) input["graph"] = node.graph;
  if (node.agent) input["agent"] = node.agent->name;
  plan.input = std::move(input);
  return plan;
}

}  // namespace aether::jobs
