// SPDX-License-Identifier: Apache-2.0
// Starts that fail, members that die, deploys, the end.
#include <gtest/gtest.h>

#include "functions/pool_machine.h"
#include "functions/pool_rig.h"

namespace aether::functions {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::PoolRig;
using testing::Texts;

PoolPolicy plain(std::uint32_t parked = 0) {
  return {.max_instances = 10, .parked = parked, .making = Making::Copy};
}

/// So many warm and busy ones of the first revision.
void serve(PoolRig& rig, PoolPolicy const& policy, std::uint32_t instances) {
  (void)rig.deploy(policy);
  (void)rig.want(instances);
  for (std::uint64_t id = 1; id <= instances; ++id) {
    (void)rig.started(id);
    (void)rig.busy(id);
  }
}

// ---- Starts that fail

TEST(PoolFaults, RefusesWhoWaitsWhenTheOnlyStartFailed) {
  PoolRig rig;
  (void)rig.deploy(plain());
  (void)rig.want(1);
  EXPECT_EQ(rig.failed(1), (Texts{"end 1: no memory", "refuse: no memory"}));
  EXPECT_EQ(rig.machine.waiting(), 0U);
}

TEST(PoolFaults, RefusesNobodyWhileAnotherStartIsOnItsWay) {
  PoolRig rig;
  (void)rig.deploy(plain());
  (void)rig.want(2);
  EXPECT_EQ(rig.failed(1), Texts{"end 1: no memory"});
  EXPECT_EQ(rig.started(2), Texts{"offer 2 clone"});
}

TEST(PoolFaults, TriesAgainForTheNextOneWhoAsks) {
  PoolRig rig;
  (void)rig.deploy(plain());
  (void)rig.want(1);
  (void)rig.failed(1);
  EXPECT_EQ(rig.want(1), Texts{"copy 2 of r1"});
  EXPECT_EQ(rig.started(2), Texts{"offer 2 clone"});
}

TEST(PoolFaults, RefusesAtOnceWhileAHandlerThatFailsAgainAndAgainIsLeftAlone) {
  PoolRig rig;
  (void)rig.deploy(plain());
  for (std::uint64_t id = 1; id <= 3; ++id) {
    (void)rig.want(1);
    rig.now += milliseconds(1);
    (void)rig.failed(id);
  }
  EXPECT_EQ(rig.want(1), Texts{"refuse: no memory; 3 starts failed in a row, the next is tried in "
                               "400ms"});
  (void)rig.wait(milliseconds(400));
  EXPECT_EQ(rig.want(5), Texts{"copy 4 of r1"});  // One finds out.
  EXPECT_EQ(rig.started(4), Texts{"offer 4 clone"});
  // It has taken a request: the others follow.
  EXPECT_EQ(rig.busy(4).size(), 4U);
}

TEST(PoolFaults, CountsStartsThatFailTogetherOnce) {
  PoolRig rig;
  (void)rig.deploy(plain());
  (void)rig.want(5);
  rig.now += milliseconds(1);
  for (std::uint64_t id = 1; id <= 5; ++id) (void)rig.failed(id);
  EXPECT_EQ(rig.machine.failures().count, 1U);
}

TEST(PoolFaults, SpawnsNoBrokenHandlerInALoop) {
  PoolRig rig;
  PoolPolicy policy = plain(3);
  policy.min_instances = 1;
  policy.making = Making::Spawn;
  (void)rig.deploy(policy);
  int starts = 0;
  Instant const end = rig.now + std::chrono::hours(1);
  while (rig.now < end) {
    for (std::uint64_t id = 1; id <= rig.ids; ++id) {
      if (!rig.machine.members().contains(InstanceId{id})) continue;
      if (rig.state(id) == MemberState::Starting) {
        ++starts;
        (void)rig.failed(id);
      }
      (void)rig.gone(id);
    }
    ASSERT_TRUE(rig.machine.next_due());
    ASSERT_GT(*rig.machine.next_due(), rig.now);
    (void)rig.wait(*rig.machine.next_due() - rig.now);
  }
  // Twice as long each time up to half a minute: about 10, and then 120 an hour.
  EXPECT_LT(starts, 140);
  EXPECT_GT(starts, 100);
}

TEST(PoolFaults, EndsAStartThatIsNotReadyInTime) {
  PoolRig rig;
  PoolPolicy policy = plain();
  policy.start_limit = milliseconds(15);
  (void)rig.deploy(policy);
  (void)rig.want(1);
  EXPECT_EQ(rig.wait(milliseconds(14)), Texts{});
  EXPECT_EQ(rig.wait(milliseconds(1)),
            (Texts{"end 1: it was not ready within restore_timeout_ms, 15.0ms",
                   "refuse: it was not ready within restore_timeout_ms, 15.0ms"}));
}

TEST(PoolFaults, SpawnsWhereACopyFailedIfThePolicySaysSo) {
  PoolRig rig;
  PoolPolicy policy = plain();
  policy.cold_when_copy_fails = true;
  (void)rig.deploy(policy);
  (void)rig.want(1);
  EXPECT_EQ(rig.failed(1), (Texts{"end 1: no memory", "spawn 2 of r1"}));
  EXPECT_EQ(rig.started(2), Texts{"offer 2 cold"});
}

TEST(PoolFaults, RefusesWhenTheSpawnInPlaceOfTheCopyFailsToo) {
  PoolRig rig;
  PoolPolicy policy = plain();
  policy.cold_when_copy_fails = true;
  (void)rig.deploy(policy);
  (void)rig.want(1);
  (void)rig.failed(1);
  EXPECT_EQ(rig.failed(2, "exit 1"), (Texts{"end 2: exit 1", "refuse: exit 1"}));
}

TEST(PoolFaults, TakesAStartThatEndedByItselfForOneThatFailed) {
  PoolRig rig;
  (void)rig.deploy(plain());
  (void)rig.want(1);
  EXPECT_EQ(rig.gone(1), Texts{"refuse: it ended"});
  EXPECT_TRUE(rig.machine.members().empty());
}

// ---- Members that die

TEST(PoolFaults, StartsAnotherForWhoStillWaitsWhenOneDiedAtWork) {
  PoolRig rig;
  PoolPolicy policy = plain();
  policy.max_instances = 1;
  (void)rig.deploy(policy);
  (void)rig.want(3);
  (void)rig.started(1);
  (void)rig.busy(1);
  EXPECT_EQ(rig.gone(1), Texts{"copy 2 of r1"});
  EXPECT_EQ(rig.started(2), Texts{"offer 2 clone"});
}

TEST(PoolFaults, RefusesWhenAnInstanceCannotBeReachedThatIsSaidToListen) {
  PoolRig rig;
  PoolPolicy policy = plain();
  policy.max_instances = 1;
  (void)rig.deploy(policy);
  (void)rig.want(2);
  (void)rig.started(1);
  (void)rig.busy(1);
  EXPECT_EQ(
      rig.tell(pool::Broken{.instance = InstanceId{1}, .why = "refused", .unreachable = true}),
      (Texts{"end 1: refused", "refuse: refused"}));
}

TEST(PoolFaults, EndsAndReplacesAnInstanceThatHangs) {
  PoolRig rig;
  PoolPolicy policy = plain();
  policy.max_instances = 1;
  (void)rig.deploy(policy);
  (void)rig.want(2);
  (void)rig.started(1);
  (void)rig.busy(1);
  EXPECT_EQ(rig.tell(pool::Broken{.instance = InstanceId{1}, .why = "a request took too long"}),
            (Texts{"end 1: a request took too long", "copy 2 of r1"}));
}

TEST(PoolFaults, MakesParkedOnesThatDiedAgainButNotInALoop) {
  PoolRig rig;
  rig.fill(plain(2));
  rig.now += seconds(1);
  EXPECT_EQ(rig.gone(1), Texts{});
  EXPECT_EQ(rig.wait(milliseconds(100)), Texts{"copy 3 of r1"});
  (void)rig.started(3);
  (void)rig.frozen(3);
  rig.now += seconds(1);
  EXPECT_EQ(rig.gone(3), Texts{});
  EXPECT_EQ(rig.wait(milliseconds(199)), Texts{});
  EXPECT_EQ(rig.wait(milliseconds(1)), Texts{"copy 4 of r1"});
}

TEST(PoolFaults, EndsAMemberThatCannotBeFrozenInTime) {
  PoolRig rig;
  (void)rig.deploy(plain(1));
  (void)rig.started(1);
  EXPECT_EQ(rig.wait(seconds(5)).front(), "end 1: it could not be frozen within 5.00s");
}

TEST(PoolFaults, StartsInPlaceOfAMemberThatCannotBeThawed) {
  PoolRig rig;
  rig.fill(plain(2));
  EXPECT_EQ(rig.want(1), Texts{"thaw 1"});
  EXPECT_EQ(rig.gone(1), Texts{"thaw 2"});
}

TEST(PoolFaults, ForgetsFailuresAfterASecondWithoutOne) {
  PoolRig rig;
  PoolPolicy policy = plain();
  policy.min_instances = 1;
  (void)rig.deploy(policy);
  (void)rig.failed(1);
  EXPECT_EQ(rig.wait(milliseconds(100)), Texts{"copy 2 of r1"});
  (void)rig.started(2);
  EXPECT_EQ(rig.machine.failures().count, 1U);
  EXPECT_EQ(rig.wait(seconds(1)), Texts{});
  EXPECT_EQ(rig.machine.failures().count, 0U);
}

// ---- Deploys

TEST(PoolDeploys, EndParkedOnesOfTheOldRevisionAndMakeNewOnes) {
  PoolRig rig;
  rig.fill(plain(2));
  EXPECT_EQ(rig.deploy(plain(2), PoolRig::kSecond),
            (Texts{"end 1", "end 2", "copy 3 of r2", "copy 4 of r2"}));
}

TEST(PoolDeploys, LeaveOldOnesServingUntilAsManyNewOnesAreWarm) {
  PoolRig rig;
  serve(rig, plain(), 2);
  EXPECT_EQ(rig.deploy(plain(), PoolRig::kSecond), (Texts{"copy 3 of r2", "copy 4 of r2"}));
  EXPECT_EQ(rig.started(3), Texts{"offer 3 warm"});
  EXPECT_EQ(rig.started(4), (Texts{"offer 4 warm", "withdraw 1", "withdraw 2"}));
  EXPECT_EQ(rig.drained(1), Texts{"end 1"});
}

TEST(PoolDeploys, LeaveOldOnesServingWhenNewOnesCannotBeStarted) {
  PoolRig rig;
  serve(rig, plain(), 1);
  (void)rig.deploy(plain(), PoolRig::kSecond);
  rig.now += milliseconds(1);
  EXPECT_EQ(rig.failed(2), Texts{"end 2: no memory"});
  EXPECT_EQ(rig.state(1), MemberState::Warm);
  EXPECT_EQ(rig.wait(milliseconds(100)), Texts{"copy 3 of r2"});
}

TEST(PoolDeploys, SendOldOnesAwayAtOnceWhenNothingIsBusy) {
  PoolRig rig;
  serve(rig, plain(), 1);
  (void)rig.idle(1);
  EXPECT_EQ(rig.deploy(plain(), PoolRig::kSecond), Texts{"withdraw 1"});
}

TEST(PoolDeploys, TakeTheInstanceThatProvedTheRevision) {
  PoolRig rig;
  serve(rig, plain(), 1);
  PoolPolicy policy = plain();
  policy.making = Making::Spawn;
  rig.ids = 2;
  EXPECT_EQ(rig.tell(pool::Deployed{
                .revision = PoolRig::kSecond, .policy = policy, .first = InstanceId{2}}),
            (Texts{"offer 2 warm", "withdraw 1"}));
}

TEST(PoolDeploys, ParkTheInstanceThatProvedTheRevisionWhenNobodyNeedsIt) {
  PoolRig rig;
  rig.ids = 1;
  EXPECT_EQ(rig.tell(pool::Deployed{
                .revision = PoolRig::kFirst, .policy = plain(1), .first = InstanceId{1}}),
            Texts{"freeze 1"});
}

TEST(PoolDeploys, StartTheNewRevisionForWhoWaits) {
  PoolRig rig;
  (void)rig.deploy(plain());
  (void)rig.want(1);
  EXPECT_EQ(rig.deploy(plain(), PoolRig::kSecond), (Texts{"end 1", "copy 2 of r2"}));
}

TEST(PoolDeploys, KeepThePreviousRevisionAndDropTheOneBefore) {
  PoolRig rig;
  (void)rig.deploy(plain());
  EXPECT_EQ(rig.deploy(plain(), PoolRig::kSecond), Texts{});
  EXPECT_EQ(rig.machine.previous(), PoolRig::kFirst);
  EXPECT_EQ(rig.deploy(plain(), RevisionId{3}), Texts{"drop r1"});
}

TEST(PoolDeploys, DropARevisionOnlyWhenNothingOfItLives) {
  PoolRig rig;
  serve(rig, plain(), 1);
  (void)rig.deploy(plain(), PoolRig::kSecond);
  (void)rig.deploy(plain(), RevisionId{3});
  (void)rig.started(rig.ids);
  EXPECT_EQ(rig.drained(1), Texts{"end 1"});
  EXPECT_EQ(rig.gone(1), Texts{"drop r1"});
}

TEST(PoolDeploys, GoBackToInstancesOfTheOldRevisionThatStillServe) {
  PoolRig rig;
  serve(rig, plain(), 2);
  (void)rig.deploy(plain(), PoolRig::kSecond);
  EXPECT_EQ(rig.deploy(plain(), PoolRig::kFirst), (Texts{"end 3", "end 4"}));
  EXPECT_EQ(rig.state(1), MemberState::Warm);
  EXPECT_EQ(rig.machine.previous(), PoolRig::kSecond);
}

TEST(PoolDeploys, OfTheSameRevisionChangeThePolicyAlone) {
  PoolRig rig;
  serve(rig, plain(), 2);
  PoolPolicy policy = plain();
  policy.min_instances = 3;
  EXPECT_EQ(rig.deploy(policy), Texts{"copy 3 of r1"});
  EXPECT_EQ(rig.machine.previous(), RevisionId{});
}

// ---- The end

TEST(PoolStop, EndsWhatIsNotBusyAndDrainsTheRest) {
  PoolRig rig;
  PoolPolicy const policy = plain(2);
  rig.fill(policy);
  (void)rig.want(1);
  (void)rig.thawed(1);
  (void)rig.busy(1);
  EXPECT_EQ(rig.tell(pool::StopAsked{}),
            (Texts{"refuse: the function is being stopped", "withdraw 1", "end 2", "end 3"}));
  EXPECT_EQ(rig.drained(1), Texts{"end 1"});
  (void)rig.gone(2);
  (void)rig.gone(3);
  EXPECT_FALSE(rig.machine.over());
  EXPECT_EQ(rig.gone(1), Texts{"drop r1"});
  EXPECT_TRUE(rig.machine.over());
}

TEST(PoolStop, EndsEverythingAtOnceWhenAskedAgain) {
  PoolRig rig;
  serve(rig, plain(), 1);
  (void)rig.tell(pool::StopAsked{});
  EXPECT_EQ(rig.tell(pool::StopAsked{}), (Texts{"refuse: the function is being stopped", "end 1"}));
}

TEST(PoolStop, RefusesWhoWaitsAndWhoComesLater) {
  PoolRig rig;
  (void)rig.deploy(plain());
  (void)rig.want(1);
  EXPECT_EQ(rig.tell(pool::StopAsked{}), (Texts{"refuse: the function is being stopped", "end 1"}));
  EXPECT_EQ(rig.want(1), Texts{"refuse: the function is being stopped"});
}

TEST(PoolStop, DeploysNothingAnyMore) {
  PoolRig rig;
  (void)rig.deploy(plain());
  (void)rig.tell(pool::StopAsked{});
  EXPECT_EQ(rig.deploy(plain(2), PoolRig::kSecond), Texts{});
}

// ---- What may come late

TEST(PoolMachine, LeavesOutWhatItHearsOfUnknownMembers) {
  PoolRig rig;
  (void)rig.deploy(plain());
  PoolMachine const before = rig.machine;
  for (Texts const& texts : {rig.started(9), rig.failed(9), rig.frozen(9), rig.thawed(9),
                             rig.busy(9), rig.drained(9), rig.gone(9)})
    EXPECT_EQ(texts, Texts{});
  EXPECT_EQ(rig.machine, before);
}

TEST(PoolMachine, HasAMeaningForEachPairOfAStateAndAnInput) {
  auto const of = [](MemberState state, PoolInput const& input) {
    return PoolMachine::meaning(state, input);
  };
  EXPECT_EQ(of(MemberState::Starting, pool::Started{}), Meaning::Moves);
  EXPECT_EQ(of(MemberState::Warm, pool::Started{}), Meaning::Illegal);
  EXPECT_EQ(of(MemberState::Ending, pool::Started{}), Meaning::Late);
  EXPECT_EQ(of(MemberState::Parked, pool::Busy{}), Meaning::Late);
  EXPECT_EQ(of(MemberState::Starting, pool::Busy{}), Meaning::Illegal);
  for (auto state :
       {MemberState::Starting, MemberState::Parking, MemberState::Parked, MemberState::Thawing,
        MemberState::Warm, MemberState::Draining, MemberState::Ending}) {
    EXPECT_EQ(of(state, pool::Gone{}), Meaning::Moves) << member_state_name(state);
    EXPECT_EQ(of(state, pool::Wanted{}), Meaning::Moves) << member_state_name(state);
  }
}

}  // namespace
}  // namespace aether::functions
