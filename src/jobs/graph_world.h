// SPDX-License-Identifier: Apache-2.0
// A world for tests of drivers: records what they decide by the real fold, and answers calls and
// waits in an order that chance gives. Each event must obey the laws of runs.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/chance.h"
#include "jobs/driver.h"
#include "jobs/ids.h"

namespace aether::jobs::testing {

namespace json = boost::json;

inline json::value parsed(std::string_view text) {
  return or_throw(parse_json(text, "test"));
}

/// What the other side says to a call; `settled.effect` and `turn` are filled in.
using Answer = std::function<EffectSettled(EffectIntended const& intent)>;
/// How a wait ends. `end` Cancelled: it stays open.
using WaitAnswer = std::function<WaitClosed(WaitOpened const& opening)>;

inline EffectSettled says_ok(json::value result) {
  EffectSettled settled;
  settled.result = std::move(result);
  return settled;
}
inline EffectSettled says_no(std::string error, bool retryable = false) {
  EffectSettled settled;
  settled.outcome = EffectOutcome::Error;
  settled.error = std::move(error);
  settled.retryable = retryable;
  return settled;
}

class GraphWorld {
 public:
  explicit GraphWorld(RunSpec spec, std::uint64_t seed = 1) : chance_(seed) {
    opening_.spec = std::move(spec);
    begin();
  }

  Answer answer = [](EffectIntended const& intent) { return says_ok(intent.args); };
  WaitAnswer end_wait = [](WaitOpened const& /*opening*/) { return WaitClosed{}; };
  int restart_one_in = 0;  ///< The driver is made anew so often; 0: never.

  RunState state;
  std::vector<RunEvent> history;
  std::vector<std::string> calls;  ///< Paths, in the order in which they were made.

  /// Until the run is closed, or nothing is under way any more.
  void run() {
    for (int turn = 0; turn < 100'000; ++turn) {
      settle_decisions();
      if (state.closing || !state.stuck.empty() || !one_answer()) return;
    }
    ADD_FAILURE() << "the run does not end";
  }

  /// All that follows from the state.
  void settle_decisions() {
    for (int round = 0; round < 10'000; ++round) {
      if (restart_one_in > 0 && chance_.one_in(static_cast<std::uint64_t>(restart_one_in)))
        driver_ = make();
      auto const decisions = driver_->decide(state);
      if (decisions.empty() || state.closing) return;
      for (Decision const& decision : decisions)
        std::visit([&](auto const& what) { perform(what); }, decision);
      if (!state.stuck.empty() || ::testing::Test::HasFailure()) return;
    }
    ADD_FAILURE() << "the driver never has enough";
  }

  void cancel() { record(RunControlled{.control = Control::Cancel, .reason = "enough"}); }

  /// Answers one call or ends one wait, whichever chance picks; false if there is none.
  bool one_answer() {
    std::vector<std::string> ready(state.open_effects.begin(), state.open_effects.end());
    for (std::string const& path : state.open_waits)
      if (closing_of(path).end != WaitEnd::Cancelled) ready.push_back("wait:" + path);
    if (ready.empty()) return false;
    std::string const& picked = ready[chance_.below(ready.size())];
    if (picked.starts_with("wait:")) {
      record(closing_of(picked.substr(5)));
      return true;
    }
    EffectState const& effect = state.effects.find(picked)->second;
    EffectSettled settled = answer(effect.intent);
    settled.effect = picked;
    settled.turn = effect.intent.turn;
    record(settled);
    return true;
  }

  void record(RunEventBody body) {
    RunEvent event;
    event.at = WallTime(std::chrono::milliseconds(++clock_));
    event.body = std::move(body);
    Status const folded = fold(state, event);
    EXPECT_TRUE(folded) << folded.error().message();
    history.push_back(std::move(event));
  }

  /// The decisions of a new driver at every prefix lead to the events that follow it.
  void check_replay() {
    auto const all = history;
    RunState again;
    again.id = state.id;
    for (std::size_t i = 0; i < all.size(); ++i) {
      bool const is_decided = std::holds_alternative<StepOpened>(all[i].body) ||
                              std::holds_alternative<StepClosed>(all[i].body);
      if (is_decided) {
        auto const decisions = make()->decide(again);
        ASSERT_FALSE(decisions.empty()) << "at event " << i;
        ASSERT_FALSE(std::holds_alternative<Diverged>(decisions[0]))
            << std::get<Diverged>(decisions[0]).message;
      }
      ASSERT_TRUE(fold(again, all[i]));
    }
    EXPECT_TRUE(make()->decide(again).empty());
  }

 private:
  std::unique_ptr<Driver> make() const { return or_throw(make_driver(opening_)); }

  void begin() {
    state.id = RunId{"01234567-89ab-7cde-8f01-23456789abcd"};
    record(opening_);
    driver_ = make();
  }

  WaitClosed closing_of(std::string const& path) {
    WaitClosed closing = end_wait(state.waits.find(path)->second.opening);
    closing.path = path;
    return closing;
  }

  void perform(BeginStep const& step) {
    record(
        StepOpened{step.path, step.kind, step.attempt, content_hash(canonical_json(step.input))});
  }
  void perform(CallTool const& call) {
    std::string const id = effect_id(state.id, call.path, call.tool, call.occurrence);
    auto const before = state.effects.find(id);
    EffectIntended intent;
    intent.effect = id;
    intent.turn = before == state.effects.end() ? 1 : before->second.intent.turn + 1;
    intent.path = call.path;
    intent.tool = call.tool;
    intent.args = call.args;
    intent.args_hash = content_hash(canonical_json(call.args));
    intent.policy = call.policy.value_or(Policy::Once);
    intent.business_key = call.business_key;
    if (before != state.effects.end())
      EXPECT_NE(before->second.settled.outcome, EffectOutcome::Ok) << "twice: " << call.path;
    calls.push_back(call.path);
    record(std::move(intent));
  }
  void perform(AwaitThing const& thing) {
    WaitOpened opening;
    opening.path = thing.path;
    opening.kind = thing.kind;
    opening.name = thing.name;
    record(std::move(opening));
  }
  void perform(StartChild const& child) {
    WaitOpened opening;
    opening.path = child.path;
    opening.kind = WaitKind::Child;
    opening.name = child.spec.name;
    record(std::move(opening));
  }
  void perform(EndStep const& step) {
    record(StepClosed{step.path, state.steps.at(step.path).attempt, step.outcome, step.result,
                      step.error});
  }
  void perform(EndWait const& wait) { record(WaitClosed{wait.path, wait.end, {}, {}}); }
  void perform(EndRun const& run) { record(RunClosed{run.outcome, run.output, run.error}); }
  void perform(Diverged const& diverged) { state.stuck = diverged.message; }

  RunOpened opening_;
  Chance chance_;
  std::unique_ptr<Driver> driver_;
  std::int64_t clock_ = 0;
};

inline RunSpec spec_of(std::string_view graph, std::string_view input = "null") {
  RunSpec spec;
  spec.graph = parsed(graph);
  spec.input = parsed(input);
  return spec;
}

}  // namespace aether::jobs::testing
