// SPDX-License-Identifier: Apache-2.0
// What a process leaves that dies at any point, and what the next one makes of it; on both
// journals of one machine.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "jobs/engine_sweep.h"

namespace aether::jobs {
namespace {

using testing::expect_sound;
using testing::finish;
using testing::kEverything;
using testing::MortalJournal;
using testing::Rig;
using testing::Store;

class EngineCrash : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Journals, EngineCrash, ::testing::Bool(), [](auto const& each) {
  return each.param ? std::string("Sqlite") : std::string("Memory");
});

/// The run with a first process that dies at its n-th append. True if it lived to the end.
bool survives(bool is_sqlite, int appends, MortalJournal::Dies dies) {
  Store store(is_sqlite);
  Rig rig({}, store.journal.get());
  rig.world.lookup_answer = {.outcome = EffectOutcome::NotExecuted, .result = {}, .error = {}};
  rig.end();
  MortalJournal mortal(*store.journal, appends, dies, rig.world.bell);
  rig.begin(&mortal);
  Result<Submitted> const first = rig.try_submit(Rig::spec_of(kEverything), "key");
  if (first) {
    EXPECT_TRUE(finish(rig, first->run, [&] { return mortal.is_dead(); }));
  }
  rig.end();
  bool const lived = !mortal.is_dead();
  // The other side knows which calls it has seen, if it is asked.
  if (rig.world.count("looked") > 0)
    rig.world.lookup_answer = {.outcome = EffectOutcome::Ok, .result = "seen", .error = {}};
  rig.begin();
  Result<Submitted> const again = rig.try_submit(Rig::spec_of(kEverything), "key");
  EXPECT_TRUE(again);
  EXPECT_TRUE(!first || first->run == again->run);
  EXPECT_TRUE(finish(rig, again->run, [] { return false; }));
  EXPECT_EQ(rig.status(again->run), RunStatus::Completed);
  for (char const* name : {"once", "inner", "looked", "last"})
    EXPECT_EQ(rig.world.count(name), 1) << name;
  for (char const* name : {"keyed", "beside"}) {
    EXPECT_GE(rig.world.count(name), 1) << name;
    EXPECT_LE(rig.world.count(name), 2) << name;
  }
  rig.end();
  expect_sound(*store.journal);
  return lived;
}

TEST_P(EngineCrash, CallsNothingTwiceThatMayNotBeAndLosesNothingWhereverTheProcessDies) {
  for (auto const dies : {MortalJournal::Dies::Before, MortalJournal::Dies::After}) {
    int appends = 0;
    while (!survives(GetParam(), appends, dies)) {
      ASSERT_FALSE(HasFailure()) << "died at append " << appends << ", "
                                 << (dies == MortalJournal::Dies::Before ? "before" : "after");
      ASSERT_LT(++appends, 200);
    }
    // As many turns as the graph has at the least: the sweep met them all.
    EXPECT_GT(appends, 12);
  }
}

constexpr char const* kRunBelow = R"({"nodes": [{"id": "below", "type": "workflow", "graph":
    {"nodes": [{"id": "ask", "type": "approval", "with": {"message": "?"}}]}}]})";

/// A run that waits for one below it is cancelled. True if the first process lived through it.
bool cancels_both(int appends, MortalJournal::Dies dies) {
  Store store(false);
  Rig rig({}, store.journal.get());
  RunId const run = rig.submit(kRunBelow);
  EXPECT_TRUE(rig.becomes(run, RunStatus::Parked));
  RunId const child{rig.show(run).waits.at("below").opening.name};
  EXPECT_TRUE(rig.becomes(child, RunStatus::Parked));
  rig.end();
  MortalJournal mortal(*store.journal, appends, dies, rig.world.bell);
  rig.begin(&mortal);
  Result<RunStatus> const asked = rig.control(run, Control::Cancel);
  EXPECT_TRUE(rig.eventually([&] {
    Result<RunState> const state = rig->show(child);
    return mortal.is_dead() || (state && state->closing);
  }));
  rig.end();
  bool const lived = !mortal.is_dead();
  rig.begin();
  if (!asked) {
    EXPECT_TRUE(rig.control(run, Control::Cancel));
  }
  EXPECT_TRUE(rig.becomes(run, RunStatus::Cancelled));
  EXPECT_TRUE(rig.becomes(child, RunStatus::Cancelled));
  rig.end();
  expect_sound(*store.journal);
  return lived;
}

TEST(EngineCut, CancelsTheRunBelowWhereverTheProcessDies) {
  for (auto const dies : {MortalJournal::Dies::Before, MortalJournal::Dies::After}) {
    int appends = 0;
    while (!cancels_both(appends, dies)) {
      ASSERT_FALSE(HasFailure()) << "died at append " << appends;
      ASSERT_LT(++appends, 50);
    }
    EXPECT_GT(appends, 2);
  }
}

/// A call is under way when the process dies.
struct Cut {
  explicit Cut(char const* policy) {
    rig.end();
    rig.begin(&mortal);
    rig.world.hang("a");
    run = rig.submit(fmt::format(
        R"([{{"call": "count", "path": "a", "args": {{"name": "a"}}, "policy": "{}"}}])", policy));
    EXPECT_TRUE(rig.eventually([&] { return rig.world.count("a") == 1; }));
    key = rig.world.key_of("a");
    mortal.kill();
    rig.end();
    rig.world.hang("a", false);
  }
  std::unique_ptr<journal::Journal> journal = journal::open_memory_journal();
  Rig rig{{}, journal.get()};
  MortalJournal mortal{*journal, 1000, MortalJournal::Dies::Before, rig.world.bell};
  RunId run;
  std::string key;
};

TEST(EngineCut, AsksAPersonAboutACallThatMayNotBeMadeTwice) {
  Cut cut("once");
  cut.rig.begin();
  ASSERT_TRUE(cut.rig.becomes(cut.run, RunStatus::Parked));
  EXPECT_EQ(cut.rig.world.count("a"), 1);
  RunState const state = cut.rig.show(cut.run);
  WaitOpened const& question = state.waits.begin()->second.opening;
  EXPECT_EQ(question.kind, WaitKind::Human);
  EXPECT_EQ(question.effect, state.effects.begin()->first);
  EXPECT_EQ(state.effects.begin()->second.settled.by, SettledBy::Recovery);
  // The question is still there after another crash, and there is one.
  cut.rig.restart();
  ASSERT_TRUE(cut.rig.signal(cut.run, "unrelated"));
  EXPECT_EQ(cut.rig.show(cut.run).open_waits.size(), 1U);
  ASSERT_TRUE(cut.rig.resolve(cut.run, Resolution::Happened, "paid"));
  EXPECT_TRUE(cut.rig.becomes(cut.run, RunStatus::Completed));
  EXPECT_EQ(cut.rig.world.count("a"), 1);
}

TEST(EngineCut, CallsAgainWhatMayBeRepeatedWithTheSameKey) {
  Cut read("read");
  read.rig.begin();
  ASSERT_TRUE(read.rig.becomes(read.run, RunStatus::Completed));
  EXPECT_EQ(read.rig.world.count("a"), 2);
  Cut keyed("keyed");
  keyed.rig.begin();
  ASSERT_TRUE(keyed.rig.becomes(keyed.run, RunStatus::Completed));
  EXPECT_EQ(keyed.rig.world.count("a"), 2);
  EXPECT_FALSE(keyed.key.empty());
  EXPECT_EQ(keyed.rig.world.key_of("a"), keyed.key);
}

TEST(EngineCut, AsksTheOtherSideAndTakesItsWord) {
  Cut happened("lookup");
  happened.rig.world.lookup_answer = {.outcome = EffectOutcome::Ok, .result = "7", .error = {}};
  happened.rig.begin();
  ASSERT_TRUE(happened.rig.becomes(happened.run, RunStatus::Completed));
  EXPECT_EQ(happened.rig.world.count("a"), 1);
  EXPECT_EQ(happened.rig.world.lookups_of("a"), 1);
  EXPECT_EQ(happened.rig.show(happened.run).steps.at("a").result, boost::json::value("7"));

  Cut never("lookup");
  never.rig.world.lookup_answer = {
      .outcome = EffectOutcome::NotExecuted, .result = {}, .error = {}};
  never.rig.begin();
  ASSERT_TRUE(never.rig.becomes(never.run, RunStatus::Completed));
  EXPECT_EQ(never.rig.world.count("a"), 2);

  Cut nobody("lookup");
  nobody.rig.begin();
  ASSERT_TRUE(nobody.rig.becomes(nobody.run, RunStatus::Parked));
  EXPECT_EQ(nobody.rig.world.count("a"), 1);
  EXPECT_EQ(nobody.rig.world.lookups_of("a"), 1) << "who does not know is asked once";
}

}  // namespace
}  // namespace aether::jobs
