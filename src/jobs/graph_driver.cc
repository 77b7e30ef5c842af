// SPDX-License-Identifier: Apache-2.0
#include "jobs/graph_driver.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "jobs/agent_driver.h"
#include "jobs/graph_look.h"
#include "jobs/graph_wait.h"

namespace aether::jobs {

namespace json = boost::json;

namespace {

bool is_call(NodeType type) {
  return type == NodeType::Tool || type == NodeType::Llm || type == NodeType::Function;
}

}  // namespace

/// One look at one state.
class GraphTurn {
 public:
  GraphTurn(GraphDriver const& driver, RunState const& state)
      : driver_(driver),
        graph_(driver.graph_),
        state_(state),
        look_(driver.graph_, driver.by_id_, driver.prefix_, state),
        pace_(look_.pace()),
        recorded_(look_.recorded()) {}

  std::vector<Decision> run() {
    for (std::size_t const i : graph_.order) {
      if (!advance(i)) return std::move(decisions_);
    }
    if (auto diverged = unknown_step()) return {std::move(*diverged)};
    if (!decisions_.empty() || !all_quiet()) return std::move(decisions_);
    if (pace_ == Pace::On)
      finish();
    else
      undo();
    return std::move(decisions_);
  }

 private:
  CallStep call_of(std::size_t i, NodePlan plan) const {
    GraphNode const& node = graph_.nodes[i];
    CallStep call;
    call.path = look_.path_of(i);
    call.kind = step_kind_of(node.type);
    call.input = std::move(plan.input);
    call.tool = node.tool;
    call.args = plan.with.is_null() ? json::value(json::object()) : std::move(plan.with);
    call.policy = node.policy;
    call.business_key = std::move(plan.business_key);
    call.timeout = node.timeout;
    call.retry = node.retry;
    return call;
  }

  /// False if the history is not that of this graph: then nothing else is decided.
  bool advance(std::size_t i) {
    GraphNode const& node = graph_.nodes[i];
    std::string const path = look_.path_of(i);
    if (look_.phase(i) == Phase::Unseen) {
      if (pace_ == Pace::On && look_.parents_over(node)) begin(i, look_.plan_of(i));
      return true;
    }
    if (auto diverged = check(i, path)) {
      decisions_.assign(1, std::move(*diverged));
      return false;
    }
    if (node.type == NodeType::Agent) return advance_agent_node(i, path);
    if (look_.phase(i) == Phase::Between || (look_.phase(i) == Phase::Open && is_call(node.type)))
      advance_call(state_, call_of(i, look_.plan_of(i)), pace_, driver_.memory_, decisions_);
    else if (look_.phase(i) == Phase::Open)
      advance_other(i, path);
    return true;
  }

  std::optional<Diverged> check(std::size_t i, std::string const& path) {
    GraphNode const& node = graph_.nodes[i];
    if (!look_.parents_over(node)) {
      return Diverged{
          fmt::format("the step \"{}\" was recorded before the steps that it waits for "
                      "now; resume with the graph that recorded it, or fork",
                      path)};
    }
    return driver_.memory_.compare(path, *look_.step(i), step_kind_of(node.type),
                                   [&] { return look_.plan_of(i).input; });
  }

  void begin(std::size_t i, NodePlan plan) {
    GraphNode const& node = graph_.nodes[i];
    std::string const path = look_.path_of(i);
    StepKind const kind = step_kind_of(node.type);
    if (plan.skip.empty() && plan.error.empty() && is_call(node.type)) {
      begin_call(call_of(i, std::move(plan)), decisions_);
      return;
    }
    decisions_.emplace_back(BeginStep{path, kind, 1, plan.input});
    if (node.type != NodeType::Agent || !plan.skip.empty() || !plan.error.empty())
      follow(i, path, plan);
  }

  /// What comes right behind the opening of a step that calls nothing itself.
  void follow(std::size_t i, std::string const& path, NodePlan const& plan) {
    GraphNode const& node = graph_.nodes[i];
    if (!plan.skip.empty())
      decisions_.emplace_back(EndStep{path, StepOutcome::Pure, plan.input, {}});
    else if (!plan.error.empty())
      decisions_.emplace_back(EndStep{path, StepOutcome::Failed, {}, plan.error});
    else if (node.type == NodeType::Condition)
      decisions_.emplace_back(
          EndStep{path, StepOutcome::Pure, json::object{{"value", plan.input.at("value")}}, {}});
    else if (node.type == NodeType::Value)
      decisions_.emplace_back(EndStep{path, StepOutcome::Pure, plan.with, {}});
    else
      decisions_.push_back(wait_of(node, path, plan.with, state_.opening.spec));
  }

  void advance_other(std::size_t i, std::string const& path) {
    auto const wait = state_.waits.find(path);
    if (wait == state_.waits.end()) {
      if (pace_ == Pace::On)
        follow(i, path, look_.plan_of(i));
      else
        decisions_.emplace_back(give_up(path));
    } else if (!wait->second.open) {
      decisions_.emplace_back(end_of_wait(graph_.nodes[i], path, wait->second));
    } else if (pace_ != Pace::On) {
      decisions_.emplace_back(EndWait{path, WaitEnd::Cancelled});
      decisions_.emplace_back(give_up(path));
    }
  }

  static EndStep give_up(std::string const& path) {
    return {path, StepOutcome::Failed, {}, "the run ended before this was over"};
  }

  bool advance_agent_node(std::size_t i, std::string const& path) {
    GraphNode const& node = graph_.nodes[i];
    NodePlan const plan = look_.plan_of(i);
    if (!plan.skip.empty()) {
      if (look_.phase(i) == Phase::Open) follow(i, path, plan);
      return true;
    }
    AgentProgress progress =
        advance_agent(state_, *node.agent, plan.with, path + "/", pace_, driver_.memory_);
    recorded_ += progress.steps;
    for (Decision& decision : progress.decisions) {
      if (std::holds_alternative<Diverged>(decision)) {
        decisions_.assign(1, std::move(decision));
        return false;
      }
      if (look_.phase(i) == Phase::Open) decisions_.push_back(std::move(decision));
    }
    if (look_.phase(i) != Phase::Open || !progress.decisions.empty() || has_open_below(path))
      return true;
    if (progress.output)
      decisions_.emplace_back(
          EndStep{path, StepOutcome::Committed, std::move(*progress.output), {}});
    else if (!progress.error.empty())
      decisions_.emplace_back(EndStep{path, StepOutcome::Failed, {}, std::move(progress.error)});
    else if (pace_ != Pace::On)
      decisions_.emplace_back(give_up(path));
    return true;
  }
  [[nodiscard]] bool has_open_below(std::string const& path) const {
    auto const next = state_.open_steps.lower_bound(path + "/");
    return next != state_.open_steps.end() && next->starts_with(path + "/");
  }

  /// A recorded step that the graph does not have.
  std::optional<Diverged> unknown_step() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i)
      if (graph_.nodes[i].undo && state_.steps.contains(undo_path(i))) ++recorded_;
    bool const planned = !driver_.prefix_.empty();
    if (recorded_ + (planned ? 1 : 0) == state_.steps.size()) return std::nullopt;
    for (auto const& [path, step] : state_.steps) {
      if (!path.starts_with(driver_.prefix_) || belongs(path)) continue;
      return Diverged{fmt::format(
          "the history has a step \"{}\" ({}), which the graph does not have now; resume with the "
          "graph that recorded it, or fork from a step before",
          path, text_of(step.kind))};
    }
    return std::nullopt;
  }
  [[nodiscard]] bool belongs(std::string_view path) const {
    std::string_view const inner = path.substr(driver_.prefix_.size());
    auto const end = std::min(inner.find_first_of("/~"), inner.size());
    auto const found = driver_.by_id_.find(inner.substr(0, end));
    if (found == driver_.by_id_.end()) return false;
    GraphNode const& node = graph_.nodes[found->second];
    std::string_view const rest = inner.substr(end);
    if (rest.starts_with('/')) return node.agent.has_value();
    return rest.empty() || (rest == kUndoSuffix && node.undo);
  }

  /// Nothing is under way any more.
  [[nodiscard]] bool all_quiet() const {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (look_.phase(i) == Phase::Open) return false;
      if (look_.phase(i) == Phase::Between &&
          !is_over(state_, look_.path_of(i), *look_.step(i), pace_))
        return false;
    }
    return true;
  }

  void finish() {
    if (graph_.output.is_null()) {
      json::object output;
      for (std::size_t i = 0; i < graph_.nodes.size(); ++i)
        if (graph_.nodes[i].is_leaf && look_.phase(i) == Phase::Ran)
          output[graph_.nodes[i].id] = look_.step(i)->result;
      decisions_.emplace_back(EndRun{RunOutcome::Succeeded, std::move(output), {}});
      return;
    }
    auto output = expand(graph_.output, look_.scope());
    if (output)
      decisions_.emplace_back(EndRun{RunOutcome::Succeeded, std::move(*output), {}});
    else
      decisions_.emplace_back(
          EndRun{RunOutcome::Failed, {}, "output: " + output.error().message()});
  }

  [[nodiscard]] std::string undo_path(std::size_t i) const {
    return look_.path_of(i) + std::string(kUndoSuffix);
  }

  /// Takes back what was done, the last first, one after the other; then ends the run.
  void undo() {
    std::vector<std::size_t> done;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i)
      if (graph_.nodes[i].undo && look_.phase(i) == Phase::Ran) done.push_back(i);
    std::ranges::sort(done, [&](std::size_t a, std::size_t b) {
      return look_.step(a)->order > look_.step(b)->order;
    });
    std::string left;
    for (std::size_t const i : done) {
      if (!undo_one(i)) return;
      StepState const& step = state_.steps.find(undo_path(i))->second;
      if (!succeeded(step))
        left += fmt::format("; {} could not be taken back: {}", graph_.nodes[i].id, step.error);
    }
    RunOutcome outcome = RunOutcome::Failed;
    if (!done.empty() && left.empty()) outcome = RunOutcome::Compensated;
    if (state_.cancel_requested) outcome = RunOutcome::Cancelled;
    std::string error = state_.cancel_reason;
    if (auto const failed = look_.failed(); failed && !state_.cancel_requested)
      error = fmt::format("{}: {}", graph_.nodes[*failed].id, look_.step(*failed)->error);
    if (error.empty()) error = "the run was cancelled";
    decisions_.emplace_back(EndRun{outcome, {}, error + left});
  }

  /// Whether it is over, with or without success.
  bool undo_one(std::size_t i) {
    Undo const& how = *graph_.nodes[i].undo;
    CallStep call;
    call.path = undo_path(i);
    call.kind = StepKind::Compensation;
    call.tool = how.tool;
    call.policy = how.policy;
    call.timeout = how.timeout;
    call.retry = how.retry;
    call.success = StepOutcome::Compensated;
    auto with = expand(how.with, look_.scope());
    call.args = with ? std::move(*with) : json::value();
    if (with && call.args.is_null()) call.args = json::object();
    call.input = with ? json::object{{"tool", how.tool}, {"with", call.args}}
                      : json::object{{"error", with.error().message()}};
    auto const step = state_.steps.find(call.path);
    if (step != state_.steps.end()) {
      auto diverged =
          driver_.memory_.compare(call.path, step->second, call.kind, [&] { return call.input; });
      if (diverged) {
        decisions_.assign(1, std::move(*diverged));
        return false;
      }
      if (is_over(state_, call.path, step->second, Pace::On)) return true;
      advance_call(state_, call, Pace::On, driver_.memory_, decisions_);
      return false;
    }
    if (with) {
      begin_call(call, decisions_);
      return false;
    }
    decisions_.emplace_back(BeginStep{call.path, call.kind, 1, call.input});
    decisions_.emplace_back(EndStep{call.path, StepOutcome::Failed, {}, with.error().message()});
    return false;
  }

  GraphDriver const& driver_;
  Graph const& graph_;
  RunState const& state_;
  GraphLook look_;
  Pace pace_;
  std::size_t recorded_;
  std::vector<Decision> decisions_;
};

GraphDriver::GraphDriver(Graph graph, std::string prefix)
    : graph_(std::move(graph)), prefix_(std::move(prefix)) {
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) by_id_.emplace(graph_.nodes[i].id, i);
}

std::vector<Decision> GraphDriver::decide(RunState const& state) const {
  if (state.closing) return {};
  return GraphTurn(*this, state).run();
}

}  // namespace aether::jobs
