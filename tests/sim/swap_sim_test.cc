// SPDX-License-Identifier: Apache-2.0
// Random swaps with faults between any two actions. The seed is printed at the start and with each
// failure; AETHER_SIM_SEED=<seed> repeats a run exactly.
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "swap_world.h"

namespace aether::sim {
namespace {

constexpr std::uint64_t kSeed = 0xAE7E2024;
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr std::uint64_t kSwaps = 5'000;
#else
constexpr std::uint64_t kSwaps = 100'000;
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kSwaps = 5'000;
#else
constexpr std::uint64_t kSwaps = 100'000;
#endif

std::optional<std::uint64_t> number_from(char const* variable) {
  char const* const text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return {};
  return std::strtoull(text, nullptr, 0);
}

/// What led to the failure: the same run again, remembering the last happenings.
std::string replay(std::uint64_t seed, std::uint64_t swaps) {
  SwapWorld world(seed, true);
  try {
    for (std::uint64_t i = 0; i < swaps; ++i) world.swap_once();
  } catch (BrokenPromise const&) {
    return world.trace();
  }
  return "the replay did not fail: the simulation is not deterministic";
}

Statistics simulate(std::uint64_t seed, std::uint64_t swaps) {
  fmt::print("swap simulation: seed {} swaps {}\n", seed, swaps);
  std::fflush(stdout);
  SwapWorld world(seed);
  try {
    for (std::uint64_t i = 0; i < swaps; ++i) world.swap_once();
  } catch (BrokenPromise const& e) {
    ADD_FAILURE() << e.what() << "\nrepeat with AETHER_SIM_SEED=" << seed << "\n"
                  << replay(seed, swaps);
  }
  return world.statistics();
}

void report(Statistics const& s) {
  fmt::print(
      "{} swaps: {} succeeded ({} of them had to), {} failed, {} gave up; {} happenings; {} "
      "connections, {} died "
      "with a process; memory whole in {}, brought back in {}; {} retired, {} of them hurried\n",
      s.swaps, s.succeeded, s.had_to_succeed, s.failed, s.gave_up, s.happenings, s.connections,
      s.dropped, s.memory_checked, s.reclaimed, s.retired, s.hurried);
}

TEST(SwapSimulation, KeepsEveryPromiseOverAHundredThousandSwapsWithFaults) {
  std::uint64_t const swaps = number_from("AETHER_SIM_SWAPS").value_or(kSwaps);
  Statistics const seen = simulate(number_from("AETHER_SIM_SEED").value_or(kSeed), swaps);
  report(seen);
  if (swaps < kSwaps) return;
  // A simulation that visits little proves little.
  for (std::size_t phase = 0; phase < seen.phases.size(); ++phase) {
    EXPECT_GT(seen.phases.at(phase), 0U) << "state " << phase << " was never reached";
  }
  EXPECT_EQ(seen.actions.size(), std::variant_size_v<relay::SwapAction>);
  EXPECT_GT(seen.succeeded, swaps / 4);
  EXPECT_GT(seen.failed, swaps / 10);
  EXPECT_GT(seen.gave_up, swaps / 500);
  EXPECT_GT(seen.memory_checked, swaps / 10);
  EXPECT_GT(seen.reclaimed, swaps / 500);
  EXPECT_GT(seen.hurried, swaps / 100);
}

TEST(SwapSimulation, KeepsEveryPromiseUnderASeedOfTheMoment) {
  if (number_from("AETHER_SIM_SEED")) GTEST_SKIP() << "AETHER_SIM_SEED names the one run wanted";
  auto const moment = SystemClock().now().time_since_epoch().count();
  report(simulate(static_cast<std::uint64_t>(moment), kSwaps / 5));
}

TEST(SwapSimulation, RepeatsItselfWithTheSameSeed) {
  SwapWorld one(7);
  SwapWorld other(7);
  for (int i = 0; i < 200; ++i) {
    one.swap_once();
    other.swap_once();
  }
  EXPECT_EQ(one.statistics().happenings, other.statistics().happenings);
  EXPECT_EQ(one.statistics().actions, other.statistics().actions);
}

}  // namespace
}  // namespace aether::sim
