// SPDX-License-Identifier: Apache-2.0
// Two engines on one store, of which one may die, stand still, or be the one that is asked.
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "jobs/engine_rig.h"
#include "jobs/shared_store.h"
#include "jobs/work_rig.h"

namespace aether::jobs {
namespace {

using testing::Rig;
using testing::SharedStore;

constexpr char const* kOneCall = R"([{"call": "count", "path": "a", "args": {"name": "a"}}])";

class EngineSharing : public ::testing::Test {
 protected:
  /// How often it was called, wherever.
  [[nodiscard]] int calls(std::string const& name) {
    return one_.world.count(name) + two_.world.count(name);
  }
  [[nodiscard]] bool eventually(std::function<bool()> const& condition) {
    return one_.eventually(condition);
  }

  SharedStore store_;
  SharedStore::Member first_{store_};
  SharedStore::Member second_{store_};
  Rig one_{{.concurrency = 4}, &first_};
  Rig two_{{.concurrency = 4}, &second_};
};

TEST_F(EngineSharing, EachStepIsDoneOnceWhoeverDoesIt) {
  std::vector<RunId> runs;
  for (int at = 0; at < 40; ++at) runs.push_back(one_.submit(kOneCall));
  for (RunId const& run : runs) ASSERT_TRUE(two_.becomes(run, RunStatus::Completed));
  EXPECT_EQ(calls("a"), 40);
  EXPECT_TRUE(eventually([&] { return store_.claims() == 0; }));
}

TEST_F(EngineSharing, AnAnswerThatComesToOneGoesToTheRunOfTheOther) {
  RunId const run = one_.submit(R"([{"wait": "signal", "path": "s", "name": "go"},
      {"call": "count", "path": "a", "args": {"name": "a"}}])");
  ASSERT_TRUE(two_.becomes(run, RunStatus::Parked));
  ASSERT_TRUE(two_.signal(run, "go"));
  EXPECT_TRUE(one_.becomes(run, RunStatus::Completed));
  EXPECT_EQ(calls("a"), 1);
}

TEST_F(EngineSharing, ACancelAtOneEndsTheCallOfTheOther) {
  one_.world.hang("a");
  two_.world.hang("a");
  RunId const run = one_.submit(kOneCall);
  ASSERT_TRUE(eventually([&] { return calls("a") == 1; }));
  Rig& idle = one_.world.count("a") == 1 ? two_ : one_;
  ASSERT_TRUE(idle.control(run, Control::Cancel));
  EXPECT_TRUE(idle.becomes(run, RunStatus::Cancelled));
}

TEST_F(EngineSharing, WhatAnEngineLeftWhenItEndedIsDoneByTheOther) {
  two_.end();
  one_.world.hang("a");
  RunId const run = one_.submit(R"([{"call": "count", "path": "a", "args": {"name": "a"},
      "policy": "keyed"}, {"call": "count", "path": "b", "args": {"name": "b"}}])");
  ASSERT_TRUE(eventually([&] { return one_.world.count("a") == 1; }));
  two_.begin();
  one_.end();
  EXPECT_TRUE(two_.becomes(run, RunStatus::Completed));
  EXPECT_EQ(calls("b"), 1);
}

/// The engine that stands still is the one with a call under way; the other takes the run over.
TEST_F(EngineSharing, ALateAnswerOfAnEngineThatStoodStillSettlesTheCall) {
  two_.end();
  one_.world.hang("a");
  RunId const run = one_.submit(R"([{"call": "count", "path": "a", "args": {"name": "a"}},
      {"call": "count", "path": "b", "args": {"name": "b"}}])");
  ASSERT_TRUE(eventually([&] { return one_.world.count("a") == 1; }));
  two_.begin();
  first_.stand_still();
  ASSERT_TRUE(two_.becomes(run, RunStatus::Parked));
  RunState const parked = two_.show(run);
  EXPECT_EQ(parked.open_waits.size(), 1U);
  // A person says that it happened; what the first one decides of it is refused by its fence.
  ASSERT_TRUE(two_.resolve(run, Resolution::Happened));
  EXPECT_TRUE(two_.becomes(run, RunStatus::Completed));
  EXPECT_EQ(one_.world.count("a"), 1);
  EXPECT_EQ(two_.world.count("a"), 0);
  EXPECT_EQ(calls("b"), 1);
}

TEST_F(EngineSharing, AWorkerWhoseEngineStoodStillHearsThatAnotherOneHasTheRun) {
  using testing::TestWorker;
  RunId const run = one_.submit(testing::code_spec());
  TestWorker slow(one_);
  ASSERT_TRUE(slow.claim());
  ASSERT_EQ(testing::text_at(slow.begin("pay", R"(, "policy": "read")"), "is"), "go");
  first_.stand_still();
  TestWorker next(two_, "w2");
  ASSERT_TRUE(next.claim());
  ASSERT_EQ(next.held.run, run);
  first_.go_on();
  EXPECT_TRUE(eventually(
      [&] { return testing::text_at(slow.say_one(R"({"do": "beat"})"), "why") == "lost"; }));
  EXPECT_EQ(testing::text_at(next.begin("pay", R"(, "policy": "read")"), "is"), "go");
  EXPECT_EQ(testing::text_at(next.end("pay"), "is"), "done");
  EXPECT_EQ(testing::text_at(next.close(), "is"), "done");
}

TEST_F(EngineSharing, ATimeWhoseEngineDiedIsToldByTheKeeper) {
  RunId const run = one_.submit(R"([{"wait": "timer", "path": "t", "ms": 60000},
      {"call": "count", "path": "a", "args": {"name": "a"}}])");
  ASSERT_TRUE(two_.becomes(run, RunStatus::Parked));
  one_.clock.advance(std::chrono::minutes(2));
  two_.clock.advance(std::chrono::minutes(2));
  // Neither has looked at its clock; the keeper finds the row.
  second_.keep();
  EXPECT_TRUE(two_.becomes(run, RunStatus::Completed));
  EXPECT_EQ(calls("a"), 1);
}

TEST_F(EngineSharing, AClockThatJumpsMakesTimesComeOnce) {
  std::vector<RunId> runs;
  for (int at = 0; at < 6; ++at) {
    runs.push_back(one_.submit(R"([{"wait": "timer", "path": "t", "ms": 60000},
        {"call": "count", "path": "a", "args": {"name": "a"}}])"));
  }
  for (RunId const& run : runs) ASSERT_TRUE(one_.becomes(run, RunStatus::Parked));
  one_.turn_clock(std::chrono::hours(1));
  first_.keep();
  for (RunId const& run : runs) ASSERT_TRUE(two_.becomes(run, RunStatus::Completed));
  two_.turn_clock(std::chrono::hours(2));
  second_.keep();
  ASSERT_TRUE(two_.becomes(two_.submit(kOneCall), RunStatus::Completed));
  EXPECT_EQ(calls("a"), 7);
}

TEST_F(EngineSharing, NoEngineTakesMoreThanItHasRoomFor) {
  one_.world.hang("a");
  two_.world.hang("a");
  std::vector<RunId> runs;
  for (int at = 0; at < 12; ++at) runs.push_back(one_.submit(kOneCall));
  ASSERT_TRUE(eventually([&] { return calls("a") == 8; }));
  EXPECT_EQ(one_.world.count("a"), 4);
  EXPECT_EQ(two_.world.count("a"), 4);
  EXPECT_EQ(store_.claims(), 8U);
  for (RunId const& run : runs) ASSERT_TRUE(two_.control(run, Control::Cancel));
  for (RunId const& run : runs) EXPECT_TRUE(two_.becomes(run, RunStatus::Cancelled));
}

}  // namespace
}  // namespace aether::jobs
