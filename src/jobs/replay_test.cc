// SPDX-License-Identifier: Apache-2.0
#include "jobs/replay.h"

#include <functional>

#include <gtest/gtest.h>

#include "base/json.h"
#include "jobs/fork.h"
#include "jobs/testing_events.h"

namespace aether::jobs {
namespace {

using namespace testing;

/// Two calls beside each other, a wait for a signal after both, and an end.
class TwoCalls final : public Driver {
 public:
  std::string url = "http://bank/";
  boost::json::value output = 7;
  std::string third;  ///< A step that this version of the code has more.

  [[nodiscard]] std::vector<Decision> decide(RunState const& state) const override {
    std::vector<Decision> decisions;
    bool done = true;
    for (std::string const& path : {std::string("a"), std::string("b"), third}) {
      if (path.empty()) continue;
      done = advance(state, path, decisions) && done;
    }
    if (!done) return decisions;
    auto const wait = state.waits.find("w");
    if (wait == state.waits.end()) {
      decisions.emplace_back(BeginStep{.path = "w", .kind = StepKind::Wait, .input = nullptr});
      decisions.emplace_back(
          AwaitThing{.path = "w", .kind = WaitKind::Signal, .name = "paid", .schema = nullptr});
    } else if (!wait->second.open && state.steps.at("w").open) {
      decisions.emplace_back(EndStep{.path = "w", .result = nullptr, .error = {}});
    } else if (!wait->second.open) {
      decisions.emplace_back(
          EndRun{.outcome = RunOutcome::Succeeded, .output = output, .error = {}});
    }
    return decisions;
  }

 private:
  bool advance(RunState const& state, std::string const& path,
               std::vector<Decision>& decisions) const {
    auto const step = state.steps.find(path);
    CallTool call;
    call.path = path;
    call.tool = "http";
    call.args = boost::json::object{{"url", url}};
    if (step == state.steps.end()) {
      decisions.emplace_back(BeginStep{.path = path, .input = nullptr});
      decisions.emplace_back(std::move(call));
      return false;
    }
    auto const effect = state.effects.find(effect_id(state.id, path, "http", 1));
    if (!step->second.open || effect == state.effects.end() || effect->second.open) {
      return !step->second.open;
    }
    EffectSettled const& end = effect->second.settled;
    bool const again = end.outcome == EffectOutcome::NotExecuted;
    if (again) decisions.emplace_back(std::move(call));
    if (end.outcome == EffectOutcome::Ok) {
      decisions.emplace_back(
          EndStep{.path = path, .outcome = StepOutcome::Committed, .result = nullptr, .error = {}});
    }
    return false;
  }
};

std::vector<RunEventBody> whole_run() {
  StepClosed waited = step_end("w", StepOutcome::Pure);
  return {opened(),
          control(Control::Lease, "worker"),
          step("a"),
          intent("a"),
          step("b"),
          intent("b"),
          settled("b"),
          step_end("b"),
          signal("other"),
          settled("a", EffectOutcome::Unknown),
          []() {
            WaitOpened asks = wait("a/outcome.1", WaitKind::Human, "did http happen?");
            asks.effect = effect_of("a");
            return asks;
          }(),
          amended("a", EffectOutcome::NotExecuted),
          wait_end("a/outcome.1"),
          intent("a", Policy::Once, 2),
          settled("a", EffectOutcome::Ok, 2),
          step_end("a"),
          step("w", 1, StepKind::Wait),
          wait("w"),
          signal(),
          wait_end("w"),
          waited,
          closed(RunOutcome::Succeeded, 7)};
}
ReplayReport report_of(std::vector<RunEventBody> bodies, Driver const& driver = TwoCalls()) {
  return or_throw(replay(kRun, driver, history(std::move(bodies))));
}

TEST(Replay, MakesTheSameDecisionsWithoutACall) {
  ReplayReport const report = report_of(whole_run());
  EXPECT_FALSE(report.divergence) << describe(*report.divergence);
  EXPECT_TRUE(report.is_good());
  EXPECT_EQ(report.events, 22U);
  EXPECT_EQ(report.decisions, 11U);
  EXPECT_EQ(report.calls, 0U);
  EXPECT_TRUE(report.closed);
  EXPECT_TRUE(report.same_output);
  EXPECT_EQ(report.output, "7");
}

TEST(Replay, TakesAHistoryThatEndsAnywhere) {
  std::vector<RunEventBody> const all = whole_run();
  for (std::size_t count = 0; count <= all.size(); ++count) {
    std::vector<RunEventBody> const part(all.begin(), all.begin() + static_cast<long>(count));
    ReplayReport const report = report_of(part);
    EXPECT_FALSE(report.divergence) << describe(*report.divergence) << ", of " << count;
    EXPECT_EQ(report.closed, count == all.size());
  }
}

/// The driver of changed code diverges here.
Divergence divergence_of(std::function<void(TwoCalls&)> const& change) {
  TwoCalls driver;
  change(driver);
  ReplayReport const report = report_of(whole_run(), driver);
  EXPECT_TRUE(report.divergence);
  return report.divergence.value_or(Divergence{});
}

TEST(Replay, NamesWhatWasRecordedAndWhatComesNow) {
  Divergence const other_url = divergence_of([](TwoCalls& driver) { driver.url = "http://x/"; });
  EXPECT_EQ(other_url.sequence, 4U);
  EXPECT_TRUE(other_url.recorded.starts_with("effect.intended http in 'a'")) << other_url.recorded;
  EXPECT_TRUE(other_url.recorded.contains(intent("a").args_hash));
  EXPECT_TRUE(other_url.now.starts_with("effect.intended http in 'a'")) << other_url.now;
  EXPECT_FALSE(other_url.now.contains(intent("a").args_hash));
  std::string const text = describe(other_url);
  EXPECT_TRUE(text.contains(other_url.recorded) && text.contains(other_url.now)) << text;

  Divergence const other_output = divergence_of([](TwoCalls& driver) { driver.output = 8; });
  EXPECT_EQ(other_output.sequence, 22U);
  EXPECT_TRUE(other_output.now.starts_with("run.closed succeeded")) << other_output.now;

  Divergence const one_more = divergence_of([](TwoCalls& driver) { driver.third = "c"; });
  EXPECT_EQ(one_more.sequence, 7U) << "what was decided and not recorded is missed where the "
                                      "outside speaks next";
  EXPECT_TRUE(one_more.now.starts_with("step.opened 'c'")) << one_more.now;
}

TEST(Replay, MissesADecisionThatIsNotMadeAnyMore) {
  class Nothing final : public Driver {
    [[nodiscard]] std::vector<Decision> decide(RunState const&) const override { return {}; }
  };
  ReplayReport const report = report_of(whole_run(), Nothing());
  ASSERT_TRUE(report.divergence);
  EXPECT_EQ(report.divergence->sequence, 3U);
  EXPECT_TRUE(report.divergence->now.starts_with("nothing")) << report.divergence->now;
}

TEST(Replay, TakesTheEndOfACancelledRunFromTheRecord) {
  StepClosed ended = step_end("b", StepOutcome::Failed);
  ended.error = "the run ended";
  ReplayReport const report = report_of(
      {opened(), step("a"), intent("a"), step("b"), intent("b"), control(Control::Cancel, "enough"),
       settled("a", EffectOutcome::Unknown), settled("b", EffectOutcome::Unknown),
       step_end("a", StepOutcome::Failed), ended, closed(RunOutcome::Cancelled)});
  EXPECT_FALSE(report.divergence) << describe(*report.divergence);
  EXPECT_TRUE(report.closed);
  EXPECT_TRUE(report.by_engine);
}

TEST(Replay, TakesACallThatABudgetForbadeFromTheRecord) {
  ReplayReport const report =
      report_of({opened(), step("a"), intent("a"), step("b"), step_end("b", StepOutcome::Failed),
                 settled("a"), step_end("a")});
  EXPECT_FALSE(report.divergence) << describe(*report.divergence);
}

TEST(Replay, BeginsBehindTheCopiesOfAFork) {
  std::vector<RunEvent> const source = history(whole_run());
  std::vector<RunEvent> copies = or_throw(fork_prefix(kRun, source, "w", kOtherRun));
  RunOpened opening = opened();
  opening.forked_from = kRun;
  copies.insert(copies.begin(), event(0, opening));
  std::size_t const copied = copies.size() - 1;
  for (RunEventBody body :
       {RunEventBody(step("w", 1, StepKind::Wait)), RunEventBody(wait("w")), RunEventBody(signal()),
        RunEventBody(wait_end("w")), RunEventBody(step_end("w", StepOutcome::Pure)),
        RunEventBody(closed(RunOutcome::Succeeded, 7))}) {
    copies.push_back(event(copies.size(), std::move(body)));
  }
  ReplayReport const report = or_throw(replay(kOtherRun, TwoCalls(), copies));
  EXPECT_FALSE(report.divergence) << describe(*report.divergence);
  EXPECT_EQ(report.copied, copied);
  EXPECT_EQ(report.decisions, 4U);
  EXPECT_TRUE(report.same_output);
}

TEST(Replay, RefusesAHistoryThatDoesNotFold) {
  Result<ReplayReport> const report = replay(kRun, TwoCalls(), history({opened(), settled("a")}));
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code(), ErrorCode::StoreDamaged);
}

}  // namespace
}  // namespace aether::jobs
