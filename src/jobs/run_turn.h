// SPDX-License-Identifier: Apache-2.0
// RunTurn: one turn of a run. What came meanwhile goes in; events, and calls to make once those are
// durable, come out. It decides and records into a batch; it appends nothing and calls nobody.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "jobs/driver.h"
#include "jobs/engine.h"
#include "jobs/run_event_codec.h"
#include "jobs/run_state.h"
#include "jobs/scheduler.h"
#include "tools/tool.h"

namespace aether::jobs {

// What may come to a run from outside.

struct CallEnded {
  std::string effect;
  std::uint32_t turn = 1;
  std::string token;
  tools::CallResult result;
  SettledBy by = SettledBy::Tool;
};
struct AnswerCame {
  std::string path;
  WaitEnd end = WaitEnd::Answered;
  boost::json::value payload;
};
struct ResolutionCame {
  std::string effect;
  Resolution resolution = Resolution::Happened;
  boost::json::value result;
};
struct ControlCame {
  Control control = Control::Pause;
  std::string reason;
  RunId from{};  ///< The run above, which waits no more; its row in view wake goes with it.
};
/// Its time has come, or a child has ended: the state and the clock say what follows.
struct Woken {
  RunId child{};  ///< That has ended; empty: none.
};
using Fact =
    std::variant<CallEnded, SignalReceived, AnswerCame, ResolutionCame, ControlCame, Woken>;

/// A call, or a question what became of one, to be made when the batch is durable.
struct PlannedCall {
  std::string effect;
  std::uint32_t turn = 1;
  std::string token;
  std::string tool;
  tools::Call call;
  bool looks_up = false;
};
struct ChildEnd {
  RunOutcome outcome = RunOutcome::Succeeded;
  boost::json::value output;
  std::string error;
};
/// Who took a business key before.
struct KeyHolder {
  RunId run;
  std::optional<EffectSettled> settled;  ///< Nothing: it has not ended, or nobody knows how.
};

/// What a turn sees of the world beside its run.
struct TurnWorld {
  tools::ToolSet& tools;
  WallTime now;
  Duration call_timeout;
  SaltSource const& salts;
  std::function<std::string()> make_token;
  std::function<RunId()> make_run;
  std::function<Result<std::optional<KeyHolder>>(std::string const& key)> key_holder;
  std::function<Result<std::optional<ChildEnd>>(RunId const&)> child_end;
};
/// What the shell remembers of a run between turns; not truth.
struct TurnMemory {
  std::map<std::string, std::uint32_t> in_flight;  ///< Effects whose calls are under way: turns.
  std::set<std::string> with_worker;               ///< Of those, what the worker calls.
  std::set<std::string> looked_up;                 ///< "effect#turn", asked in vain.
  std::set<std::string> unknown;  ///< Effects settled as unknown that may need a question.
  bool may_begin = true;          ///< False while the engine stops.
};

/// content_hash of what the run is made from.
[[nodiscard]] std::string code_version_of(RunSpec const& spec);

class RunTurn {
 public:
  /// @param driver Null: facts only, nothing is decided (the run is not leased here).
  RunTurn(RunState& state, TurnMemory& memory, Driver const* driver, TurnWorld const& world);

  void set_driver(Driver const* driver) { driver_ = driver; }
  /// The run cannot go on as it is; the message says why.
  [[nodiscard]] Status mark_stuck(std::string why) { return perform(Diverged{std::move(why)}); }
  /// Takes what an earlier process left open: settles it as unknown.
  [[nodiscard]] Status recover();
  /// Invalid requests are answered with an error and change nothing.
  [[nodiscard]] Status apply(std::string const& actor, Fact fact);
  /// What follows from time, signals, children and unknown outcomes; then the driver.
  [[nodiscard]] Status proceed();
  [[nodiscard]] Status record(RunEventBody body, std::string actor = {});

  journal::Batch batch;
  std::vector<PlannedCall> calls;
  std::vector<ReadyRun> children;
  bool cancels_calls = false;
  std::vector<RunId> cancelled_children;
  bool has_more = false;  ///< The batch was full before the driver was done.
  bool is_leased =
      false;  ///< Something may be decided; also without a driver, by the engine alone.

 private:
  Status settle(std::string const& actor, CallEnded ended);
  Status take_signal(std::string const& actor, SignalReceived signal);
  Status take_answer(std::string const& actor, AnswerCame answer);
  Status take_resolution(std::string const& actor, ResolutionCame resolution);
  Status take_control(std::string const& actor, ControlCame control);
  Status forget_wake(RunId const& child);
  void cancel_child(RunId child);

  Status check_time();
  Status check_waits();
  Status check_wait(WaitState const& wait);
  Status ask_about_unknown();
  Status ask_about(EffectState const& effect);
  Status run_driver();
  Status end_cancelled();

  Status perform(BeginStep step);
  Status perform(CallTool call);
  Status perform(AwaitThing thing);
  Status perform(StartChild child);
  Status perform(EndStep step);
  Status perform(EndWait wait);
  Status perform(EndRun end);
  Status perform(Diverged diverged);

  Status intend(CallTool call, EffectState const* before, std::string const& effect,
                std::string hash);
  [[nodiscard]] std::optional<KeyHolder> own_holder(std::string const& business_key) const;
  Status borrow(EffectIntended intent, KeyHolder const& holder);
  Status fail_step(std::string const& path, std::string error);
  [[nodiscard]] std::optional<std::string> over_budget(std::string const& path) const;

  RunState& state_;
  TurnMemory& memory_;
  Driver const* driver_;
  TurnWorld const& world_;
  std::set<std::string> unpaid_;  ///< Steps that a budget ended as they began.
};

}  // namespace aether::jobs
