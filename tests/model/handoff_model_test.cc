// SPDX-License-Identifier: Apache-2.0
// All interleavings of old, new, Aether, clients and operator, within bounds:
// docs/protocol-model.md says what is checked. AETHER_SOAK=2 or more searches further (minutes,
// gigabytes).
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "explorer.h"

namespace aether::model {
namespace {

using relay::SwapPolicy;

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSlow = true;
#else
constexpr bool kSlow = false;
#endif
#else
constexpr bool kSlow = false;
#endif

/// More than any search here needs; one that reaches it is not complete, which fails.
constexpr std::size_t kStatesMax = 20'000'000;

Setup setup_of(unsigned bits, Bounds bounds) {
  Setup setup;
  setup.bounds = bounds;
  setup.policy.on_handoff_failure = (bits & 1U) != 0 ? SwapPolicy::OnHandoffFailure::Continue
                                                     : SwapPolicy::OnHandoffFailure::Abort;
  setup.policy.soak = std::chrono::seconds((bits & 2U) != 0 ? 0 : 30);
  setup.policy.warmup = std::chrono::seconds((bits & 4U) != 0 ? 3 : 0);
  return setup;
}

std::string describe(Setup const& setup) {
  Bounds const& bounds = setup.bounds;
  bool const abort = setup.policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Abort;
  return fmt::format("{}, soak {}, warmup {}; {} swaps, {} updates, {} faults, {} wishes",
                     abort ? "abort" : "continue", format_duration(setup.policy.soak),
                     format_duration(setup.policy.warmup), bounds.swaps, bounds.updates,
                     bounds.faults, bounds.wishes);
}

void must_hold(Setup const& setup) {
  Findings const found = explore(setup, kStatesMax);
  fmt::print("{}: {} states, {} moves, {} of them at rest\n", describe(setup), found.states,
             found.moves, found.at_rest);
  EXPECT_TRUE(found.complete) << "more states than the search may hold";
  if (found.counterexample) ADD_FAILURE() << describe(setup) << "\n" << *found.counterexample;
  EXPECT_GT(found.at_rest, 10U) << "a search that ends nowhere proves nothing";
}

bool soaks() {
  char const* const factor = std::getenv("AETHER_SOAK");
  return factor != nullptr && std::atoi(factor) > 1;
}

// Edge: D6
// Edge: E2
// Edge: E5
TEST(HandoffModel, KeepsEveryPromiseWhateverDiesLiesOrIsLateOnce) {
  unsigned const policies = kSlow ? 1 : 8;
  for (unsigned bits = 0; bits < policies; ++bits) {
    must_hold(setup_of(bits, {.swaps = 1, .updates = 1, .faults = 1, .wishes = 1}));
  }
}

// Edge: B10
TEST(HandoffModel, KeepsEveryPromiseWhateverIsAskedForTwice) {
  for (unsigned bits = 0; bits < 8; ++bits) {
    must_hold(setup_of(bits, {.swaps = 1, .updates = 1, .faults = 0, .wishes = 2}));
  }
}

// Edge: E6
TEST(HandoffModel, KeepsEveryPromiseOverTwoSwapsThatOverlap) {
  if (kSlow) return must_hold(setup_of(2, {.swaps = 1, .updates = 2, .faults = 0, .wishes = 1}));
  must_hold(setup_of(2, {.swaps = 2, .updates = 1, .faults = 0, .wishes = 0}));
  must_hold(setup_of(0, {.swaps = 1, .updates = 2, .faults = 1, .wishes = 0}));
}

TEST(HandoffModel, KeepsEveryPromiseFartherOut) {
  if (!soaks()) return;
  must_hold(setup_of(0, {.swaps = 1, .updates = 1, .faults = 2, .wishes = 1}));
  must_hold(setup_of(0, {.swaps = 2, .updates = 1, .faults = 0, .wishes = 1}));
  must_hold(setup_of(0, {.swaps = 2, .updates = 1, .faults = 1, .wishes = 0}));
}

// ---- Does it bite? ------------------------------------------------------------------------------

struct Defect {
  Mutation mutation;
  std::string_view name;
  std::string_view promise;  ///< The one that it breaks.
  Bounds bounds = {.swaps = 1, .updates = 1, .faults = 0, .wishes = 1};
};

constexpr Bounds kFault{.swaps = 1, .updates = 1, .faults = 1, .wishes = 1};
constexpr Bounds kTwoSwaps{.swaps = 2, .updates = 1, .faults = 0, .wishes = 1};
constexpr std::string_view kEndsAlone =
    "Aether ends a process that alone has what clients were told is done";
constexpr std::string_view kStandsStill =
    "the serving revision works: it does not stand still, nor wait for ever";

std::vector<Defect> defects() {
  using enum Mutation;
  return {
      {ReleaseBeforeAck, "ReleaseBeforeAck", "who is released has a successor that has the memory"},
      {NoRelease, "NoRelease", "what waits at the old one is passed on while the new one soaks"},
      {FailingOneMayDrain, "FailingOneMayDrain",
       "at most one process takes itself for the memory's owner"},
      {NoResume, "NoResume", kStandsStill},
      {ForgetReclaimed, "ForgetReclaimed", kEndsAlone},
      {NoDeadlines, "NoDeadlines", "everything ends by itself, even if nobody answers"},
      {RetireOldAtDelivery, "RetireOldAtDelivery",
       "the serving revision lives, or the restart policy has it"},
      {NoSteeringBack, "NoSteeringBack", "new connections go where the swap says"},
      {LaneOfTheDeadStays, "LaneOfTheDeadStays", "every lane has a living owner, or is rescued"},
      {NoAnswerWithoutMemory, "NoAnswerWithoutMemory", "who asks for its memory is answered",
       kFault},
      {OldWorksWhileExported, "OldWorksWhileExported",
       "at most one process takes itself for the memory's owner"},
      {RollbackDoesNotWait, "RollbackDoesNotWait", kEndsAlone},
      {ResumeYieldsToExport, "ResumeYieldsToExport", kStandsStill},
      {ResumeCutsHandBack, "ResumeCutsHandBack", kEndsAlone, kTwoSwaps},
      {UnreadableIsLeftAlone, "UnreadableIsLeftAlone", kStandsStill, kFault},
      {SlowOneKeepsItsOwn, "SlowOneKeepsItsOwn", kEndsAlone},
      {NothingKept, "NothingKept", kEndsAlone},
      {KeptForAnyone, "KeptForAnyone", kEndsAlone, kTwoSwaps},
  };
}

class HandoffDefect : public testing::TestWithParam<Defect> {};

TEST_P(HandoffDefect, IsFoundWithAStoryThatEndsInThePromiseItBreaks) {
  model::Setup setup = setup_of(0, GetParam().bounds);
  setup.mutation = GetParam().mutation;
  Findings const found = explore(setup, kStatesMax);
  ASSERT_TRUE(found.counterexample) << found.states << " states and nothing found";
  std::string const& story = *found.counterexample;
  EXPECT_TRUE(story.starts_with(fmt::format("broken: {}\n", GetParam().promise))) << story;
  EXPECT_NE(story.find("\n  reload\n"), std::string::npos) << story;
}

INSTANTIATE_TEST_SUITE_P(Protocol, HandoffDefect, testing::ValuesIn(defects()),
                         [](auto const& info) { return std::string(info.param.name); });

TEST(HandoffModel, HasATestForEachDefect) {
  EXPECT_EQ(defects().size() + 1, static_cast<std::size_t>(Mutation::Count));
}

}  // namespace
}  // namespace aether::model
