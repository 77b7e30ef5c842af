// SPDX-License-Identifier: Apache-2.0
// What falls to the engine of the guarantees of durable work, on the memory journal.
#include "jobs/engine.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "jobs/engine_rig.h"

namespace aether::jobs {
namespace {

using testing::Rig;

constexpr char const* kTwoCalls = R"([{"call": "count", "path": "a", "args": {"name": "a"}},
      {"call": "count", "path": "b", "args": {"name": "b"}}])";

TEST(Engine, RunsStepsInOrderAndCallsEachOnce) {
  Rig rig;
  RunId const run = rig.submit(kTwoCalls);
  ASSERT_TRUE(rig.becomes(run, RunStatus::Completed));
  EXPECT_EQ(rig.world.count("a"), 1);
  EXPECT_EQ(rig.world.count("b"), 1);
  RunState const state = rig.show(run);
  EXPECT_EQ(state.closed_steps, 2U);
  EXPECT_EQ(state.calls_used, 2U);
  EXPECT_EQ(state.closing->output, boost::json::value(2));
}

TEST(Engine, TakesTheSameKeyWithTheSameBodyAsTheSameRun) {
  Rig rig;
  Result<Submitted> const first = rig.try_submit(Rig::spec_of(kTwoCalls), "key");
  Result<Submitted> const second = rig.try_submit(Rig::spec_of(kTwoCalls), "key");
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->run, second->run);
  EXPECT_FALSE(first->existed);
  EXPECT_TRUE(second->existed);
  Result<Submitted> const other = rig.try_submit(Rig::spec_of("[]"), "key");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), ErrorCode::Conflict);
}

TEST(Engine, RefusesAGraphThatHasAMistake) {
  Rig rig;
  RunSpec spec;
  spec.graph = "nonsense";
  Result<Submitted> const refused = rig.try_submit(spec);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::RequestInvalid);
}

TEST(Engine, KeepsASignalThatComesBeforeItsWait) {
  Rig rig;
  RunId const run = rig.submit(
      R"([{"wait": "signal", "path": "first", "name": "one"},
          {"wait": "signal", "path": "second", "name": "two"}])");
  ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  ASSERT_TRUE(rig.signal(run, "two", "k2"));
  ASSERT_TRUE(rig.signal(run, "two", "k2"));  // the same again is the same
  EXPECT_EQ(rig.show(run).signals.size(), 1U);
  ASSERT_TRUE(rig.signal(run, "one"));
  EXPECT_TRUE(rig.becomes(run, RunStatus::Completed));
}

TEST(Engine, EndsATimerWhenItsTimeHasComeAndNotBefore) {
  Rig rig;
  RunId const run = rig.submit(R"([{"wait":"timer","path":"t","ms":60000}])");
  ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  rig->look_at_clock();
  EXPECT_EQ(rig.status(run), RunStatus::Parked);
  rig.clock.advance(std::chrono::seconds(61));
  rig->look_at_clock();
  EXPECT_TRUE(rig.becomes(run, RunStatus::Completed));
}

TEST(Engine, BranchesOnApprovalRejectionAndExpiry) {
  Rig rig;
  std::string const line = R"([{"wait":"human","path":"ok","name":"Pay?","ms":60000}])";
  RunId const approved = rig.submit(line);
  RunId const rejected = rig.submit(line);
  RunId const expired = rig.submit(line);
  for (RunId const& run : {approved, rejected, expired})
    ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  ASSERT_TRUE(rig.answer(approved, WaitEnd::Approved));
  ASSERT_TRUE(rig.answer(approved, WaitEnd::Approved, "ok")) << "the same answer again is the same";
  Result<RunStatus> const other = rig.answer(approved, WaitEnd::Rejected, "ok");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), ErrorCode::Conflict);
  ASSERT_TRUE(rig.answer(rejected, WaitEnd::Rejected));
  EXPECT_TRUE(rig.becomes(approved, RunStatus::Completed));
  EXPECT_TRUE(rig.becomes(rejected, RunStatus::Failed));
  rig.clock.advance(std::chrono::seconds(61));
  rig->look_at_clock();
  EXPECT_TRUE(rig.becomes(expired, RunStatus::Completed));
  EXPECT_EQ(rig.show(expired).waits.at("ok").closing.end, WaitEnd::TimedOut);
}

TEST(Engine, ClosesTheWaitOfAParentWhenItsChildEnds) {
  Rig rig;
  RunId const run = rig.submit(
      R"([{"child": [{"call": "count", "path": "x", "args": {"name": "x"}}], "path": "c"},
          {"call": "count", "path": "y", "args": {"name": "y"}}])");
  ASSERT_TRUE(rig.becomes(run, RunStatus::Completed));
  EXPECT_EQ(rig.world.count("x"), 1);
  EXPECT_EQ(rig.world.count("y"), 1);
  EXPECT_EQ(rig.journal().records("wake", "", "", 10)->size(), 0U);
}

TEST(Engine, CancelsACallUnderWayAndSaysTruthfullyThatNobodyKnows) {
  Rig rig;
  rig.world.hang("a");
  RunId const run = rig.submit(kTwoCalls);
  ASSERT_TRUE(rig.eventually([&] { return rig.world.count("a") == 1; }));
  ASSERT_TRUE(rig.control(run, Control::Cancel));
  ASSERT_TRUE(rig.becomes(run, RunStatus::Cancelled));
  RunState const state = rig.show(run);
  EXPECT_EQ(state.effects.begin()->second.settled.outcome, EffectOutcome::Unknown);
  EXPECT_EQ(rig.world.count("b"), 0);
}

TEST(Engine, BeginsNothingWhileARunIsPaused) {
  Rig rig;
  RunId const run = rig.submit(
      R"([{"wait": "signal", "path": "s", "name": "go"},
          {"call": "count", "path": "a", "args": {"name": "a"}}])");
  ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  ASSERT_TRUE(rig.control(run, Control::Pause));
  ASSERT_TRUE(rig.signal(run, "go"));
  EXPECT_EQ(rig.status(run), RunStatus::Paused);
  EXPECT_EQ(rig.world.count("a"), 0);
  ASSERT_TRUE(rig.control(run, Control::Resume));
  EXPECT_TRUE(rig.becomes(run, RunStatus::Completed));
}

TEST(Engine, ParksAOnceCallWhoseOutcomeIsUnknownUntilAPersonSays) {
  Rig rig;
  rig.world.answer("a", {.outcome = EffectOutcome::Unknown, .result = {}, .error = "cut off"});
  RunId const happened = rig.submit(kTwoCalls);
  RunId const not_happened = rig.submit(kTwoCalls);
  RunId const abandoned = rig.submit(kTwoCalls);
  for (RunId const& run : {happened, not_happened, abandoned})
    ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  rig.world.answer_ok("a");
  EXPECT_EQ(rig.world.count("a"), 3);
  ASSERT_TRUE(rig.resolve(happened, Resolution::Happened, "paid"));
  EXPECT_TRUE(rig.becomes(happened, RunStatus::Completed));
  EXPECT_EQ(rig.show(happened).steps.at("a").result, boost::json::value("paid"));
  EXPECT_EQ(rig.world.count("a"), 3);
  ASSERT_TRUE(rig.resolve(not_happened, Resolution::NotHappened));
  EXPECT_TRUE(rig.becomes(not_happened, RunStatus::Completed));
  EXPECT_EQ(rig.world.count("a"), 4) << "what did not happen is called again";
  ASSERT_TRUE(rig.resolve(abandoned, Resolution::Abandon));
  EXPECT_TRUE(rig.becomes(abandoned, RunStatus::Failed));
  EXPECT_FALSE(rig.resolve(abandoned, Resolution::Happened));
}

TEST(Engine, CallsUnderABusinessKeyOnceAcrossRuns) {
  Rig rig;
  std::string const line =
      R"([{"call":"count","path":"pay","args":{"name":"pay"},"business":"refund:42"}])";
  RunId const first = rig.submit(line);
  ASSERT_TRUE(rig.becomes(first, RunStatus::Completed));
  RunId const second = rig.submit(line);
  ASSERT_TRUE(rig.becomes(second, RunStatus::Completed));
  EXPECT_EQ(rig.world.count("pay"), 1);
}

TEST(Engine, StopsBeforeTheCallThatABudgetForbids) {
  Rig rig;
  RunSpec spec = Rig::spec_of(kTwoCalls);
  spec.budget.calls = 1;
  Result<Submitted> const run = rig.try_submit(spec);
  ASSERT_TRUE(run);
  ASSERT_TRUE(rig.becomes(run->run, RunStatus::Failed));
  EXPECT_EQ(rig.world.count("a"), 1);
  EXPECT_EQ(rig.world.count("b"), 0);
  EXPECT_NE(rig.show(run->run).closing->error.find("budget of 1 calls"), std::string::npos);
}

TEST(Engine, EndsARunAtItsDeadlineWhileItWaitsAndWhileACallHangs) {
  Rig rig;
  rig.world.hang("a");
  RunSpec spec = Rig::spec_of(R"([{"wait": "signal", "path": "s", "name": "go"}])");
  spec.deadline = rig.clock.wall() + std::chrono::hours(1);
  RunId const waits = rig.submit(spec);
  spec.graph = Rig::spec_of(kTwoCalls).graph;
  RunId const hangs = rig.submit(spec);
  ASSERT_TRUE(rig.becomes(waits, RunStatus::Parked));
  ASSERT_TRUE(rig.eventually([&] { return rig.world.count("a") == 1; }));
  EXPECT_EQ(rig.status(hangs), RunStatus::Running);
  rig.turn_clock(std::chrono::hours(2));
  EXPECT_TRUE(rig.becomes(waits, RunStatus::Cancelled));
  ASSERT_TRUE(rig.becomes(hangs, RunStatus::Cancelled));
  EXPECT_NE(rig.show(hangs).closing->error.find("deadline"), std::string::npos);
  EXPECT_EQ(rig.world.count("b"), 0);
}

TEST(Engine, EndsARunWhenTheTimeOfItsBudgetIsSpent) {
  Rig rig;
  RunSpec spec = Rig::spec_of(R"([{"wait": "signal", "path": "s", "name": "go"}])");
  spec.budget.time = std::chrono::minutes(5);
  RunId const run = rig.submit(spec);
  ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  rig.turn_clock(std::chrono::minutes(6));
  ASSERT_TRUE(rig.becomes(run, RunStatus::Cancelled));
  EXPECT_EQ(rig.show(run).closing->error, "the time of its budget is spent");
}

TEST(Engine, BeginsNoRunBeforeItsTime) {
  Rig rig;
  RunSpec spec = Rig::spec_of(kTwoCalls);
  spec.not_before = rig.clock.wall() + std::chrono::hours(1);
  RunId const run = rig.submit(spec);
  rig.turn_clock(std::chrono::minutes(59));
  // The answer to a question that came later: whatever the clock began has begun by then.
  ASSERT_TRUE(rig.signal(run, "unrelated"));
  EXPECT_EQ(rig.status(run), RunStatus::Pending);
  EXPECT_EQ(rig.world.count("a"), 0);
  rig.turn_clock(std::chrono::minutes(1));
  EXPECT_TRUE(rig.becomes(run, RunStatus::Completed));
}

TEST(Engine, BeginsAfterARestartARunWhoseTimeCameMeanwhile) {
  Rig rig;
  RunSpec spec = Rig::spec_of(kTwoCalls);
  spec.not_before = rig.clock.wall() + std::chrono::hours(1);
  RunId const run = rig.submit(spec);
  rig.end();
  rig.clock.advance(std::chrono::hours(2));
  rig.begin();
  EXPECT_TRUE(rig.becomes(run, RunStatus::Completed));
}

TEST(Engine, NeverExceedsAConcurrencyKey) {
  Rig rig;
  RunSpec spec = Rig::spec_of(kTwoCalls);
  spec.concurrency_key = "tenant";
  spec.concurrency_limit = 2;
  std::vector<RunId> runs;
  for (int at = 0; at < 30; ++at) runs.push_back(rig.try_submit(spec)->run);
  for (RunId const& run : runs) ASSERT_TRUE(rig.becomes(run, RunStatus::Completed));
  EXPECT_LE(rig.world.most_at_once(), 2);
}

TEST(Engine, ListsTheNewestRunsFirst) {
  Rig rig;
  RunId const first = rig.submit(kTwoCalls);
  rig.clock.advance(std::chrono::milliseconds(2));
  RunId const second = rig.submit(R"([{"wait":"signal","path":"s","name":"go"}])");
  ASSERT_TRUE(rig.becomes(first, RunStatus::Completed));
  ASSERT_TRUE(rig.becomes(second, RunStatus::Parked));
  std::vector<RunSummary> const all = *rig->list({});
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].run, second);
  EXPECT_EQ(all[0].detail, "waits at s for the signal go");
  EXPECT_EQ(rig->list({.status = RunStatus::Completed})->front().run, first);
  EXPECT_EQ(rig->list({.after = second.text})->front().run, first);
  EXPECT_EQ(rig->list({.count = 1})->size(), 1U);
}

TEST(Engine, HoldsNothingOfARunThatWaits) {
  Rig rig;
  RunId const signal = rig.submit(R"([{"wait": "signal", "path": "s", "name": "go"}])");
  RunId const person = rig.submit(R"([{"wait": "human", "path": "p", "name": "Well?"}])");
  RunId const timer = rig.submit(R"([{"wait": "timer", "path": "t", "ms": 60000}])");
  for (RunId const& run : {signal, person, timer}) ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  EXPECT_TRUE(rig.eventually([&] { return rig.world.drivers_held() == 0; }));
}

TEST(Engine, BeginsTheMoreUrgentRunsFirst) {
  Rig rig({.concurrency = 1});
  rig.world.hang("first");
  RunId const first = rig.submit(R"([{"call": "count", "path": "a", "args": {"name": "first"}}])");
  ASSERT_TRUE(rig.eventually([&] { return rig.world.count("first") == 1; }));
  std::vector<RunId> runs;
  for (int const priority : {0, 5, -5}) {
    RunSpec spec = Rig::spec_of(
        fmt::format(R"([{{"call": "count", "path": "a", "args": {{"name": "{}"}}}}])", priority));
    spec.priority = priority;
    runs.push_back(rig.submit(spec));
  }
  ASSERT_TRUE(rig.control(first, Control::Cancel));
  for (RunId const& run : runs) ASSERT_TRUE(rig.becomes(run, RunStatus::Completed));
  EXPECT_EQ(rig.world.calls_in_order(), (std::vector<std::string>{"first", "5", "0", "-5"}));
}

TEST(Engine, HoldsARunWhoseDriverCannotBeMadeUntilItIsResumedOrCancelled) {
  Rig rig;
  std::string const line = R"([{"wait": "signal", "path": "s", "name": "go"}])";
  RunId const mended = rig.submit(line);
  RunId const given_up = rig.submit(line);
  for (RunId const& run : {mended, given_up}) ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  rig.world.has_lost_drivers = true;
  for (RunId const& run : {mended, given_up}) {
    ASSERT_TRUE(rig.signal(run, "go"));
    ASSERT_TRUE(rig.becomes(run, RunStatus::Stuck));
    EXPECT_EQ(rig.show(run).stuck, "there is no such driver");
  }
  ASSERT_TRUE(rig.control(given_up, Control::Cancel));
  EXPECT_TRUE(rig.becomes(given_up, RunStatus::Cancelled));
  rig.world.has_lost_drivers = false;
  ASSERT_TRUE(rig.control(mended, Control::Resume));
  EXPECT_TRUE(rig.becomes(mended, RunStatus::Completed));
}

TEST(Engine, TakesNoWorkWhenItStopsAndRecordsWhatACutCallCameTo) {
  Rig rig;
  rig.world.hang("a");
  RunId const run = rig.submit(kTwoCalls);
  ASSERT_TRUE(rig.eventually([&] { return rig.world.count("a") == 1; }));
  rig->stop(std::chrono::milliseconds(1));
  EffectSettled const settled = rig.show(run).effects.begin()->second.settled;
  EXPECT_EQ(settled.outcome, EffectOutcome::Unknown);
  EXPECT_EQ(settled.by, SettledBy::Recovery) << "nothing that the run did";
  Result<Submitted> const refused = rig.try_submit(Rig::spec_of(kTwoCalls));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::LimitReached);
  EXPECT_EQ(rig.world.count("b"), 0);
  rig.world.hang("a", false);
  rig.restart();
  EXPECT_TRUE(rig.becomes(run, RunStatus::Parked)) << "a person is asked about the cut call";
  EXPECT_EQ(rig.world.count("a"), 1);
}

}  // namespace
}  // namespace aether::jobs
