// SPDX-License-Identifier: Apache-2.0
// A driver for tests and the benchmark: steps one after the other, as a list says.
//
//   [{"call": "count", "path": "a", "args": {}, "policy": "keyed", "business": "k"},
//    {"wait": "signal", "path": "s", "name": "go", "ms": 50},
//    {"child": [...], "path": "c"}]
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "jobs/driver.h"

namespace aether::jobs::testing {

namespace json = boost::json;

class LineDriver final : public Driver {
 public:
  explicit LineDriver(json::array line) {
    for (json::value const& value : line) {
      Node node;
      node.value = value.as_object();
      node.path = text(node.value, "path");
      nodes_.push_back(std::move(node));
    }
  }

  [[nodiscard]] std::vector<Decision> decide(RunState const& state) const override {
    std::vector<Decision> decisions;
    if (state.closed_steps > 0 && state.closed_steps <= nodes_.size()) {
      StepState const& last = state.steps.find(nodes_[state.closed_steps - 1].path)->second;
      if (last.outcome == StepOutcome::Failed) {
        end_failed(state, last, decisions);
        return decisions;
      }
    }
    for (std::size_t at = state.closed_steps; at < nodes_.size() + 1; ++at) {
      // Closed steps are a prefix: this many nodes have ended.
      if (at == nodes_.size()) {
        decisions.emplace_back(EndRun{.outcome = RunOutcome::Succeeded, .output = at, .error = {}});
        break;
      }
      Node const& node = nodes_[at];
      auto const step = state.steps.find(node.path);
      if (step != state.steps.end() && !step->second.open) {
        end_failed(state, step->second, decisions);
        break;
      }
      if (state.cancel_requested) break;
      if (step == state.steps.end()) {
        decisions.emplace_back(BeginStep{.path = node.path, .kind = kind_of(node), .input = {}});
        begin(node, decisions);
        break;
      }
      if (!go_on(state, node, decisions)) break;
      auto const* ended = std::get_if<EndStep>(&decisions.back());
      if (ended != nullptr && ended->outcome == StepOutcome::Failed) {
        decisions.emplace_back(
            EndRun{.outcome = RunOutcome::Failed, .output = {}, .error = ended->error});
        break;
      }
    }
    return decisions;
  }

 private:
  struct Node {
    json::object value;
    std::string path;
  };
  static std::string text(json::object const& value, char const* name) {
    json::value const* found = value.if_contains(name);
    return found == nullptr ? std::string() : std::string(found->as_string());
  }
  static StepKind kind_of(Node const& node) {
    return node.value.contains("call") ? StepKind::Tool : StepKind::Wait;
  }
  static void end_failed(RunState const& /*state*/, StepState const& step,
                         std::vector<Decision>& decisions) {
    decisions.emplace_back(
        EndRun{.outcome = RunOutcome::Failed, .output = {}, .error = step.error});
  }
  static void call(Node const& node, std::vector<Decision>& decisions) {
    CallTool call{.path = node.path, .tool = text(node.value, "call"), .args = {}};
    if (auto const* args = node.value.if_contains("args")) call.args = *args;
    std::string const policy = text(node.value, "policy");
    if (!policy.empty()) call.policy = *tools::parse_policy(policy);
    call.business_key = text(node.value, "business");
    decisions.emplace_back(std::move(call));
  }
  static void begin(Node const& node, std::vector<Decision>& decisions) {
    if (node.value.contains("call")) return call(node, decisions);
    if (node.value.contains("child")) {
      RunSpec spec;
      spec.name = "child";
      spec.graph = node.value.at("child");
      decisions.emplace_back(StartChild{.path = node.path, .spec = std::move(spec)});
      return;
    }
    AwaitThing thing{.path = node.path,
                     .kind = *parse_word<WaitKind>(text(node.value, "wait")),
                     .name = text(node.value, "name"),
                     .schema = {}};
    if (auto const* ms = node.value.if_contains("ms"))
      thing.after = std::chrono::milliseconds(ms->as_int64());
    decisions.emplace_back(std::move(thing));
  }
  /// An open step: true if it was ended.
  static bool go_on(RunState const& state, Node const& node, std::vector<Decision>& decisions) {
    EndStep end{.path = node.path, .outcome = StepOutcome::Committed, .result = {}};
    if (!node.value.contains("call")) {
      WaitState const& wait = state.waits.find(node.path)->second;
      if (wait.open) return false;
      bool const good = wait.closing.end != WaitEnd::Rejected;
      end.outcome = good ? StepOutcome::Pure : StepOutcome::Failed;
      end.error = good ? "" : "rejected";
      end.result = wait.closing.payload;
      decisions.emplace_back(std::move(end));
      return true;
    }
    std::string const id = effect_id(state.id, node.path, text(node.value, "call"), 1);
    auto const found = state.effects.find(id);
    if (found == state.effects.end() || found->second.open) return false;
    EffectSettled const& settled = found->second.settled;
    Policy const policy = found->second.intent.policy;
    bool const repeats = policy == Policy::Read || policy == Policy::Keyed;
    bool const unknown = settled.outcome == EffectOutcome::Unknown;
    if (unknown && !repeats) return false;
    bool const again =
        (unknown && settled.by == SettledBy::Recovery) ||
        (settled.outcome == EffectOutcome::NotExecuted && settled.by != SettledBy::Tool);
    if (again) {
      call(node, decisions);
      return false;
    }
    bool const good = settled.outcome == EffectOutcome::Ok;
    end.outcome = good ? StepOutcome::Committed : StepOutcome::Failed;
    end.error = settled.error;
    end.result = settled.result;
    decisions.emplace_back(std::move(end));
    return true;
  }

  std::vector<Node> nodes_;
};

inline Result<std::unique_ptr<Driver>> make_line_driver(RunOpened const& opening) {
  if (!opening.spec.graph.is_array())
    return fail(ErrorCode::RequestInvalid, "the graph is not a list");
  return std::make_unique<LineDriver>(opening.spec.graph.as_array());
}

}  // namespace aether::jobs::testing
