// SPDX-License-Identifier: Apache-2.0
// What a swap does that gives the new revision a part of what is new, and then more, told as
// stories.
#include <gtest/gtest.h>

#include "relay/swap_machine_story.h"
#include "relay/swap_policy.h"

namespace aether::relay {
namespace {

using std::chrono::seconds;

class CanarySwap : public SwapMachine {
 protected:
  CanarySwap() { policy_.parts = {{{}, 5}, {seconds(10), 25}, {seconds(20), 50}}; }
};

TEST_F(CanarySwap, GivesTheNewRevisionMoreAndMoreAndEverythingWithTheVerdict) {
  launched();
  EXPECT_EQ(tell(event::NextReady{}), (Words{"split 2 5%", "start-judge"}));
  EXPECT_EQ(percent(state_, policy_), 5);
  Instant const cutover = clock_.now();
  EXPECT_EQ(too_late(), Words{"split 2 25%"});
  EXPECT_EQ(clock_.now() - cutover, seconds(10));
  EXPECT_EQ(too_late(), Words{"split 2 50%"});
  EXPECT_EQ(clock_.now() - cutover, seconds(20));
  EXPECT_EQ(percent(state_, policy_), 50);
  EXPECT_EQ(phase(), "soaking");
  EXPECT_EQ(too_late(), (Words{"steer-to 2", "stop-judge", "succeed", "retire 1"}));
  EXPECT_EQ(clock_.now() - cutover, seconds(30));
  EXPECT_EQ(percent(state_, policy_), 100);
}

TEST_F(CanarySwap, TakesBackWhatItGaveWhenTheJudgeFindsTheNewRevisionSick) {
  soaking();
  too_late();
  EXPECT_EQ(tell(event::NextSick{"health probe failed"}),
            (Words{"stop-judge", "steer-to 1", "retire 2", "fail"}));
  EXPECT_EQ(serving(), RevisionId{1});
  EXPECT_EQ(percent(state_, policy_), 100);
}

TEST_F(CanarySwap, TakesBackWhatItGaveWhenTheNewRevisionDies) {
  soaking();
  EXPECT_EQ(tell(event::NextExited{"it exited with 1"}),
            (Words{"stop-judge", "steer-to 1", "retire-lane 2", "fail"}));
}

TEST_F(CanarySwap, TakesBackWhatItGaveOnRequest) {
  soaking();
  EXPECT_EQ(tell(event::RollbackRequested{"no"}),
            (Words{"stop-judge", "steer-to 1", "retire 2", "fail"}));
}

TEST_F(CanarySwap, GivesEverythingToTheNewRevisionWhenTheOldOneDies) {
  soaking();
  EXPECT_EQ(tell(event::OldExited{"it exited with 1"}),
            (Words{"steer-to 2", "stop-judge", "succeed", "retire-lane 1"}));
}

TEST_F(CanarySwap, GivesEverythingAtOnceWhenThereIsNoOldRevisionToHaveTheRest) {
  launched(false);
  EXPECT_EQ(tell(event::NextReady{}), Words{"start-judge"});
  EXPECT_EQ(percent(state_, policy_), 100);
  EXPECT_EQ(too_late(), (Words{"stop-judge", "succeed", "retire-lane 1"}));
}

TEST_F(CanarySwap, GivesEverythingToWhoHasTheMemory) {
  soaking_with_memory();
  EXPECT_EQ(percent(state_, policy_), 100);
  EXPECT_EQ(too_late(), (Words{"stop-judge", "succeed", "retire 1"}));
}

TEST_F(CanarySwap, DoesNotSplitWhereThereIsNoSoak) {
  policy_.soak = Duration::zero();
  launched();
  EXPECT_EQ(tell(event::NextReady{}), (Words{"steer-to 2", "stop-judge", "succeed", "retire 1"}));
}

TEST(SwapPolicy, CountsTheTimesOfACanaryFromTheCutover) {
  config::Service spec;
  config::Canary& canary = spec.orchestration.canary;
  EXPECT_TRUE(swap_policy(spec).parts.empty());
  canary.weight = 5;
  canary.steps = {{seconds(10), 25}, {seconds(5), 100}};
  EXPECT_EQ(swap_policy(spec).parts,
            (std::vector<Part>{{{}, 5}, {seconds(10), 25}, {seconds(15), 100}}));
}

}  // namespace
}  // namespace aether::relay
