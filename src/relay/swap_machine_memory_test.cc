// SPDX-License-Identifier: Apache-2.0
// What a swap does with the memory of the old revision, told as stories.
#include <string>

#include <gtest/gtest.h>

#include "relay/swap_machine.h"
#include "relay/swap_machine_story.h"

namespace aether::relay {
namespace {

using std::chrono::seconds;

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
  EXPECT_EQ(tell(event::Delivered{}), Words{"release 1"});
  EXPECT_EQ(tell(event::NextReady{}), Words{"start-judge"});
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
            (Words{"stop-judge", "steer-to 1", "retire-at-once 2", "resume 1 own", "fail"}));
  EXPECT_EQ(why(), "the hook raised KeyError");
}

TEST_F(SwapMachine, GoesOnWithoutMemoryIfThePolicyPrefersToForget) {
  policy_.on_handoff_failure = SwapPolicy::OnHandoffFailure::Continue;
  exporting();
  EXPECT_EQ(tell(event::ExportFailed{"the hook raised KeyError"}), Words{"deliver-memory 2"});
  EXPECT_EQ(tell(event::Delivered{}), Words{"release 1"});
  EXPECT_EQ(tell(event::NextReady{}), Words{"start-judge"});
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
  tell(event::Delivered{});
  tell(event::NextReady{});
  EXPECT_EQ(tell(event::NextSick{"health probe failed"}),
            (Words{"stop-judge", "steer-to 1", "retire-at-once 2", "resume 1 own", "fail"}));
}

TEST_F(SwapMachine, KillsTheNewRevisionBeforeTheOldOneResumesWhenADeliveryIsLate) {
  delivering();
  EXPECT_EQ(too_late(),
            (Words{"stop-judge", "steer-to 1", "retire-at-once 2", "resume 1 own", "fail"}));
}

TEST_F(SwapMachine, CountsExportAndDeliveryAgainstOneLimit) {
  exporting();
  clock_.advance(seconds(4));
  tell(event::Exported{});
  EXPECT_EQ(*due(state_) - clock_.now(), seconds(1));
}

TEST_F(SwapMachine, RefusesARevisionThatForgetsWhatTheOldOneHolds) {
  launched();
  EXPECT_EQ(tell(event::NextReady{.forgets_memory = true}),
            (Words{"stop-judge", "retire-at-once 2", "fail"}));
  EXPECT_NE(why().find("call load_context() first"), std::string::npos) << why();
}

TEST_F(SwapMachine, AnswersARevisionThatAsksForMemoryAfterItWasTakenForReady) {
  soaking();
  EXPECT_EQ(tell(event::NextAskedMemory{}), Words{"deliver-memory 2"});
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
            (Words{"resume 1 reclaimed", "release 2", "retire 2", "fail"}));
  EXPECT_EQ(serving(), RevisionId{1});
}

TEST_F(SwapMachine, ResumesTheOldRevisionWithItsOwnCopyWhenTheNewOneCannotExport) {
  soaking_with_memory();
  tell(event::RollbackRequested{"the user said so"});
  EXPECT_EQ(too_late(), (Words{"retire-at-once 2", "resume 1 own", "fail"}));
}

TEST_F(SwapMachine, LetsTheNewRevisionServeOnWhenTheOldOneDiesWhileItIsBroughtBack) {
  soaking_with_memory();
  tell(event::NextSick{"slow"});
  EXPECT_EQ(tell(event::OldExited{}),
            (Words{"steer-to 2", "resume 2 own", "retire-lane 1", "fail"}));
  EXPECT_EQ(serving(), RevisionId{2});
}

TEST_F(SwapMachine, DeliversWhatWasExportedEvenIfTheOldRevisionDied) {
  delivering();
  EXPECT_EQ(tell(event::OldExited{}), Words{"retire-lane 1"});
  EXPECT_EQ(tell(event::Delivered{}), Words{});
  EXPECT_EQ(tell(event::NextReady{}), Words{"start-judge"});
}

TEST_F(SwapMachine, DoesNotLetTheNewRevisionWaitForMemoryThatDiedWithTheOldOne) {
  exporting();
  EXPECT_EQ(tell(event::OldExited{}), Words{"retire-lane 1"});
  EXPECT_EQ(tell(event::ExportFailed{"it ended"}), Words{"deliver-memory 2"});
}

TEST_F(SwapMachine, DeliversWhatTheOldRevisionSaidLastEvenIfItsDeathIsSeenFirst) {
  exporting();
  EXPECT_EQ(tell(event::OldExited{}), Words{"retire-lane 1"});
  EXPECT_EQ(tell(event::Exported{}), Words{"deliver-memory 2"});
  EXPECT_EQ(tell(event::Delivered{}), Words{});
  EXPECT_EQ(tell(event::NextReady{}), Words{"start-judge"});
}

TEST_F(SwapMachine, DoesNotWaitForEverForTheLastWordOfADeadRevision) {
  exporting();
  EXPECT_EQ(tell(event::OldExited{}), Words{"retire-lane 1"});
  EXPECT_EQ(too_late(), Words{"deliver-memory 2"});
}

TEST_F(SwapMachine, SavesTheMemoryBeforeItEndsTheLastRevisionThatHasIt) {
  delivering();
  tell(event::Delivered{});
  tell(event::OldExited{});
  EXPECT_EQ(too_late(), (Words{"stop-judge", "reclaim-memory 2"}));
  EXPECT_EQ(tell(event::Reclaimed{.memory = true}),
            (Words{"steer-to 1", "retire-at-once 2", "fail", "give-up"}));
}

}  // namespace
}  // namespace aether::relay
