// SPDX-License-Identifier: Apache-2.0
// Random days of a pool, with faults, deploys and letters that arrive late. The same seed gives the
// same day; AETHER_SIM_SEED=<seed> repeats one.
#include <cstdlib>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/chance.h"
#include "functions/pool_world.h"

namespace aether::functions {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::BrokenPromise;
using testing::PoolWorld;
using Answer = PoolWorld::Answer;

constexpr std::uint64_t kSeed = 0xAE7E2026;
constexpr std::uint64_t kEvents = 100'000;
constexpr std::uint64_t kEventsOfADay = 500;
constexpr std::size_t kTraceMax = 120;

struct Counts {
  std::uint64_t events = 0, starts = 0, served = 0, refused = 0, cut_off = 0, deploys = 0;
  std::uint64_t story = 0;
};

class Day {
 public:
  Day(std::uint64_t seed, std::vector<std::string>* trace) : chance_(seed) {
    world_.trace = trace;
    world_.holds_letters = chance_.one_in(2);
    faults_ = chance_.one_in(3) ? 0 : 5 + chance_.below(30);
    deploy(RevisionId{1});
  }

  void live(Counts& counts) {
    for (std::uint64_t i = 0; i < kEventsOfADay; ++i) {
      happen();
      if (i % 50 == 49) what_if();
      if (world_.trace != nullptr && world_.trace->size() > 2 * kTraceMax)
        world_.trace->erase(world_.trace->begin(), world_.trace->end() - kTraceMax);
    }
    world_.come_to_an_end();
    counts.events += kEventsOfADay;
    counts.starts += world_.starts;
    counts.served += world_.served;
    counts.refused += world_.refused;
    counts.cut_off += world_.cut_off;
    counts.deploys += deploys_;
    counts.story ^= world_.story + counts.events;
  }

 private:
  void deploy(RevisionId revision) {
    ++deploys_;
    PoolPolicy policy;
    policy.concurrency = 1 + static_cast<std::uint32_t>(chance_.below(3));
    policy.max_instances = 1 + static_cast<std::uint32_t>(chance_.below(6));
    policy.min_instances = static_cast<std::uint32_t>(chance_.below(policy.max_instances + 1));
    policy.parked = static_cast<std::uint32_t>(chance_.below(5));
    policy.idle_timeout = milliseconds(1 + chance_.below(5000));
    policy.making = chance_.one_in(2) ? Making::Copy : Making::Spawn;
    policy.start_limit = milliseconds(15 + chance_.below(1000));
    policy.cold_when_copy_fails = chance_.one_in(2);
    world_.deploy(revision, policy);
  }

  /// Nobody, when there is none.
  InstanceId anyone() {
    if (world_.processes.empty()) return {};
    auto it = world_.processes.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(chance_.below(world_.processes.size())));
    return it->first;
  }
  [[nodiscard]] bool fault() { return faults_ > 0 && chance_.one_in(faults_); }

  void happen() {
    std::uint64_t const what = chance_.below(100);
    InstanceId const one = anyone();
    if (chance_.one_in(3)) time_passes(milliseconds(chance_.below(20)));
    if (what < 22) return world_.arrive();
    if (what < 30) return time_passes(milliseconds(chance_.below(3000)));
    if (what < 31) return world_.scale(static_cast<std::uint32_t>(chance_.below(10)));
    if (what < 32 && chance_.one_in(4)) return deploy(RevisionId{1 + chance_.below(deploys_ + 1)});
    if (what < 45) return (void)world_.deliver();
    if (one == InstanceId{}) return;
    if (what < 60) return (void)world_.finish(one);
    if (what < 63 && fault()) return (void)world_.die(one);
    if (what < 65 && fault()) return (void)world_.unreachable(one);
    (void)world_.answer(one, fault() ? Answer::Badly : Answer::Well);
  }

  void time_passes(Duration time) {
    Instant const until = world_.now + time;
    while (world_.machine.next_due() && *world_.machine.next_due() <= until) (void)world_.tick();
    world_.now = until;
  }

  /// If nothing came any more, if nothing started any more, if it were stopped.
  void what_if() {
    for (auto const end :
         {&PoolWorld::come_to_rest, &PoolWorld::refuse_all, &PoolWorld::come_to_an_end}) {
      PoolWorld other = world_;
      (other.*end)();
    }
  }

  PoolWorld world_;
  Chance chance_;
  std::uint64_t faults_ = 0;  ///< One in so many; 0: none.
  std::uint64_t deploys_ = 0;
};

Counts simulate(std::uint64_t seed, std::uint64_t events) {
  Counts counts;
  for (std::uint64_t day = 0; counts.events < events; ++day) {
    try {
      Day(seed + day, nullptr).live(counts);
    } catch (BrokenPromise const& e) {
      std::vector<std::string> trace;
      try {
        Counts again;
        Day(seed + day, &trace).live(again);
      } catch (BrokenPromise const&) {
      }
      std::string text;
      std::size_t const from = trace.size() > kTraceMax ? trace.size() - kTraceMax : 0;
      for (std::size_t i = from; i < trace.size(); ++i) text += trace[i] + "\n";
      ADD_FAILURE() << e.what() << "\nrepeat with AETHER_SIM_SEED=" << seed + day << "\n" << text;
      return counts;
    }
  }
  return counts;
}

TEST(PoolSimulation, KeepsEveryPromiseOverAHundredThousandEventsWithFaults) {
  char const* const given = std::getenv("AETHER_SIM_SEED");
  std::uint64_t const seed = given != nullptr ? std::strtoull(given, nullptr, 0) : kSeed;
  fmt::print("pool simulation: seed {}\n", seed);
  Counts const seen = simulate(seed, kEvents);
  fmt::print("{} events: {} starts, {} served, {} refused, {} cut off, {} deploys\n", seen.events,
             seen.starts, seen.served, seen.refused, seen.cut_off, seen.deploys);
  // A simulation in which little happens proves little.
  EXPECT_GT(seen.starts, kEvents / 100);
  EXPECT_GT(seen.served, kEvents / 100);
  EXPECT_GT(seen.refused, 0U);
  EXPECT_GT(seen.cut_off, 0U);
  EXPECT_GT(seen.deploys, kEvents / 1000);
}

TEST(PoolSimulation, RepeatsItselfWithTheSameSeed) {
  EXPECT_EQ(simulate(7, 3000).story, simulate(7, 3000).story);
  EXPECT_NE(simulate(7, 3000).story, simulate(8, 3000).story);
}

}  // namespace
}  // namespace aether::functions
