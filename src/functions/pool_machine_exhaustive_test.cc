// SPDX-License-Identifier: Apache-2.0
// The states that a small pool can reach, nearest first, so that the first broken promise comes
// with a shortest story. In each of them: what if nothing came any more, if nothing started any
// more, if it were stopped?
#include <algorithm>
#include <deque>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "functions/pool_world.h"

namespace aether::functions {
namespace {

using std::chrono::seconds;
using testing::BrokenPromise;
using testing::PoolWorld;
using Answer = PoolWorld::Answer;

/// Of one pool: a bound that grew is found, not waited for. The pools below have at most 42,000.
constexpr std::size_t kStatesMax = 150'000;

struct Bounds {
  std::uint32_t requests = 2;  ///< In the queue and in flight.
  int arrivals = 3;
  int faults = 1;
  int deploys = 1;
};

/// A world, and what may still happen in it.
struct Place {
  PoolWorld world;
  Bounds left;
  std::vector<std::string> story;
};

PoolPolicy small(PoolPolicy policy) {
  // All waits are as long as one second: so times lie on a grid, and there are few of them.
  policy.idle_timeout = seconds(1);
  policy.start_limit = policy.spawn_limit = policy.freeze_limit = policy.drain_limit = seconds(1);
  policy.retry_first = policy.retry_most = seconds(1);
  return policy;
}

std::int64_t ahead(std::optional<Instant> at, Instant now) {
  return at ? std::clamp<std::int64_t>((*at - now) / std::chrono::milliseconds(1), 0, 5000) : -1;
}
std::int64_t ago(Instant at, Instant now) {
  return std::min<std::int64_t>((now - at) / std::chrono::milliseconds(1), 1000);
}

/// All that the future depends on. Members are told apart by what they are, not by their numbers.
std::string key(Place const& place) {
  PoolMachine const& m = place.world.machine;
  Instant const now = place.world.now;
  std::vector<std::string> members;
  for (auto const& [instance, member] : m.members()) {
    PoolWorld::Process const& it = place.world.processes.at(instance);
    members.push_back(fmt::format(
        "{}r{}{}{}{}{}f{}d{}s{}i{}b{}p{}{}{}{}", int(member.state), member.revision,
        int(member.tier), member.for_demand, member.served, member.fresh, member.in_flight,
        ahead(member.due, now), member.state == MemberState::Warm ? ago(member.since, now) : 0,
        ago(member.idle_since, now), member.begun >= m.failures().last, int(it.state), it.offered,
        it.withdrawn, it.in_flight));
  }
  std::ranges::sort(members);
  return fmt::format("{} w{} q{} s{}p{} f{}u{} n{} {} over{} left{}{}{}", members, m.waiting(),
                     place.world.queue, m.serving(), m.previous(),
                     std::min(m.failures().count, PoolMachine::kFreeFailures + 1),
                     ahead(m.failures().until, now), ahead(m.next_due(), now), m.stopping(),
                     m.over(), place.left.arrivals, place.left.faults, place.left.deploys);
}

struct Move {
  std::string name;
  std::function<bool(Place&)> make;  ///< False: not here.
};

std::vector<Move> moves_of(Place const& place, PoolPolicy const& next_policy) {
  std::vector<Move> moves;
  std::uint32_t open = place.world.queue;
  for (auto const& [instance, it] : place.world.processes) open += it.in_flight;
  if (place.left.arrivals > 0 && open < place.left.requests) {
    moves.push_back({"a request", [](Place& p) {
                       --p.left.arrivals;
                       p.world.arrive();
                       return true;
                     }});
  }
  if (place.left.deploys > 0) {
    moves.push_back({"a deploy", [next_policy](Place& p) {
                       --p.left.deploys;
                       p.world.deploy(RevisionId{3U - p.world.machine.serving().value},
                                      next_policy);
                       return true;
                     }});
  }
  // What was ended is gone before long; else those that are ending would be ever more.
  auto const ending = std::ranges::count_if(place.world.processes, [](auto const& entry) {
    return entry.second.state == PoolWorld::Process::State::Ending;
  });
  if (ending < 2) moves.push_back({"a tick", [](Place& p) { return p.world.tick(); }});
  for (auto const& [instance, it] : place.world.processes) {
    InstanceId const id = instance;
    moves.push_back({fmt::format("{} is answered", id),
                     [id](Place& p) { return p.world.answer(id, Answer::Well); }});
    moves.push_back(
        {fmt::format("{} has answered", id), [id](Place& p) { return p.world.finish(id); }});
    if (place.left.faults == 0) continue;
    moves.push_back({fmt::format("{} fails", id), [id](Place& p) {
                       --p.left.faults;
                       auto const state = p.world.processes.at(id).state;
                       return state != PoolWorld::Process::State::Running &&
                              state != PoolWorld::Process::State::Ending &&
                              p.world.answer(id, Answer::Badly);
                     }});
    moves.push_back({fmt::format("{} dies", id), [id](Place& p) {
                       --p.left.faults;
                       return p.world.die(id);
                     }});
    moves.push_back({fmt::format("{} cannot be reached", id), [id](Place& p) {
                       --p.left.faults;
                       return p.world.unreachable(id);
                     }});
  }
  return moves;
}

struct Findings {
  std::size_t states = 0;
  std::size_t moves = 0;
  bool complete = true;
};

class Exploration {
 public:
  Exploration(PoolPolicy const& policy, PoolPolicy const& next, Bounds bounds)
      : next_policy_(next) {
    Place start{.left = bounds};
    start.world.deploy(RevisionId{1}, policy);
    visit(std::move(start));
  }

  /// Nothing if all is kept.
  std::string run() {
    while (!open_.empty()) {
      Place const place = std::move(open_.front());
      open_.pop_front();
      for (Move const& move : moves_of(place, next_policy_)) {
        Place next = place;
        next.story.push_back(move.name);
        try {
          if (!move.make(next)) continue;
          ++findings_.moves;
          if (visit(next)) what_if(next);
        } catch (BrokenPromise const& e) {
          return fmt::format("{}\n  after: {}", e.what(), fmt::join(next.story, "\n         "));
        }
      }
      if (findings_.states > kStatesMax) {
        findings_.complete = false;
        break;
      }
    }
    return {};
  }
  [[nodiscard]] Findings const& findings() const { return findings_; }

 private:
  bool visit(Place place) {
    if (!seen_.insert(std::hash<std::string>()(key(place))).second) return false;
    ++findings_.states;
    open_.push_back(std::move(place));
    return true;
  }
  static void what_if(Place& place) {
    for (auto const& [name, end] : {std::pair("nothing comes any more", &PoolWorld::come_to_rest),
                                    std::pair("nothing starts any more", &PoolWorld::refuse_all),
                                    std::pair("it is stopped", &PoolWorld::come_to_an_end)}) {
      place.story.emplace_back(name);
      PoolWorld other = place.world;
      (other.*end)();
      place.story.pop_back();
    }
  }

  PoolPolicy next_policy_;
  std::deque<Place> open_;
  std::unordered_set<std::size_t> seen_;
  Findings findings_;
};

struct Case {
  char const* name;
  PoolPolicy policy;
  PoolPolicy next;
  Bounds bounds;
};

std::vector<Case> cases() {
  auto const of = [](std::uint32_t concurrency, std::uint32_t min, std::uint32_t max,
                     std::uint32_t parked) {
    return small({.concurrency = concurrency,
                  .min_instances = min,
                  .max_instances = max,
                  .parked = parked,
                  .making = Making::Copy});
  };
  PoolPolicy cold = of(1, 0, 2, 0);
  cold.cold_when_copy_fails = true;
  return {
      {"one place, nothing parked", of(1, 0, 1, 0), of(1, 0, 1, 0), {.faults = 2}},
      {"two places, nothing parked", of(1, 0, 2, 0), of(1, 0, 2, 0), {.arrivals = 2}},
      {"one parked", of(1, 0, 2, 1), of(1, 0, 2, 1), {.arrivals = 2}},
      {"one place, parked", of(1, 0, 1, 1), of(1, 0, 1, 1), {.faults = 2}},
      {"one always warm", of(1, 1, 2, 0), of(1, 1, 2, 0), {.arrivals = 2}},
      {"two at once", of(2, 0, 1, 1), of(2, 0, 1, 1), {.requests = 3}},
      {"cold after a copy that failed", cold, cold, {.arrivals = 2, .deploys = 0}},
      {"fewer places with the deploy", of(1, 0, 2, 2), of(1, 0, 1, 0), {.arrivals = 2}},
      {"more places with the deploy", of(1, 0, 1, 0), of(2, 1, 2, 1), {.arrivals = 2}},
      {"three places", of(1, 0, 3, 1), of(1, 0, 3, 1), {.arrivals = 2, .faults = 0, .deploys = 0}},
  };
}

TEST(PoolMachine, KeepsItsPromisesInTheStatesOfASmallPool) {
  std::size_t states = 0;
  for (Case const& it : cases()) {
    Exploration exploration(it.policy, it.next, it.bounds);
    EXPECT_EQ(exploration.run(), "") << it.name;
    EXPECT_TRUE(exploration.findings().complete) << it.name;
    fmt::print("{}: {} states, {} moves\n", it.name, exploration.findings().states,
               exploration.findings().moves);
    states += exploration.findings().states;
  }
  EXPECT_GT(states, 100'000U);
}

}  // namespace
}  // namespace aether::functions
