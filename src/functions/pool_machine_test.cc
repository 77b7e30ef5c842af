// SPDX-License-Identifier: Apache-2.0
#include "functions/pool_machine.h"

#include <gtest/gtest.h>

#include "functions/pool_rig.h"

namespace aether::functions {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::PoolRig;
using testing::Texts;

PoolPolicy without_park(std::uint32_t max = 10) {
  return {.max_instances = max, .parked = 0, .making = Making::Copy};
}
PoolPolicy with_park(std::uint32_t parked, std::uint32_t max = 10) {
  return {.max_instances = max, .parked = parked, .making = Making::Copy};
}

// ---- Activation

TEST(PoolMachine, StartsOneForOneWaitingAndOffersItWhenItIsReady) {
  PoolRig rig;
  EXPECT_EQ(rig.deploy(without_park()), Texts{});
  EXPECT_EQ(rig.want(1), Texts{"copy 1 of r1"});
  rig.now += milliseconds(2);
  EXPECT_EQ(rig.started(1), Texts{"offer 1 clone"});
  EXPECT_EQ(rig.state(1), MemberState::Warm);
}

TEST(PoolMachine, SaysHowLongTheDemandHadToWait) {
  PoolRig rig;
  (void)rig.deploy(without_park());
  (void)rig.want(1);
  rig.now += milliseconds(2);
  PoolActions const actions =
      rig.machine.step(pool::Started{InstanceId{1}}, rig.now, [] { return InstanceId{}; });
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(std::get<pool::Offer>(actions.front()).took, milliseconds(2));
}

TEST(PoolMachine, StartsNoMoreForTheSameOnesWhoWait) {
  PoolRig rig;
  (void)rig.deploy(without_park());
  (void)rig.want(1);
  EXPECT_EQ(rig.want(1), Texts{});
  EXPECT_EQ(rig.want(2), Texts{"copy 2 of r1"});
}

TEST(PoolMachine, StartsAsManyAsTheWaitingNeedAtTheirConcurrency) {
  PoolRig rig;
  PoolPolicy policy = without_park();
  policy.concurrency = 4;
  (void)rig.deploy(policy);
  EXPECT_EQ(rig.want(9).size(), 3U);
}

TEST(PoolMachine, StartsForTheWaitingBesideThoseThatAreBusy) {
  PoolRig rig;
  (void)rig.deploy(without_park());
  (void)rig.want(1);
  (void)rig.started(1);
  (void)rig.busy(1);
  EXPECT_EQ(rig.want(2), (Texts{"copy 2 of r1", "copy 3 of r1"}));
}

TEST(PoolMachine, NeverStartsMoreThanMaxInstances) {
  PoolRig rig;
  (void)rig.deploy(without_park(3));
  EXPECT_EQ(rig.want(100).size(), 3U);
  EXPECT_EQ(rig.want(200), Texts{});
}

TEST(PoolMachine, KeepsWhoWaitsUntilTheFirstRevisionIsDeployed) {
  PoolRig rig;
  EXPECT_EQ(rig.want(2), Texts{});
  EXPECT_EQ(rig.deploy(without_park()).size(), 2U);
}

TEST(PoolMachine, ParksWhatNobodyWaitsForAnyMore) {
  PoolRig rig;
  (void)rig.deploy(with_park(1));
  (void)rig.want(1);  // The one that was being made for the pool is for who waits.
  (void)rig.want(0);
  EXPECT_EQ(rig.started(1), Texts{"freeze 1"});
}

TEST(PoolMachine, SpawnsWhereItCannotCopyAndCallsThatCold) {
  PoolRig rig;
  PoolPolicy policy = without_park();
  policy.making = Making::Spawn;
  (void)rig.deploy(policy);
  EXPECT_EQ(rig.want(1), Texts{"spawn 1 of r1"});
  EXPECT_EQ(rig.started(1), Texts{"offer 1 cold"});
}

// ---- Parked members

TEST(PoolMachine, MakesThePoolAheadTwoAtATime) {
  PoolRig rig;
  EXPECT_EQ(rig.deploy(with_park(3)), (Texts{"copy 1 of r1", "copy 2 of r1"}));
  EXPECT_EQ(rig.started(1), (Texts{"freeze 1", "copy 3 of r1"}));
  EXPECT_EQ(rig.frozen(1), Texts{});
  EXPECT_EQ(rig.state(1), MemberState::Parked);
}

TEST(PoolMachine, ThawsBeforeItStarts) {
  PoolRig rig;
  rig.fill(with_park(2));
  // Nothing is made ahead while somebody waits.
  EXPECT_EQ(rig.want(3), (Texts{"thaw 1", "thaw 2", "copy 3 of r1"}));
  EXPECT_EQ(rig.thawed(1), Texts{"offer 1 parked"});
  EXPECT_EQ(rig.thawed(2), Texts{"offer 2 parked"});
  EXPECT_EQ(rig.started(3), (Texts{"offer 3 clone", "copy 4 of r1", "copy 5 of r1"}));
}

TEST(PoolMachine, ThawsTheOneFrozenLastForItsMemoryIsAtHand) {
  PoolRig rig;
  (void)rig.deploy(with_park(2));
  (void)rig.started(1);
  (void)rig.started(2);
  rig.now += seconds(1);
  (void)rig.frozen(2);
  rig.now += seconds(1);
  (void)rig.frozen(1);
  EXPECT_EQ(rig.want(1), Texts{"thaw 1"});
}

TEST(PoolMachine, TakesTheStartsOfThePoolForWhoWaitsBeforeItMakesNewOnes) {
  PoolRig rig;
  (void)rig.deploy(with_park(2));
  EXPECT_EQ(rig.want(3), Texts{"copy 3 of r1"});
  EXPECT_EQ(rig.started(1), Texts{"offer 1 clone"});
}

TEST(PoolMachine, ThawsWhatItWasJustFreezingWhenSomebodyWaits) {
  PoolRig rig;
  (void)rig.deploy(with_park(1));
  (void)rig.started(1);
  EXPECT_EQ(rig.want(1), Texts{});
  EXPECT_EQ(rig.frozen(1), Texts{"thaw 1"});
}

TEST(PoolMachine, HoldsWarmAndParkedTogetherWithinMaxInstances) {
  PoolRig rig;
  rig.fill(with_park(3, 3));
  EXPECT_EQ(rig.want(2), (Texts{"thaw 1", "thaw 2"}));
  (void)rig.thawed(1);
  EXPECT_EQ(rig.thawed(2), Texts{"offer 2 parked"});  // Two warm, one parked: no room for more.
}

TEST(PoolMachine, EndsParkedOnesThatASmallerPolicyHasNoRoomFor) {
  PoolRig rig;
  rig.fill(with_park(3));
  EXPECT_EQ(rig.deploy(with_park(1)), (Texts{"end 1", "end 2"}));
}

// ---- Back to nothing

TEST(PoolMachine, ParksAnInstanceThatWasIdleForTheIdleTimeout) {
  PoolRig rig;
  PoolPolicy policy = with_park(1, 1);
  policy.idle_timeout = seconds(5);
  rig.fill(policy);
  (void)rig.want(1);
  (void)rig.thawed(1);
  EXPECT_EQ(rig.wait(milliseconds(4999)), Texts{});
  EXPECT_EQ(rig.wait(milliseconds(1)), Texts{"withdraw 1"});
  EXPECT_EQ(rig.drained(1), Texts{"freeze 1"});
  EXPECT_EQ(rig.frozen(1), Texts{});
}

TEST(PoolMachine, EndsAWithdrawnInstanceThatThePoolHasNoRoomFor) {
  PoolRig rig;
  PoolPolicy policy = without_park();
  policy.idle_timeout = seconds(5);
  (void)rig.deploy(policy);
  (void)rig.want(1);
  (void)rig.started(1);
  EXPECT_EQ(rig.wait(seconds(5)), Texts{"withdraw 1"});
  EXPECT_EQ(rig.drained(1), Texts{"end 1"});
  EXPECT_EQ(rig.gone(1), Texts{});
  EXPECT_TRUE(rig.machine.members().empty());
  EXPECT_FALSE(rig.machine.next_due());
}

TEST(PoolMachine, OffersAWithdrawnInstanceAgainWhenSomebodyWaits) {
  PoolRig rig;
  PoolPolicy policy = without_park(1);
  policy.idle_timeout = seconds(5);
  (void)rig.deploy(policy);
  (void)rig.want(1);
  (void)rig.started(1);
  (void)rig.wait(seconds(5));
  EXPECT_EQ(rig.want(1), Texts{});  // It has the only place; it is nearly drained.
  EXPECT_EQ(rig.drained(1), Texts{"offer 1 warm"});
}

TEST(PoolMachine, CutsOffRequestsThatDoNotEndWithinTheDrainLimit) {
  PoolRig rig;
  (void)rig.deploy(without_park());
  (void)rig.want(1);
  (void)rig.started(1);
  (void)rig.wait(seconds(60));
  ASSERT_EQ(rig.state(1), MemberState::Draining);
  EXPECT_EQ(rig.wait(seconds(30)), Texts{"end 1: its requests did not end within 30.0s"});
}

TEST(PoolMachine, CountsIdlenessFromTheLastRequest) {
  PoolRig rig;
  (void)rig.deploy(without_park());
  (void)rig.want(1);
  (void)rig.started(1);
  EXPECT_EQ(rig.wait(seconds(59)), Texts{});
  (void)rig.idle(1);  // It had one, and nobody saw it.
  EXPECT_EQ(rig.wait(seconds(59)), Texts{});
  EXPECT_EQ(rig.wait(seconds(1)), Texts{"withdraw 1"});
}

TEST(PoolMachine, NeverLetsGoBelowMinInstances) {
  PoolRig rig;
  PoolPolicy policy = without_park();
  policy.min_instances = 2;
  EXPECT_EQ(rig.deploy(policy), (Texts{"copy 1 of r1", "copy 2 of r1"}));
  EXPECT_EQ(rig.started(1), Texts{"offer 1 warm"});
  EXPECT_EQ(rig.started(2), Texts{"offer 2 warm"});
  EXPECT_EQ(rig.wait(seconds(3600)), Texts{});
}

TEST(PoolMachine, ReplacesAMinInstanceThatEnded) {
  PoolRig rig;
  PoolPolicy policy = without_park();
  policy.min_instances = 1;
  (void)rig.deploy(policy);
  (void)rig.started(1);
  (void)rig.busy(1);
  EXPECT_EQ(rig.gone(1), Texts{});
  EXPECT_EQ(rig.wait(milliseconds(99)), Texts{});
  EXPECT_EQ(rig.wait(milliseconds(1)), Texts{"copy 2 of r1"});
}

// ---- The autoscaler's wish

TEST(PoolMachine, StartsMoreAheadWhenTheAutoscalerWishesSoUnderLoad) {
  PoolRig rig;
  (void)rig.deploy(without_park());
  (void)rig.want(1);
  (void)rig.started(1);
  (void)rig.busy(1);
  EXPECT_EQ(rig.tell(pool::Scale{2}), Texts{"copy 2 of r1"});
  EXPECT_EQ(rig.started(2), Texts{"offer 2 warm"});
}

TEST(PoolMachine, KeepsWhatTheAutoscalerWishesAsLongAsThereIsLoad) {
  PoolRig rig;
  (void)rig.deploy(without_park());
  (void)rig.want(2);
  (void)rig.started(1);
  (void)rig.started(2);
  (void)rig.busy(1);
  (void)rig.tell(pool::Scale{2});
  EXPECT_EQ(rig.wait(seconds(600)), Texts{});
  EXPECT_EQ(rig.tell(pool::Scale{1}), Texts{"withdraw 2"});
}

TEST(PoolMachine, LetsEveryoneGoWithoutLoadWhateverTheAutoscalerRemembers) {
  PoolRig rig;
  (void)rig.deploy(without_park());
  (void)rig.want(1);
  (void)rig.started(1);
  (void)rig.idle(1);
  (void)rig.tell(pool::Scale{5});
  EXPECT_EQ(rig.wait(seconds(60)), Texts{"withdraw 1"});
}

TEST(PoolMachine, GrantsTheAutoscalerNoMoreThanMaxInstances) {
  PoolRig rig;
  (void)rig.deploy(without_park(2));
  (void)rig.want(1);
  (void)rig.started(1);
  (void)rig.busy(1);
  EXPECT_EQ(rig.tell(pool::Scale{100}), Texts{"copy 2 of r1"});
}

// ---- Where clients connect to instances themselves

TEST(PoolMachine, KeepsAnIdleInstanceThatAClientHasFoundBeforeItWasFrozen) {
  PoolRig rig;
  PoolPolicy policy = with_park(1, 1);
  policy.idle_timeout = seconds(5);
  rig.fill(policy);
  (void)rig.want(1);
  (void)rig.thawed(1);
  EXPECT_EQ(rig.wait(seconds(5)), Texts{"withdraw 1"});
  EXPECT_EQ(rig.tell(pool::Occupied{InstanceId{1}}), Texts{"offer 1 warm"});
  EXPECT_EQ(rig.state(1), MemberState::Warm);
  EXPECT_EQ(rig.wait(seconds(60)), Texts{}) << "it is in use";
  (void)rig.idle(1);
  EXPECT_EQ(rig.wait(seconds(5)), Texts{"withdraw 1"});
  EXPECT_EQ(rig.drained(1), Texts{"freeze 1"});
}

TEST(PoolMachine, OffersOneMadeAheadThatAClientHasFoundBeforeItWasFrozen) {
  PoolRig rig;
  (void)rig.deploy(with_park(1, 2));
  EXPECT_EQ(rig.started(1), Texts{"freeze 1"});
  EXPECT_EQ(rig.tell(pool::Occupied{InstanceId{1}}), (Texts{"offer 1 warm", "copy 2 of r1"}));
}

TEST(PoolMachine, WithdrawsAnOccupiedInstanceOfAnOldRevisionAgain) {
  PoolRig rig;
  (void)rig.deploy(with_park(1, 2));
  (void)rig.started(1);
  (void)rig.deploy(with_park(1, 2), PoolRig::kSecond);
  EXPECT_EQ(rig.tell(pool::Occupied{InstanceId{1}}), Texts{}) << "it is ending already";
}

// ---- Starts that fail for good

TEST(PoolMachine, StartsNothingAfterACrashLoopBeforeADeploy) {
  PoolRig rig;
  PoolPolicy policy = without_park();
  policy.crash_loop = 3;
  policy.crash_loop_window = seconds(60);
  (void)rig.deploy(policy);
  for (std::uint64_t id = 1; id <= 2; ++id) {
    EXPECT_EQ(rig.want(1).size(), 1U);
    (void)rig.failed(id);
  }
  (void)rig.wait(seconds(1));
  (void)rig.want(1);
  (void)rig.failed(3);
  Texts const refused = rig.want(1);
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_NE(refused.front().find("3 starts failed in a row (restart.crash_loop)"),
            std::string::npos);
  EXPECT_EQ(rig.wait(std::chrono::hours(10)), Texts{});
  EXPECT_EQ(rig.want(1).size(), 1U);
  (void)rig.deploy(policy, PoolRig::kSecond);
  EXPECT_EQ(rig.want(1), Texts{"copy 4 of r2"});
}

TEST(PoolMachine, GoesOnTryingWhereFailuresAreFurtherApartThanTheWindow) {
  PoolRig rig;
  PoolPolicy policy = without_park();
  policy.crash_loop = 2;
  policy.crash_loop_window = seconds(1);
  (void)rig.deploy(policy);
  (void)rig.want(1);
  (void)rig.failed(1);
  (void)rig.wait(seconds(2));
  EXPECT_EQ(rig.want(1), Texts{"copy 2 of r1"});
  (void)rig.failed(2);
  (void)rig.wait(seconds(2));
  EXPECT_EQ(rig.want(1), Texts{"copy 3 of r1"});
}

TEST(PoolMachine, TriesAgainForWhoWouldNotBeToldWhyTheyAreRefused) {
  PoolRig rig;
  PoolPolicy policy{.parked = 0, .making = Making::Copy};
  policy.refuses_late = true;
  (void)rig.deploy(policy);
  (void)rig.want(1);
  rig.now += milliseconds(1);
  EXPECT_EQ(rig.failed(1), (Texts{"end 1: no memory", "copy 2 of r1"}));
  rig.now += milliseconds(1);
  EXPECT_EQ(rig.failed(2), (Texts{"end 2: no memory", "copy 3 of r1"}));
  rig.now += milliseconds(1);
  EXPECT_EQ(rig.failed(3), (Texts{"end 3: no memory",
                                  "refuse: no memory; 3 starts failed in a row, the next is tried "
                                  "in 400ms"}));
  EXPECT_EQ(rig.machine.waiting(), 0U);
}

TEST(PoolMachine, GivesEachOfSeveralCopiesItsTimeAfterThoseBeforeIt) {
  PoolRig rig;
  PoolPolicy policy = without_park();
  policy.start_limit = milliseconds(15);
  (void)rig.deploy(policy);
  EXPECT_EQ(rig.want(3).size(), 3U);
  EXPECT_EQ(rig.machine.next_due(), rig.now + milliseconds(15));
  EXPECT_EQ(rig.machine.members().at(InstanceId{3}).due, rig.now + milliseconds(45));
}

}  // namespace
}  // namespace aether::functions
