// SPDX-License-Identifier: Apache-2.0
// What a swap does, told as stories. swap_machine_exhaustive_test.cc visits every state.
#include "relay/swap_machine.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace aether::relay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Words = std::vector<std::string>;

/// A service whose revision 1 serves; a swap leads to revision 2.
class SwapMachine : public testing::Test {
 protected:
  /// Tells the machine and returns its actions as words: "steer-to 2", "kill 2", "succeed".
  Words tell(SwapEvent const& event) {
    actions_ = step(state_, event, clock_.now(), policy_);
    Words words;
    for (SwapAction const& action : actions_) {
      auto const revision = revision_of(action);
      std::string word(action_name(action));
      if (revision) word += fmt::format(" {}", *revision);
      if (auto const* resume = std::get_if<action::Resume>(&action)) {
        word += resume->with_reclaimed_memory ? " reclaimed" : " own";
      }
      words.push_back(std::move(word));
    }
    return words;
  }
  /// Turns the clock to the deadline and ticks.
  Words too_late() {
    clock_.advance(*due(state_) - clock_.now());
    return tell(event::Tick{});
  }
  [[nodiscard]] std::string_view phase() const { return phase_name(state_); }
  [[nodiscard]] std::string why() const {
    for (SwapAction const& action : actions_) {
      if (auto const* fail = std::get_if<action::Fail>(&action)) return fail->why;
    }
    return {};
  }
  [[nodiscard]] RevisionId serving() const { return std::get<Idle>(state_).serving; }

  void launched(bool old_alive = true) {
    tell(event::ReloadRequested{RevisionId{2}, old_alive});
    tell(event::PreflightPassed{});
  }
  void exporting() {
    launched();
    tell(event::NextAskedMemory{});
    tell(event::QueueEmpty{});
  }
  void delivering() {
    exporting();
    tell(event::Exported{});
  }
  void soaking_with_memory() {
    delivering();
    tell(event::Delivered{.also_ready = true});
  }
  void soaking() {
    launched();
    tell(event::NextReady{});
  }
  void draining() {
    soaking();
    too_late();
  }

  SwapPolicy policy_;
  SwapState state_ = Idle{RevisionId{1}};
  SwapActions actions_;
  ManualClock clock_;
};

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

TEST_F(SwapMachine, EmptiesTheOldQueueBeforeItStopsTheOldRevision) {
  soaking();
  EXPECT_EQ(too_late(), (Words{"stop-judge", "succeed", "watch-queue 1"}));
  EXPECT_EQ(tell(event::QueueEmpty{}), Words{"stop 1"});
  EXPECT_EQ(tell(event::OldExited{}), Words{"retire-lane 1"});
  EXPECT_EQ(serving(), RevisionId{2});
}

TEST_F(SwapMachine, StopsTheOldRevisionEvenIfItsQueueNeverEmpties) {
  draining();
  EXPECT_EQ(too_late(), Words{"stop 1"});
}

TEST_F(SwapMachine, KillsAnOldRevisionThatDoesNotDrainInTime) {
  draining();
  tell(event::QueueEmpty{});
  EXPECT_EQ(too_late(), Words{"kill 1"});
  EXPECT_EQ(tell(event::OldExited{}), Words{"retire-lane 1"});
}

TEST_F(SwapMachine, EndsTheDrainEvenIfTheOldRevisionCannotBeKilled) {
  draining();
  too_late();
  too_late();
  EXPECT_EQ(too_late(), Words{"retire-lane 1"});
  EXPECT_EQ(serving(), RevisionId{2});
}

TEST_F(SwapMachine, HurriesADrainWhenARollbackComesTooLate) {
  draining();
  EXPECT_EQ(tell(event::RollbackRequested{"too late"}), Words{"kill 1"});
  EXPECT_EQ(tell(event::RollbackRequested{"again"}), Words{});
}

TEST_F(SwapMachine, SkipsTheSoakWhenNoneIsConfigured) {
  policy_.soak = Duration::zero();
  launched();
  EXPECT_EQ(tell(event::NextReady{}),
            (Words{"steer-to 2", "stop-judge", "succeed", "watch-queue 1"}));
}

TEST_F(SwapMachine, WarmsUpBeforeTheCutover) {
  policy_.warmup = seconds(3);
  launched();
  EXPECT_EQ(tell(event::NextReady{}), Words{});
  EXPECT_EQ(steered(state_), RevisionId{1});
  EXPECT_EQ(too_late(), (Words{"steer-to 2", "start-judge"}));
}

TEST_F(SwapMachine, RemembersReadinessThatWasToldDuringTheWarmUp) {
  policy_.warmup = seconds(3);
  launched();
  tell(event::NextAskedMemory{});
  tell(event::NextReady{});
  EXPECT_EQ(too_late(), (Words{"steer-to 2", "watch-queue 1"}));
  tell(event::QueueEmpty{});
  tell(event::Exported{});
  tell(event::Delivered{});
  EXPECT_EQ(phase(), "soaking");
}

TEST_F(SwapMachine, RemembersReadinessThatWasToldBeforeTheWarmUp) {
  policy_.warmup = seconds(3);
  launched();
  tell(event::NextReady{});
  tell(event::NextAskedMemory{});
  too_late();
  tell(event::QueueEmpty{});
  tell(event::Exported{});
  tell(event::Delivered{});
  EXPECT_EQ(phase(), "soaking");
}

TEST_F(SwapMachine, MovesTheMemoryAfterTheOldQueueIsEmpty) {
  launched();
  EXPECT_EQ(tell(event::NextAskedMemory{}), (Words{"steer-to 2", "watch-queue 1"}));
  EXPECT_EQ(tell(event::QueueEmpty{}), Words{"export-memory 1"});
  EXPECT_EQ(tell(event::Exported{}), Words{"deliver-memory 2"});
  EXPECT_EQ(tell(event::Delivered{.also_ready = true}), (Words{"release 1", "start-judge"}));
}

TEST_F(SwapMachine, ExportsEvenIfTheOldQueueDoesNotEmpty) {
  launched();
  tell(event::NextAskedMemory{});
  EXPECT_EQ(too_late(), Words{"export-memory 1"});
}

TEST_F(SwapMachine, AwaitsTheNewRevisionsWordAfterItHasItsMemory) {
  delivering();
  EXPECT_EQ(tell(event::Delivered{}), Words{"release 1"});
  EXPECT_EQ(phase(), "cutover");
  EXPECT_EQ(tell(event::NextReady{}), Words{"start-judge"});
}

TEST_F(SwapMachine, BringsTheMemoryBackWhenTheNewRevisionNeverSaysThatItServes) {
  delivering();
  tell(event::Delivered{});
  EXPECT_EQ(too_late(), (Words{"stop-judge", "steer-to 1", "reclaim-memory 2"}));
}

TEST_F(SwapMachine, KeepsTheOldRevisionWhenItsExportFails) {
  exporting();
  EXPECT_EQ(tell(event::ExportFailed{"the hook raised KeyError"}),
            (Words{"stop-judge", "steer-to 1", "kill 2", "resume 1 own"}));
  EXPECT_EQ(tell(event::NextExited{}), (Words{"retire-lane 2", "fail"}));
  EXPECT_EQ(why(), "the hook raised KeyError");
}

TEST_F(SwapMachine, GoesOnWithoutMemoryIfThePolicyPrefersToForget) {
  policy_.on_handoff_failure = SwapPolicy::OnHandoffFailure::Continue;
  exporting();
  EXPECT_EQ(tell(event::ExportFailed{"the hook raised KeyError"}), Words{"deliver-memory 2"});
  EXPECT_EQ(tell(event::Delivered{.also_ready = true}), (Words{"release 1", "start-judge"}));
}

TEST_F(SwapMachine, GivesTheNewRevisionItsFullTimeAfterAnExportThatHung) {
  policy_.on_handoff_failure = SwapPolicy::OnHandoffFailure::Continue;
  exporting();
  EXPECT_EQ(too_late(), Words{"deliver-memory 2"});
  EXPECT_EQ(tell(event::Tick{}), Words{});
  EXPECT_EQ(*due(state_) - clock_.now(), policy_.handoff_limit);
}

TEST_F(SwapMachine, DoesNotOverwriteTheOldMemoryWithThatOfARevisionThatForgot) {
  policy_.on_handoff_failure = SwapPolicy::OnHandoffFailure::Continue;
  exporting();
  tell(event::ExportFailed{"the hook raised"});
  tell(event::Delivered{.also_ready = true});
  EXPECT_EQ(tell(event::NextSick{"health probe failed"}),
            (Words{"stop-judge", "steer-to 1", "kill 2", "resume 1 own"}));
}

TEST_F(SwapMachine, KillsTheNewRevisionBeforeTheOldOneResumesWhenADeliveryIsLate) {
  delivering();
  EXPECT_EQ(too_late(), (Words{"stop-judge", "steer-to 1", "kill 2", "resume 1 own"}));
}

TEST_F(SwapMachine, CountsExportAndDeliveryAgainstOneLimit) {
  exporting();
  clock_.advance(seconds(4));
  tell(event::Exported{});
  EXPECT_EQ(*due(state_) - clock_.now(), seconds(1));
}

TEST_F(SwapMachine, RefusesARevisionThatForgetsWhatTheOldOneHolds) {
  launched();
  EXPECT_EQ(tell(event::NextReady{.forgets_memory = true}), (Words{"stop-judge", "kill 2"}));
  tell(event::NextExited{});
  EXPECT_NE(why().find("call load_context() first"), std::string::npos) << why();
}

TEST_F(SwapMachine, AnswersARevisionThatAsksForMemoryAfterItWasTakenForReady) {
  soaking();
  EXPECT_EQ(tell(event::NextAskedMemory{}), Words{"deliver-memory 2"});
  too_late();
  EXPECT_EQ(tell(event::NextAskedMemory{}), Words{"deliver-memory 2"});
}

TEST_F(SwapMachine, RollsBackWhenTheNewRevisionDiesInLaunch) {
  launched();
  EXPECT_EQ(tell(event::NextExited{"ModuleNotFoundError"}),
            (Words{"stop-judge", "retire-lane 2", "fail"}));
  EXPECT_EQ(serving(), RevisionId{1});
}

TEST_F(SwapMachine, RollsBackWhenTheNewRevisionIsNotReadyInTime) {
  launched();
  EXPECT_EQ(too_late(), (Words{"stop-judge", "kill 2"}));
  EXPECT_EQ(tell(event::NextExited{}), (Words{"retire-lane 2", "fail"}));
  EXPECT_EQ(why(), "the new revision did not become ready within 1m");
}

TEST_F(SwapMachine, RollsBackWhenTheNewRevisionDiesInSoak) {
  soaking();
  EXPECT_EQ(tell(event::NextExited{"it exited with 1"}),
            (Words{"stop-judge", "steer-to 1", "retire-lane 2", "fail"}));
  EXPECT_EQ(why(), "it exited with 1");
  EXPECT_EQ(serving(), RevisionId{1});
}

TEST_F(SwapMachine, ResumesTheOldRevisionWithItsOwnCopyWhenTheNewOneDiedWithTheMemory) {
  soaking_with_memory();
  EXPECT_EQ(tell(event::NextExited{"SIGSEGV"}),
            (Words{"stop-judge", "steer-to 1", "resume 1 own", "retire-lane 2", "fail"}));
}

TEST_F(SwapMachine, ResumesTheOldRevisionWithTheMemoryOfASickNewOne) {
  soaking_with_memory();
  EXPECT_EQ(tell(event::NextSick{"health probe failed"}),
            (Words{"stop-judge", "steer-to 1", "reclaim-memory 2"}));
  EXPECT_EQ(tell(event::Reclaimed{.memory = true}),
            (Words{"resume 1 reclaimed", "release 2", "watch-queue 2"}));
  EXPECT_EQ(tell(event::QueueEmpty{}), (Words{"stop 2"}));
  EXPECT_EQ(tell(event::NextExited{}), (Words{"retire-lane 2", "fail"}));
}

TEST_F(SwapMachine, LetsASickRevisionAnswerWhatItHasAcceptedWhileTheOldOneServesAgain) {
  soaking();
  EXPECT_EQ(tell(event::NextSick{"health probe failed"}),
            (Words{"stop-judge", "steer-to 1", "watch-queue 2"}));
  EXPECT_EQ(tell(event::QueueEmpty{}), (Words{"stop 2"}));
  EXPECT_EQ(too_late(), (Words{"kill 2"}));
  EXPECT_EQ(tell(event::NextExited{}), (Words{"retire-lane 2", "fail"}));
}

TEST_F(SwapMachine, KillsASickRevisionAtOnceWhenAskedASecondTime) {
  soaking();
  tell(event::NextSick{"health probe failed"});
  EXPECT_EQ(tell(event::RollbackRequested{}), (Words{"kill 2"}));
  EXPECT_EQ(tell(event::NextExited{}), (Words{"retire-lane 2", "fail"}));
}

TEST_F(SwapMachine, ResumesTheOldRevisionWithItsOwnCopyWhenTheNewOneCannotExport) {
  soaking_with_memory();
  tell(event::RollbackRequested{"the user said so"});
  EXPECT_EQ(too_late(), (Words{"kill 2", "resume 1 own"}));
}

TEST_F(SwapMachine, LetsTheNewRevisionServeOnWhenTheOldOneDiesWhileItIsBroughtBack) {
  soaking_with_memory();
  tell(event::NextSick{"slow"});
  EXPECT_EQ(tell(event::OldExited{}),
            (Words{"steer-to 2", "resume 2 own", "retire-lane 1", "fail"}));
  EXPECT_EQ(serving(), RevisionId{2});
}

TEST_F(SwapMachine, GivesUpWhenBothDieInARollback) {
  soaking();
  tell(event::NextSick{"sick"});
  EXPECT_EQ(tell(event::OldExited{}), Words{});
  EXPECT_EQ(tell(event::NextExited{}), (Words{"retire-lane 2", "fail", "give-up"}));
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
  EXPECT_EQ(tell(event::OldExited{}), (Words{"stop-judge", "succeed", "retire-lane 1"}));
  EXPECT_EQ(serving(), RevisionId{2});
}

TEST_F(SwapMachine, DeliversWhatWasExportedEvenIfTheOldRevisionDied) {
  delivering();
  EXPECT_EQ(tell(event::OldExited{}), Words{"retire-lane 1"});
  EXPECT_EQ(tell(event::Delivered{.also_ready = true}), Words{"start-judge"});
}

TEST_F(SwapMachine, DoesNotLetTheNewRevisionWaitForMemoryThatDiedWithTheOldOne) {
  exporting();
  EXPECT_EQ(tell(event::OldExited{}), (Words{"retire-lane 1", "deliver-memory 2"}));
}

TEST_F(SwapMachine, SavesTheMemoryBeforeItEndsTheLastRevisionThatHasIt) {
  delivering();
  tell(event::Delivered{});
  tell(event::OldExited{});
  EXPECT_EQ(too_late(), (Words{"stop-judge", "reclaim-memory 2"}));
  EXPECT_EQ(tell(event::Reclaimed{.memory = true}), Words{"kill 2"});
  EXPECT_EQ(tell(event::NextExited{}), (Words{"steer-to 1", "retire-lane 2", "fail", "give-up"}));
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
  draining();
  EXPECT_EQ(tell(event::NextExited{}), Words{});
  EXPECT_EQ(phase(), "draining");
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
