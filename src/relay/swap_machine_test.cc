// SPDX-License-Identifier: Apache-2.0
// What a swap does, told as stories. swap_machine_exhaustive_test.cc visits every state.
#include "relay/swap_machine.h"

#include <string>

#include <gtest/gtest.h>

#include "relay/swap_machine_story.h"

namespace aether::relay {
namespace {

using std::chrono::seconds;

TEST_F(SwapMachine, ChecksBeforeItLaunches) {
  EXPECT_EQ(tell(event::ReloadRequested{RevisionId{2}}), Words{"run-preflight"});
  EXPECT_EQ(phase(), "preflight");
  EXPECT_EQ(tell(event::PreflightPassed{}), Words{"launch 2"});
  EXPECT_EQ(phase(), "launching");
  EXPECT_EQ(steered(state_), RevisionId{1});
}

TEST_F(SwapMachine, ChangesNothingWhenPreflightFails) {
  tell(event::ReloadRequested{RevisionId{2}});
  EXPECT_EQ(tell(event::PreflightFailed{"hook lint exited with 1"}), Words{"fail"});
  EXPECT_EQ(why(), "hook lint exited with 1");
  EXPECT_EQ(serving(), RevisionId{1});
}

TEST_F(SwapMachine, DoesNotWaitForEverForHooksThatHang) {
  tell(event::ReloadRequested{RevisionId{2}});
  EXPECT_EQ(too_late(), Words{"fail"});
  EXPECT_EQ(why(), "the preflight hooks did not end within 1m");
}

TEST_F(SwapMachine, SteersToTheNewRevisionOnceItIsReadyAndLetsTheJudgeWatch) {
  launched();
  EXPECT_EQ(tell(event::NextReady{}), (Words{"steer-to 2", "start-judge"}));
  EXPECT_EQ(phase(), "soaking");
}

TEST_F(SwapMachine, SendsTheOldRevisionAwayWithTheVerdictAndIsFreeForTheNextSwap) {
  soaking();
  EXPECT_EQ(too_late(), (Words{"stop-judge", "succeed", "retire 1"}));
  EXPECT_EQ(serving(), RevisionId{2});
  EXPECT_EQ(tell(event::ReloadRequested{RevisionId{3}}), Words{"run-preflight"});
}

TEST_F(SwapMachine, SkipsTheSoakWhenNoneIsConfigured) {
  policy_.soak = Duration::zero();
  launched();
  EXPECT_EQ(tell(event::NextReady{}), (Words{"steer-to 2", "stop-judge", "succeed", "retire 1"}));
}

TEST_F(SwapMachine, WarmsUpBeforeTheCutover) {
  policy_.warmup = seconds(3);
  launched();
  EXPECT_EQ(tell(event::NextReady{}), Words{});
  EXPECT_EQ(steered(state_), RevisionId{1});
  EXPECT_EQ(too_late(), (Words{"steer-to 2", "start-judge"}));
}

TEST_F(SwapMachine, RollsBackWhenTheNewRevisionDiesInLaunch) {
  launched();
  EXPECT_EQ(tell(event::NextExited{"ModuleNotFoundError"}),
            (Words{"stop-judge", "retire-lane 2", "fail"}));
  EXPECT_EQ(serving(), RevisionId{1});
}

TEST_F(SwapMachine, RollsBackWhenTheNewRevisionIsNotReadyInTime) {
  launched();
  EXPECT_EQ(too_late(), (Words{"stop-judge", "retire-at-once 2", "fail"}));
  EXPECT_EQ(why(), "the new revision did not become ready within 1m");
}

TEST_F(SwapMachine, RollsBackWhenTheNewRevisionDiesInSoak) {
  soaking();
  EXPECT_EQ(tell(event::NextExited{"it exited with 1"}),
            (Words{"stop-judge", "steer-to 1", "retire-lane 2", "fail"}));
  EXPECT_EQ(why(), "it exited with 1");
  EXPECT_EQ(serving(), RevisionId{1});
}

TEST_F(SwapMachine, LetsASickRevisionAnswerWhatItHasAcceptedWhileTheOldOneServesAgain) {
  soaking();
  EXPECT_EQ(tell(event::NextSick{"health probe failed"}),
            (Words{"stop-judge", "steer-to 1", "retire 2", "fail"}));
  EXPECT_EQ(serving(), RevisionId{1});
}

TEST_F(SwapMachine, GivesUpWhenASickRevisionIsAllThereIs) {
  launched();
  tell(event::OldExited{});
  EXPECT_EQ(tell(event::NextSick{"sick"}),
            (Words{"stop-judge", "steer-to 1", "retire-at-once 2", "fail", "give-up"}));
}

TEST_F(SwapMachine, PromotesTheNewRevisionWhenTheOldOneDiesDuringLaunch) {
  launched();
  EXPECT_EQ(tell(event::OldExited{}), (Words{"steer-to 2", "retire-lane 1"}));
  EXPECT_EQ(tell(event::NextReady{}), Words{"start-judge"});
  EXPECT_EQ(too_late(), (Words{"stop-judge", "succeed", "retire-lane 1"}));
  EXPECT_EQ(serving(), RevisionId{2});
}

TEST_F(SwapMachine, PromotesTheNewRevisionWhenTheOldOneDiesInSoak) {
  soaking();
  EXPECT_EQ(tell(event::OldExited{"the old revision was killed by SIGKILL"}),
            (Words{"stop-judge", "succeed", "retire-lane 1"}));
  EXPECT_EQ(serving(), RevisionId{2});
  EXPECT_EQ(std::get<action::Succeed>(actions_.at(1)).note,
            "the new revision serves before its soak was over, because the old revision was killed "
            "by SIGKILL");
}

TEST_F(SwapMachine, StartsFromNothingWhenNothingServes) {
  tell(event::ReloadRequested{RevisionId{2}, false});
  EXPECT_EQ(tell(event::PreflightPassed{}), (Words{"launch 2", "steer-to 2", "retire-lane 1"}));
  EXPECT_EQ(tell(event::NextExited{"no"}),
            (Words{"stop-judge", "steer-to 1", "retire-lane 2", "fail", "give-up"}));
}

TEST_F(SwapMachine, IgnoresAReloadWhileASwapRuns) {
  soaking();
  EXPECT_EQ(tell(event::ReloadRequested{RevisionId{3}}), Words{});
  EXPECT_EQ(phase(), "soaking");
}

TEST_F(SwapMachine, LeavesTheNewRevisionsDeathAfterTheVerdictToTheRestartPolicy) {
  soaking();
  too_late();
  EXPECT_EQ(tell(event::NextExited{}), Words{});
  EXPECT_EQ(serving(), RevisionId{2});
}

class ExclusiveSwapMachine : public SwapMachine {
 protected:
  ExclusiveSwapMachine() { policy_.overlap = SwapPolicy::Overlap::No; }
};

TEST_F(ExclusiveSwapMachine, StopsTheOldRevisionBeforeItLaunchesTheNewOne) {
  tell(event::ReloadRequested{RevisionId{2}});
  EXPECT_EQ(tell(event::PreflightPassed{}), Words{"stop 1"});
  EXPECT_EQ(tell(event::OldExited{}), (Words{"launch 2", "steer-to 2", "retire-lane 1"}));
}

TEST_F(ExclusiveSwapMachine, KillsAnOldRevisionThatDoesNotStop) {
  launched();
  EXPECT_EQ(too_late(), Words{"kill 1"});
  EXPECT_EQ(too_late(), (Words{"fail", "give-up"}));
}

TEST_F(ExclusiveSwapMachine, LaunchesTheOldRevisionAgainWhenTheNewOneFails) {
  launched();
  tell(event::OldExited{});
  EXPECT_EQ(tell(event::NextExited{"it died"}),
            (Words{"stop-judge", "steer-to 1", "retire-lane 2", "launch 1"}));
  EXPECT_EQ(tell(event::OldReady{}), Words{"fail"});
  EXPECT_EQ(serving(), RevisionId{1});
}

TEST_F(ExclusiveSwapMachine, RemembersARollbackThatComesWhileTheOldRevisionStops) {
  launched();
  EXPECT_EQ(tell(event::RollbackRequested{"the user said so"}), Words{});
  EXPECT_EQ(tell(event::OldExited{}), Words{"launch 1"});
  EXPECT_EQ(tell(event::OldReady{}), Words{"fail"});
  EXPECT_EQ(why(), "the user said so");
}

TEST_F(ExclusiveSwapMachine, GivesUpWhenTheOldRevisionDoesNotStartAgain) {
  launched();
  tell(event::OldExited{});
  tell(event::NextExited{"it died"});
  EXPECT_EQ(tell(event::OldExited{"port in use"}), (Words{"fail", "give-up"}));
  EXPECT_EQ(why(), "it died; starting the old revision again failed too: port in use");
}

TEST_F(ExclusiveSwapMachine, EndsASickRevisionBeforeItLaunchesTheOldOneAgain) {
  launched();
  tell(event::OldExited{});
  tell(event::NextReady{});
  EXPECT_EQ(tell(event::NextSick{"sick"}), (Words{"stop-judge", "kill 2"}));
  EXPECT_EQ(tell(event::NextExited{}), (Words{"steer-to 1", "retire-lane 2", "launch 1"}));
}

}  // namespace
}  // namespace aether::relay
