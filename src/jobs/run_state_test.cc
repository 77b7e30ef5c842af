// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_state.h"

#include <gtest/gtest.h>

#include "jobs/testing_random.h"
#include "journal/laws.h"

namespace aether::jobs {
namespace {

using namespace testing;

RunState folded(std::vector<RunEvent> const& events) {
  RunState state;
  state.id = kRun;
  for (RunEvent const& each : events) or_throw(fold(state, each));
  return state;
}
RunState after(std::vector<RunEventBody> bodies) {
  bodies.insert(bodies.begin(), opened());
  return folded(history(std::move(bodies)));
}
RunStatus status_after(std::vector<RunEventBody> bodies) {
  return after(std::move(bodies)).status();
}
/// The law that the last of these breaks; the ones before must break none.
std::optional<RunLaw> law_of_last(std::vector<RunEventBody> bodies) {
  RunEventBody last = std::move(bodies.back());
  bodies.pop_back();
  RunState state = after(std::move(bodies));
  RunEvent const next = event(100, std::move(last));
  std::optional<RunLaw> const law = broken_law(state, next);
  Status const done = fold(state, next);
  EXPECT_EQ(done.has_value(), !law);
  if (!done) {
    EXPECT_EQ(done.error().code(), ErrorCode::StoreDamaged);
    EXPECT_TRUE(done.error().message().contains(text_of(*law))) << done.error().message();
  }
  return law;
}

/// Everything that a state says.
std::string all_of(RunState const& state) {
  std::string text = std::string(text_of(state.status()));
  for (auto const& [path, each] : state.steps) {
    text += path + text_of(each.outcome).data() + std::to_string(each.attempt) +
            std::to_string(each.order) + (each.open ? "open" : "");
  }
  for (auto const& [id, each] : state.effects) {
    text += id + std::to_string(each.intent.turn) + (each.open ? "open" : "") +
            tools::text_of(each.settled.outcome).data();
  }
  for (auto const& [path, each] : state.waits) text += path + (each.open ? "open" : "");
  for (Signal const& each : state.signals) text += each.consumed ? "used" : "kept";
  for (Names const* names : {&state.open_steps, &state.open_effects, &state.open_waits}) {
    for (std::string const& name : *names) text += name + ',';
  }
  return text + std::to_string(state.sequence) + state.lease_holder + state.stuck +
         std::to_string(state.steps_used) + std::to_string(state.calls_used) +
         std::to_string(state.status_since.time_since_epoch().count());
}

TEST(RunState, EveryPrefixOfAHistoryFoldsAndOverInterruptionsItIsTheSame) {
  Chance chance(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<RunEvent> const events = random_history(chance, 30);
    journal::Batch const batch = batch_of_history(events);
    std::vector<journal::Event> const lines = recorded(batch);
    RunState state;
    for (std::size_t count = 0; count < events.size(); ++count) {
      ASSERT_TRUE(fold_recorded(state, lines[count], blobs_in(batch)));
      RunState const fresh =
          folded(std::vector(events.begin(), events.begin() + static_cast<long>(count) + 1));
      ASSERT_EQ(all_of(state), all_of(fresh)) << "seed 7, round " << round;
    }
  }
}

TEST(RunState, AcceptsNothingThatBreaksTheSpanLaw) {
  Chance chance(8);
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<RunEvent> events = random_history(chance, 20);
    RunState const state = folded(events);
    for (int tries = 0; tries < 20; ++tries) {
      RunEvent const next = event(events.size(), random_next(chance));
      std::vector<RunEvent> with_next = events;
      with_next.push_back(next);
      journal::Laws laws(journal::Laws::Positions::Gapless);
      bool clean = true;
      for (journal::Event const& line : recorded(batch_of_history(with_next))) {
        clean = laws.take(line).empty();
      }
      bool const folds = !broken_law(state, next);
      EXPECT_TRUE(clean || !folds) << kind_of(next.body) << ' ' << span_of(next.body);
      ++(folds ? accepted : refused);
    }
  }
  EXPECT_GT(accepted, 500);
  EXPECT_GT(refused, 500);
}

TEST(RunState, BeginsWithItsOpeningAndOnlyOnce) {
  RunState state;
  EXPECT_EQ(broken_law(state, event(0, step("a"))), RunLaw::BeginsOnce);
  EXPECT_EQ(law_of_last({opened()}), RunLaw::BeginsOnce);
}

TEST(RunState, RefusesClosesWithoutOpensAndOpensThatComeTwice) {
  EXPECT_EQ(law_of_last({step_end("a")}), RunLaw::StepClosesOnce);
  EXPECT_EQ(law_of_last({step("a"), step("a")}), RunLaw::StepOpensOnce);
  EXPECT_EQ(law_of_last({step("a", 2)}), RunLaw::StepOpensOnce);
  EXPECT_EQ(law_of_last({step("a"), step_end("a"), step_end("a")}), RunLaw::StepClosesOnce);
  EXPECT_EQ(law_of_last({step("a"), step_end("a"), step("a", 2)}), RunLaw::StepOpensOnce);
  EXPECT_EQ(law_of_last({step("a"), step_end("a", StepOutcome::Retryable), step("a", 2)}),
            std::nullopt);
  EXPECT_EQ(law_of_last({wait("w"), wait("w")}), RunLaw::WaitOpensOnce);
  EXPECT_EQ(law_of_last({wait_end("w")}), RunLaw::WaitClosesOnce);
  EXPECT_EQ(law_of_last({wait("w"), wait_end("w", WaitEnd::TimedOut), wait("w")}),
            RunLaw::WaitOpensOnce);
}

TEST(RunState, IntendsACallInAnOpenStepAndATurnAfterTheOneBeforeWasSettled) {
  EXPECT_EQ(law_of_last({intent("a")}), RunLaw::EffectInStep);
  EXPECT_EQ(law_of_last({step("a"), intent("a", Policy::Read, 2)}), RunLaw::EffectTurns);
  EXPECT_EQ(law_of_last({step("a"), intent("a"), intent("a")}), RunLaw::EffectTurns);
  EXPECT_EQ(law_of_last({step("a"), intent("a"), intent("a", Policy::Once, 2)}),
            RunLaw::EffectTurns);
  EffectIntended other = intent("a", Policy::Read, 2);
  other.args_hash = "another";
  EXPECT_EQ(law_of_last({step("a"), intent("a", Policy::Read), settled("a", EffectOutcome::Unknown),
                         other}),
            RunLaw::EffectSame);
  EXPECT_EQ(law_of_last({step("a"), intent("a", Policy::Read), settled("a", EffectOutcome::Unknown),
                         intent("a", Policy::Read, 2)}),
            std::nullopt);
}

TEST(RunState, SettlesATurnOnceAndAmendsOnlyWhatWasUnknown) {
  EXPECT_EQ(law_of_last({settled("a")}), RunLaw::EffectSettles);
  EXPECT_EQ(law_of_last({step("a"), intent("a"), settled("a"), settled("a")}),
            RunLaw::EffectSettles);
  EXPECT_EQ(law_of_last({step("a"), intent("a"), amended("a", EffectOutcome::Ok)}),
            RunLaw::EffectSettles);
  EXPECT_EQ(law_of_last({step("a"), intent("a"), settled("a"), amended("a", EffectOutcome::Ok)}),
            RunLaw::EffectSettles);
  RunState const state = after({step("a"), intent("a"), settled("a", EffectOutcome::Unknown),
                                amended("a", EffectOutcome::NotExecuted)});
  EffectState const& effect = state.effects.at(effect_of("a"));
  EXPECT_EQ(effect.settled.outcome, EffectOutcome::NotExecuted);
  EXPECT_EQ(effect.settled.by, SettledBy::Person);
}

TEST(RunState, AsksAPersonOnlyAboutACallThatIsUnknown) {
  WaitOpened asks = wait("a/outcome.1", WaitKind::Human);
  asks.effect = effect_of("a");
  EXPECT_EQ(law_of_last({step("a"), asks}), RunLaw::WaitNamesEffect);
  EXPECT_EQ(law_of_last({step("a"), intent("a"), asks}), RunLaw::WaitNamesEffect);
  EXPECT_EQ(law_of_last({step("a"), intent("a"), settled("a", EffectOutcome::Unknown), asks}),
            std::nullopt);
}

TEST(RunState, KeepsASignalThatCameBeforeItsWaitAndUsesEachOnce) {
  RunState state = after({signal(), signal("other")});
  ASSERT_NE(state.pending_signal("paid"), nullptr);
  state = after({signal(), wait("w"), wait_end("w")});
  EXPECT_TRUE(state.signals[0].consumed);
  EXPECT_EQ(state.pending_signal("paid"), nullptr);
  EXPECT_EQ(law_of_last({wait("w"), wait_end("w")}), RunLaw::SignalCameBefore);
  EXPECT_EQ(law_of_last({signal(), wait("v"), wait("w"), wait_end("v"), wait_end("w")}),
            RunLaw::SignalCameBefore);
  EXPECT_EQ(law_of_last({wait("w"), wait_end("w", WaitEnd::TimedOut)}), std::nullopt);
}

TEST(RunState, EndsWholeAndThenTakesOnlyLateSettlements) {
  EXPECT_EQ(law_of_last({step("a"), closed()}), RunLaw::EndsWhole);
  EXPECT_EQ(law_of_last({wait("w"), closed()}), RunLaw::EndsWhole);
  std::vector<RunEventBody> const ended = {
      step("a"), intent("a"), step_end("a", StepOutcome::Failed), closed(RunOutcome::Cancelled)};
  auto const then = [&ended](RunEventBody next) {
    std::vector<RunEventBody> bodies = ended;
    bodies.push_back(std::move(next));
    return law_of_last(std::move(bodies));
  };
  EXPECT_EQ(then(step("b")), RunLaw::EndsOnce);
  EXPECT_EQ(then(closed()), RunLaw::EndsOnce);
  EXPECT_EQ(then(signal()), RunLaw::EndsOnce);
  EXPECT_EQ(then(control(Control::Resume)), RunLaw::EndsOnce);
  EXPECT_EQ(then(control(Control::Fork)), std::nullopt);
  EXPECT_EQ(then(settled("a")), std::nullopt);
}

TEST(RunStatus, IsWhatTheEventsSay) {
  EXPECT_EQ(status_after({}), RunStatus::Pending);
  EXPECT_EQ(status_after({control(Control::Lease, "w")}), RunStatus::Running);
  EXPECT_EQ(status_after({step("a")}), RunStatus::Running);
  EXPECT_EQ(status_after({step("a"), intent("a"), wait("w")}), RunStatus::Running);
  EXPECT_EQ(status_after({step("a"), wait("a")}), RunStatus::Parked);
  EXPECT_EQ(status_after({step("a"), wait("a/outcome.1", WaitKind::Human)}), RunStatus::Parked);
  EXPECT_EQ(status_after({step("a"), wait("a"), step("b")}), RunStatus::Running);
  EXPECT_EQ(status_after({step("agent"), step("agent/ask"), wait("agent/ask")}), RunStatus::Parked);
  EXPECT_EQ(status_after({step("ab"), step("a"), wait("a")}), RunStatus::Running)
      << "the wait of step a is not one of step ab";
  EXPECT_EQ(status_after({step("a"), step_end("a", StepOutcome::Retryable),
                          wait("a~retry.1", WaitKind::Timer)}),
            RunStatus::Retrying);
  EXPECT_EQ(status_after({step("a"), wait("a"), control(Control::Pause)}), RunStatus::Paused);
  EXPECT_EQ(status_after({step("a"), control(Control::Pause), control(Control::Resume)}),
            RunStatus::Running);
  EXPECT_EQ(status_after({step("a"), control(Control::Stuck, "graph changed")}), RunStatus::Stuck);
  EXPECT_EQ(status_after({step("a"), control(Control::Stuck), control(Control::Resume)}),
            RunStatus::Running);
  EXPECT_EQ(status_after({closed()}), RunStatus::Completed);
  EXPECT_EQ(status_after({closed(RunOutcome::Failed)}), RunStatus::Failed);
  EXPECT_EQ(status_after({closed(RunOutcome::Compensated)}), RunStatus::Failed);
  EXPECT_EQ(status_after({closed(RunOutcome::Cancelled)}), RunStatus::Cancelled);
}

TEST(RunState, CountsStepsCallsAndWhatTheyCost) {
  EffectSettled cheap = settled("a", EffectOutcome::NotExecuted);
  cheap.usage = {.tokens = 3, .cost = 0.5};
  RunState const state = after({step("a"), intent("a"), cheap, intent("a", Policy::Once, 2),
                                settled("a", {}, 2), step_end("a"), step("b"), step_end("b")});
  EXPECT_EQ(state.steps_used, 2U);
  EXPECT_EQ(state.calls_used, 2U);
  EXPECT_EQ(state.used, (Usage{.tokens = 3, .cost = 0.5}));
  EXPECT_EQ(state.steps.at("a").order, 1U);
  EXPECT_EQ(state.steps.at("b").order, 2U);
}

}  // namespace
}  // namespace aether::jobs
