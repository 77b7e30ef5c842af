// SPDX-License-Identifier: Apache-2.0
// Driver: what a run does next. Pure: it sees the state and decides; the engine records what it
// decided, performs the calls when the record is durable, and asks again with what came back.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "jobs/run_state.h"

namespace aether::jobs {

/// A call of a tool in an open step. The engine makes the effect (id, key, token, turn) of it, and
/// applies the policy after crashes, so that no driver can get it wrong. What became of it stands
/// in RunState::effects.
struct CallTool {
  std::string path;
  std::uint32_t occurrence = 1;  ///< Of this tool in this step: a driver that calls again says 2.
  std::string tool;
  boost::json::value args;
  std::optional<Policy> policy;  ///< Absent: the tool's own.
  std::string business_key;
  std::optional<Duration> timeout;
  /// A function of the run's own code: the worker that holds the run calls it once the intent is
  /// durable. `tool` is own_tool() of its name.
  bool by_worker = false;
};
/// A run below this one, waited for at `path` (a wait of kind child is opened with it). The wait is
/// answered with {"outcome", "output", "error"} of that run; ending the wait cancels it.
struct StartChild {
  std::string path;
  RunSpec spec;
};
/// A timer, signal or person; the engine turns `after` into a deadline and closes it when it is
/// over.
struct AwaitThing {
  std::string path;
  WaitKind kind = WaitKind::Timer;
  std::string name;
  std::optional<Duration> after;
  boost::json::value schema;
};
struct BeginStep {
  std::string path;
  StepKind kind = StepKind::Tool;
  std::uint32_t attempt = 1;
  boost::json::value input;
};
struct EndStep {
  std::string path;
  StepOutcome outcome = StepOutcome::Pure;
  boost::json::value result;
  std::string error;
};
struct EndWait {
  std::string path;
  WaitEnd end = WaitEnd::Answered;
};
struct EndRun {
  RunOutcome outcome = RunOutcome::Succeeded;
  boost::json::value output;
  std::string error;
};
/// The recorded history is not what this graph or code does.
struct Diverged {
  std::string message;  ///< Names what was recorded and what came.
};
using Decision =
    std::variant<BeginStep, CallTool, AwaitThing, StartChild, EndStep, EndWait, EndRun, Diverged>;

class Driver {
 public:
  virtual ~Driver() = default;
  /// What follows from the state, in the order in which it is to be recorded; empty if the run
  /// waits for something that is under way. Called again after each change, until it is empty.
  [[nodiscard]] virtual std::vector<Decision> decide(RunState const& state) const = 0;
};

/// The driver that the run's opening asks for: of its graph, its agent, or a planner for its goal.
/// RequestInvalid if it asks for none, or its graph has a mistake (with its place).
[[nodiscard]] Result<std::unique_ptr<Driver>> make_driver(RunOpened const& opening);

}  // namespace aether::jobs
