// SPDX-License-Identifier: Apache-2.0
#include "jobs/fork.h"

#include <gtest/gtest.h>

#include "jobs/run_laws.h"
#include "jobs/testing_random.h"

namespace aether::jobs {
namespace {

using namespace testing;

std::vector<RunEvent> copies_of(std::vector<RunEventBody> bodies, std::string_view at) {
  bodies.insert(bodies.begin(), opened());
  return or_throw(fork_prefix(kRun, history(std::move(bodies)), at, kOtherRun));
}
RunState forked(std::vector<RunEventBody> bodies, std::string_view at) {
  RunState state;
  state.id = kOtherRun;
  RunOpened opening = opened();
  opening.forked_from = kRun;
  or_throw(fold(state, event(0, opening)));
  for (RunEvent const& each : copies_of(std::move(bodies), at)) or_throw(fold(state, each));
  return state;
}
std::string effect_in_fork(std::string_view path) {
  return effect_id(kOtherRun, path, "http", 1);
}

TEST(Fork, KeepsEverythingBeforeTheStepWithoutLeases) {
  RunState const state =
      forked({control(Control::Lease, "w"), step("a"), intent("a"), settled("a"), step_end("a"),
              step("b"), step_end("b"), step("c"), step_end("c"), closed()},
             "b");
  EXPECT_FALSE(state.steps.at("a").open);
  EXPECT_EQ(state.steps.size(), 1U);
  EXPECT_FALSE(state.closing);
  EXPECT_TRUE(state.lease_holder.empty());
  EXPECT_EQ(state.status(), RunStatus::Pending);
}

TEST(Fork, EndsItsCopiesWithAMark) {
  std::vector<RunEvent> const copies = copies_of({step("a"), step_end("a"), step("b")}, "b");
  ASSERT_EQ(copies.size(), 3U);
  auto const& mark = std::get<RunControlled>(copies.back().body);
  EXPECT_EQ(mark.control, Control::Fork);
  EXPECT_EQ(mark.step, "b");
  EXPECT_EQ(mark.reason, kRun.text);
}

TEST(Fork, NamesCallsByTheirPlaceInTheNewRunAndKeepsTheirKeys) {
  EffectIntended call = intent("a", Policy::Keyed);
  call.key = call.effect;
  RunState const state = forked({step("a"), call, settled("a"), step_end("a"), step("b")}, "b");
  ASSERT_TRUE(state.effects.contains(effect_in_fork("a")));
  EXPECT_EQ(state.effects.at(effect_in_fork("a")).intent.key, effect_of("a"));
}

TEST(Fork, KeepsWhatBecameOfCallsThatWereUnderWay) {
  RunState const state = forked({step("a"), intent("a"), step("b"), step_end("b"), settled("a"),
                                 step_end("a"), step("c"), step_end("c"), closed()},
                                "b");
  EXPECT_FALSE(state.steps.at("a").open);
  EXPECT_EQ(state.effects.at(effect_in_fork("a")).settled.outcome, EffectOutcome::Ok);
  EXPECT_FALSE(state.steps.contains("c"));
}

TEST(Fork, LeavesACallOpenOfWhichNobodyKnewTheEnd) {
  RunState const state = forked({step("a"), intent("a"), step("b")}, "b");
  EXPECT_TRUE(state.open_effects.contains(effect_in_fork("a")));
}

TEST(Fork, LeavesTheStepsAroundItOpen) {
  RunState const state =
      forked({step("agent"), step("agent/model.1"), step_end("agent/model.1"),
              step("agent/model.2"), step_end("agent/model.2"), step_end("agent"), closed()},
             "agent/model.2");
  EXPECT_TRUE(state.steps.at("agent").open);
  EXPECT_FALSE(state.steps.at("agent/model.1").open);
  EXPECT_FALSE(state.steps.contains("agent/model.2"));
}

TEST(Fork, DecidesAgainAboutWhatFailedOnlyWithTheRun) {
  RunState const state =
      forked({step("a"), wait("a"), step("b"), step_end("b", StepOutcome::Failed),
              wait_end("a", WaitEnd::Cancelled), step_end("a", StepOutcome::Failed),
              closed(RunOutcome::Failed)},
             "b");
  EXPECT_TRUE(state.steps.at("a").open);
  EXPECT_TRUE(state.waits.at("a").open);
  EXPECT_EQ(state.status(), RunStatus::Parked);
}

TEST(Fork, KeepsSignalsThatCameBeforeAndThoseThatAnsweredWhatIsKept) {
  RunState const state =
      forked({step("a"), wait("a"), signal("early"), step("b"), wait("b", WaitKind::Signal, "go"),
              signal("go"), wait_end("b"), signal(), wait_end("a"), step_end("a"), step_end("b")},
             "b");
  EXPECT_FALSE(state.waits.at("a").open);
  EXPECT_NE(state.pending_signal("early"), nullptr);
  EXPECT_EQ(state.pending_signal("go"), nullptr) << "it answered the step that begins again";
}

TEST(Fork, RefusesStepsThatNeverBeganAndChildrenThatAnswerTheOldRun) {
  std::vector<RunEvent> const events =
      history({opened(), step("a"), wait("a", WaitKind::Child, kOtherRun.text), step("b")});
  Result<std::vector<RunEvent>> const unknown = fork_prefix(kRun, events, "z", kOtherRun);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code(), ErrorCode::NotFound);
  Result<std::vector<RunEvent>> const waits = fork_prefix(kRun, events, "b", kOtherRun);
  ASSERT_FALSE(waits);
  EXPECT_EQ(waits.error().code(), ErrorCode::RequestInvalid);
  EXPECT_TRUE(fork_prefix(kRun, events, "a", kOtherRun));
}

TEST(Fork, RefusesToKeepWhatWasUndone) {
  std::vector<RunEvent> const events =
      history({opened(), step("a"), step_end("a"), step("b"), step_end("b", StepOutcome::Failed),
               step("a~undo", 1, StepKind::Compensation), step_end("a~undo"),
               closed(RunOutcome::Compensated)});
  Result<std::vector<RunEvent>> const copies = fork_prefix(kRun, events, "b", kOtherRun);
  ASSERT_FALSE(copies);
  EXPECT_TRUE(copies.error().message().contains("'a'")) << copies.error().message();
  EXPECT_TRUE(fork_prefix(kRun, events, "a", kOtherRun));
}

TEST(Fork, OfAnyHistoryFromAnyStepIsAHistoryThatObeysTheLaws) {
  Chance chance(9);
  int forks = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<RunEvent> const events = random_history(chance, 40);
    for (std::string_view const at : {"a", "b"}) {
      Result<std::vector<RunEvent>> const copies = fork_prefix(kRun, events, at, kOtherRun);
      if (!copies) continue;
      RunState state;
      state.id = kOtherRun;
      RunOpened opening = opened();
      opening.forked_from = kRun;
      ASSERT_TRUE(fold(state, event(0, opening)));
      for (RunEvent const& each : *copies) {
        Status const done = fold(state, each);
        ASSERT_TRUE(done) << done.error().message() << ", seed 9, round " << round;
      }
      ++forks;
    }
  }
  EXPECT_GT(forks, 200);
}

}  // namespace
}  // namespace aether::jobs
