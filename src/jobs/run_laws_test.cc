// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_laws.h"

#include <gtest/gtest.h>

#include "jobs/testing_random.h"

namespace aether::jobs {
namespace {

using namespace testing;

std::vector<RunFinding> findings_of(std::vector<RunEvent> const& events) {
  RunLaws laws;
  std::vector<RunFinding> findings;
  for (journal::Event const& line : recorded(batch_of_history(events))) laws.take(line, findings);
  return findings;
}
/// What is found in the turns of one call in an open step.
std::vector<RunFinding> found_in_step(std::vector<RunEventBody> bodies) {
  bodies.insert(bodies.begin(), {opened(), step("a")});
  return findings_of(history(std::move(bodies)));
}

struct TurnCase {
  EffectOutcome outcome;
  bool retryable;
  bool once, read, keyed, lookup;  ///< Whether another turn may follow.
};

TEST(EffectLaw, AllowsAnotherTurnExactlyWhereThePolicyDoes) {
  for (TurnCase const& each : {
           TurnCase{EffectOutcome::Ok, false, false, false, false, false},
           TurnCase{EffectOutcome::Error, false, false, false, false, false},
           TurnCase{EffectOutcome::Error, true, false, true, true, false},
           TurnCase{EffectOutcome::NotExecuted, false, true, true, true, true},
           TurnCase{EffectOutcome::Unknown, false, false, true, true, false},
       }) {
    for (auto const& [policy, allowed] :
         {std::pair(Policy::Once, each.once), std::pair(Policy::Read, each.read),
          std::pair(Policy::Keyed, each.keyed), std::pair(Policy::Lookup, each.lookup)}) {
      EffectSettled end = settled("a", each.outcome);
      end.retryable = each.retryable;
      std::vector<RunFinding> const findings =
          found_in_step({intent("a", policy), end, intent("a", policy, 2)});
      EXPECT_EQ(findings.empty(), allowed)
          << tools::text_of(policy) << ' ' << tools::text_of(each.outcome);
      if (allowed || findings.empty()) continue;
      EXPECT_EQ(findings[0].position.value, 5U);
      EXPECT_TRUE(findings[0].what.contains(text_of(EffectLaw::TurnAllowed))) << findings[0].what;
    }
  }
}

TEST(EffectLaw, BelievesAPersonWhoSaysThatNothingHappened) {
  std::vector<RunEventBody> const unknown = {intent("a"), settled("a", EffectOutcome::Unknown)};
  auto const then = [&unknown](EffectOutcome said) {
    std::vector<RunEventBody> bodies = unknown;
    bodies.push_back(amended("a", said));
    bodies.push_back(intent("a", Policy::Once, 2));
    return found_in_step(std::move(bodies));
  };
  EXPECT_TRUE(then(EffectOutcome::NotExecuted).empty());
  EXPECT_FALSE(then(EffectOutcome::Ok).empty());
  EXPECT_FALSE(then(EffectOutcome::Error).empty());
}

TEST(EffectLaw, HoldsEachTurnToThePolicyAndKeyOfTheFirst) {
  auto const second = [](Policy policy, std::string key) {
    EffectIntended again = intent("a", policy, 2);
    again.key = std::move(key);
    return found_in_step(
        {intent("a", Policy::Keyed), settled("a", EffectOutcome::NotExecuted), again});
  };
  EXPECT_TRUE(second(Policy::Keyed, "").empty());
  EXPECT_TRUE(second(Policy::Read, "").at(0).what.contains(text_of(EffectLaw::PolicyStays)));
  EXPECT_TRUE(second(Policy::Keyed, "k").at(0).what.contains(text_of(EffectLaw::KeyStays)));
}

TEST(RunLaws, TellsEachLawOfTheFoldWithItsPlace) {
  std::vector<RunFinding> const findings = findings_of(history({opened(), step("a"), closed()}));
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].position.value, 3U);
  EXPECT_EQ(findings[0].run, kRun.text);
  EXPECT_TRUE(findings[0].what.contains(text_of(RunLaw::EndsWhole))) << findings[0].what;
}

TEST(RunLaws, StillKnowsTheCallsOfARunThatHasEnded) {
  std::vector<RunEventBody> bodies = {opened(),
                                      step("a"),
                                      intent("a"),
                                      step_end("a", StepOutcome::Failed),
                                      closed(RunOutcome::Cancelled),
                                      settled("a")};
  EXPECT_TRUE(findings_of(history(bodies)).empty());
  bodies.push_back(settled("a"));
  EXPECT_EQ(findings_of(history(bodies)).size(), 1U);
}

TEST(RunLaws, GivesALeaseToAnotherWorkerOnlyWithAHigherFence) {
  std::vector<journal::Event> lines = recorded(batch_of_history(
      history({opened(), control(Control::Lease, "one"), control(Control::Lease, "two")})));
  auto const findings_with = [&lines](std::uint64_t second) {
    lines[1].fence = journal::Fence{1};
    lines[2].fence = journal::Fence{second};
    RunLaws laws;
    std::vector<RunFinding> findings;
    for (journal::Event const& line : lines) laws.take(line, findings);
    return findings;
  };
  EXPECT_TRUE(findings_with(2).empty());
  std::vector<RunFinding> const findings = findings_with(1);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_TRUE(findings[0].what.contains(kLeaseLaw)) << findings[0].what;
}

TEST(RunLaws, LooksAtRunsAndTheAuditOnly) {
  std::vector<journal::Event> lines =
      recorded(batch_of_history(history({AuditNoted{.action = "swap"}, step("a"), step("a")})));
  lines[0].stream = kAuditStream;
  lines[1].stream = "functions";
  lines[2].stream = kAuditStream;
  RunLaws laws;
  std::vector<RunFinding> findings;
  for (journal::Event const& line : lines) laws.take(line, findings);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].position.value, 3U);
}

TEST(RunLaws, CountsWhatItSaw) {
  RunLaws laws;
  std::vector<RunFinding> findings;
  std::vector<RunEvent> const events =
      history({opened(), step("a"), intent("a"), settled("a", EffectOutcome::NotExecuted),
               intent("a", Policy::Once, 2), settled("a", EffectOutcome::Unknown, 2)});
  for (journal::Event const& line : recorded(batch_of_history(events))) laws.take(line, findings);
  EXPECT_TRUE(findings.empty());
  EXPECT_EQ(laws.counts(),
            (RunLaws::Counts{.runs = 1, .open_runs = 1, .effects = 1, .turns = 2, .unknown = 1}));
}

}  // namespace
}  // namespace aether::jobs
