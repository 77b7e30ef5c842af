// SPDX-License-Identifier: Apache-2.0
// Graphs in an engine: attempts, undoing, runs below, forks; and engines that meet over one store.
#include <atomic>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "jobs/engine_rig.h"
#include "jobs/run_event_codec.h"
#include "jobs/run_rows.h"
#include "journal/journal.h"

namespace aether::jobs {
namespace {

using testing::MortalJournal;
using testing::Rig;

tools::CallResult no_for_now() {
  return {.outcome = EffectOutcome::Error, .result = {}, .error = "503", .retryable = true};
}
tools::CallResult no() {
  return {.outcome = EffectOutcome::Error, .result = {}, .error = "no such account"};
}

TEST(EngineGraph, TriesAgainAfterAGrowingPauseAndHoldsNothingMeanwhile) {
  Rig rig;
  rig.world.answer("a", no_for_now());
  RunId const run = rig.submit(R"({"nodes": [{"id": "a", "type": "tool", "tool": "count",
      "policy": "keyed", "with": {"name": "a"},
      "retry": {"attempts": 3, "backoff": "10s"}}]})");
  ASSERT_TRUE(rig.becomes(run, RunStatus::Retrying));
  EXPECT_EQ(rig.world.count("a"), 1);
  EXPECT_TRUE(rig.eventually([&] { return rig.world.drivers_held() == 0; }));
  rig.turn_clock(std::chrono::seconds(9));
  ASSERT_TRUE(rig.signal(run, "unrelated"));  // What the clock began has begun when this is over.
  EXPECT_EQ(rig.status(run), RunStatus::Retrying);
  rig.turn_clock(std::chrono::seconds(1));
  ASSERT_TRUE(rig.eventually([&] { return rig.world.count("a") == 2; }));
  ASSERT_TRUE(rig.becomes(run, RunStatus::Retrying));
  rig.world.answer_ok("a");
  rig.turn_clock(std::chrono::seconds(19));
  ASSERT_TRUE(rig.signal(run, "unrelated"));
  EXPECT_EQ(rig.status(run), RunStatus::Retrying);
  rig.turn_clock(std::chrono::seconds(1));
  EXPECT_TRUE(rig.becomes(run, RunStatus::Completed));
  EXPECT_EQ(rig.world.count("a"), 3);
  EXPECT_EQ(rig.show(run).steps.at("a").attempt, 3U);
}

TEST(EngineGraph, TakesBackWhatWasDoneTheLastFirst) {
  Rig rig;
  rig.world.answer("ship", no());
  RunId const run = rig.submit(R"({"nodes": [
    {"id": "reserve", "type": "tool", "tool": "count", "with": {"name": "reserve"},
     "compensate": {"tool": "count", "with": {"name": "release"}}},
    {"id": "charge", "type": "tool", "tool": "count", "after": ["reserve"],
     "with": {"name": "charge"},
     "compensate": {"tool": "count", "with": {"name": "refund"}}},
    {"id": "ship", "type": "tool", "tool": "count", "after": ["charge"],
     "with": {"name": "ship"}}]})");
  ASSERT_TRUE(rig.becomes(run, RunStatus::Failed));
  EXPECT_EQ(rig.show(run).closing->outcome, RunOutcome::Compensated);
  EXPECT_EQ(rig.world.calls_in_order(),
            (std::vector<std::string>{"reserve", "charge", "ship", "refund", "release"}));
}

TEST(EngineGraph, CancelsTheRunsBelowACancelledOne) {
  Rig rig;
  RunId const run = rig.submit(R"({"nodes": [{"id": "below", "type": "workflow", "graph":
      {"nodes": [{"id": "ask", "type": "approval", "with": {"message": "?"},
        "timeout": "1h"}]}}]})");
  ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  RunId const child{rig.show(run).waits.at("below").opening.name};
  ASSERT_TRUE(rig.becomes(child, RunStatus::Parked));
  ASSERT_TRUE(rig.control(run, Control::Cancel));
  EXPECT_TRUE(rig.becomes(run, RunStatus::Cancelled));
  EXPECT_TRUE(rig.becomes(child, RunStatus::Cancelled));
  EXPECT_TRUE(rig.eventually([&] { return rig.journal().records("wake", "", "", 1)->empty(); }))
      << "an end that nobody waits for is not kept for ever";
}

TEST(EngineGraph, GivesTwoCallsOfOneBatchOneBusinessKeyOnce) {
  Rig rig;
  RunId const run = rig.submit(R"({"nodes": [
    {"id": "a", "type": "tool", "tool": "count", "with": {"name": "pay"}, "business_key": "k"},
    {"id": "b", "type": "tool", "tool": "count", "with": {"name": "pay"}, "business_key": "k"}]})");
  // Nobody knows yet what the first came to when the second is asked for: a person says.
  ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  ASSERT_TRUE(rig.resolve(run, Resolution::Happened, "paid"));
  EXPECT_TRUE(rig.becomes(run, RunStatus::Completed));
  EXPECT_EQ(rig.world.count("pay"), 1);
}

TEST(EngineGraph, ForksFromAStepWithoutCallingAgainWhatWasDone) {
  Rig rig;
  rig.world.answer("b", no());
  std::string const graph = R"({"nodes": [
    {"id": "a", "type": "tool", "tool": "count", "with": {"name": "a"}},
    {"id": "b", "type": "tool", "tool": "count", "after": ["a"], "with": {"name": "b"}},
    {"id": "c", "type": "tool", "tool": "count", "after": ["b"], "with": {"name": "c"}}]})";
  RunId const run = rig.submit(graph);
  ASSERT_TRUE(rig.becomes(run, RunStatus::Failed));
  rig.world.answer_ok("b");
  Result<RunId> const fork = rig.fork(run, "b");
  ASSERT_TRUE(fork) << fork.error().describe();
  ASSERT_TRUE(rig.becomes(*fork, RunStatus::Completed));
  EXPECT_EQ(rig.world.calls_in_order(), (std::vector<std::string>{"a", "b", "b", "c"}));
  EXPECT_EQ(rig.show(*fork).opening.forked_from, run);
  std::vector<journal::Event> const events = *rig->events(run, 0, 1000);
  EXPECT_EQ(events.back().kind, "run.controlled") << "the old run has a note of it";
  EXPECT_EQ(rig.fork(run, "nowhere").error().code(), ErrorCode::NotFound);
}

TEST(EngineGraph, ForksARunThatIsUnderWayAndLetsItGoOn) {
  Rig rig;
  RunId const run = rig.submit(R"([{"call": "count", "path": "a", "args": {"name": "a"}},
      {"wait": "signal", "path": "s", "name": "go"}])");
  ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
  Result<RunId> const fork = rig.fork(run, "s");
  ASSERT_TRUE(fork) << fork.error().describe();
  ASSERT_TRUE(rig.becomes(*fork, RunStatus::Parked));
  for (RunId const& each : {run, *fork}) {
    ASSERT_TRUE(rig.signal(each, "go"));
    EXPECT_TRUE(rig.becomes(each, RunStatus::Completed));
  }
  EXPECT_EQ(rig.world.count("a"), 1);
}

/// An event that this engine did not append.
void append_signal(journal::Journal& journal, RunId const& run, std::string name) {
  journal::Batch batch;
  RunEvent const event = as_recorded(
      {.at = {}, .actor = "other", .body = SignalReceived{.name = std::move(name), .payload = {}}});
  ASSERT_TRUE(append_event(batch, {.stream = run.text, .space = "default"}, event,
                           [] { return std::string(journal::kSaltBytes, 'x'); }));
  ASSERT_TRUE(or_throw(journal::append_now(journal, std::move(batch))));
}

TEST(EngineStore, ReadsARunAgainWhoseEventsMoved) {
  Rig rig;
  rig.world.hang("a");
  RunId const run = rig.submit(R"([{"call": "count", "path": "a", "args": {"name": "a"}},
      {"wait": "signal", "path": "s", "name": "go"}])");
  ASSERT_TRUE(rig.eventually([&] { return rig.world.count("a") == 1; }));
  append_signal(rig.journal(), run, "foreign");
  ASSERT_TRUE(rig.signal(run, "own"));
  EXPECT_EQ(rig.show(run).signals.size(), 2U);
  ASSERT_TRUE(rig.control(run, Control::Cancel));
  EXPECT_TRUE(rig.becomes(run, RunStatus::Cancelled));
  EXPECT_EQ(rig.world.count("a"), 1);
}

TEST(EngineStore, AppendsNothingWithALeaseThatAnotherEngineTookOver) {
  std::unique_ptr<journal::Journal> const store = journal::open_memory_journal();
  Rig first({}, store.get());
  first.world.hang("a");
  RunId const run = first.submit(R"([{"call": "count", "path": "a", "args": {"name": "a"},
      "policy": "keyed"}, {"call": "count", "path": "b", "args": {"name": "b"}}])");
  ASSERT_TRUE(first.eventually([&] { return first.world.count("a") == 1; }));
  first.clock.advance(std::chrono::seconds(1));
  std::uint64_t const fence = store->stream(run.text)->fence.value;
  {
    Rig second({}, store.get());
    second.clock.advance(std::chrono::seconds(2));
    ASSERT_TRUE(second.becomes(run, RunStatus::Completed));
    EXPECT_GT(store->stream(run.text)->fence.value, fence);
    EXPECT_EQ(second.world.count("b"), 1);
  }
  std::uint64_t const events = store->stream(run.text)->last.value;
  // The first still believes that its call is under way; what it says of it now comes too late.
  first.end();
  EXPECT_EQ(store->stream(run.text)->last.value, events);
  EXPECT_EQ(first.world.count("b"), 0);
}

TEST(EngineStore, ReadsOnlyRunsWithSomethingToDoWhenItBegins) {
  std::unique_ptr<journal::Journal> const store = journal::open_memory_journal();
  constexpr int kRuns = 300;
  {
    Rig rig({}, store.get());
    std::vector<RunId> runs;
    for (int at = 0; at < kRuns; ++at)
      runs.push_back(rig.submit(R"([{"wait": "signal", "path": "s", "name": "go"}])"));
    for (RunId const& run : runs) ASSERT_TRUE(rig.becomes(run, RunStatus::Parked));
    RunSpec later = Rig::spec_of(R"([{"wait": "timer", "path": "t", "ms": 60000}])");
    ASSERT_TRUE(rig.becomes(rig.submit(later), RunStatus::Parked));
  }
  testing::World world;
  MortalJournal counted(*store, 1'000'000, MortalJournal::Dies::Before, world.bell);
  Rig rig({}, &counted);
  ASSERT_TRUE(rig.signal(RunId{rig->list({.count = 1})->front().run}, "unrelated"));
  EXPECT_LE(counted.streams_read(), 2) << "of " << kRuns << " runs that wait";
}

}  // namespace
}  // namespace aether::jobs
