// SPDX-License-Identifier: Apache-2.0
#include "jobs/scheduler.h"

#include <map>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/chance.h"

namespace aether::jobs {
namespace {

constexpr WallTime kNoon{std::chrono::hours(12)};
constexpr Duration kLease = std::chrono::seconds(30);

ReadyRun ready(std::string name, std::string queue = "default", std::string space = "default") {
  ReadyRun run;
  run.run.text = std::move(name);
  run.queue = std::move(queue);
  run.space = std::move(space);
  return run;
}
/// The runs that begin now.
std::vector<std::string> begun(Scheduler& scheduler, WallTime now = kNoon) {
  std::vector<std::string> names;
  for (ScheduleAction const& action : scheduler.poll(now)) {
    if (auto const* begin = std::get_if<BeginRun>(&action)) names.push_back(begin->run.run.text);
  }
  return names;
}
using NamesInOrder = std::vector<std::string>;

TEST(Scheduler, BeginsAsManyRunsAsThereArePlaces) {
  Scheduler scheduler({.concurrency = 2, .lease = kLease});
  for (char const* name : {"a", "b", "c"}) scheduler.offer(ready(name));
  EXPECT_EQ(begun(scheduler), (NamesInOrder{"a", "b"}));
  EXPECT_TRUE(begun(scheduler).empty());
  scheduler.release(RunId{"a"});
  EXPECT_EQ(begun(scheduler), (NamesInOrder{"c"}));
  EXPECT_EQ(scheduler.leases(), 2U);
  EXPECT_EQ(scheduler.waiting(), 0U);
}

TEST(Scheduler, TakesAnOfferOfARunOnce) {
  Scheduler scheduler({.concurrency = 1, .lease = kLease});
  scheduler.offer(ready("a"));
  scheduler.offer(ready("a"));
  EXPECT_EQ(begun(scheduler), (NamesInOrder{"a"}));
  scheduler.offer(ready("a"));
  EXPECT_EQ(scheduler.waiting(), 0U) << "it runs already";
}

TEST(Scheduler, BeginsTheMoreUrgentFirstAndAmongEqualsTheOldest) {
  Scheduler scheduler({.concurrency = 10, .lease = kLease});
  ReadyRun late = ready("late");
  late.since = kNoon + std::chrono::seconds(1);
  ReadyRun early = ready("early");
  early.since = kNoon;
  ReadyRun urgent = ready("urgent");
  urgent.priority = 1;
  urgent.since = kNoon + std::chrono::hours(1);
  for (ReadyRun const& run : {late, early, urgent}) scheduler.offer(run);
  EXPECT_EQ(begun(scheduler), (NamesInOrder{"urgent", "early", "late"}));
}

TEST(Scheduler, SharesPlacesBetweenQueuesByTheirWeights) {
  Scheduler scheduler({.concurrency = 1, .lease = kLease});
  for (int at = 0; at < 500; ++at) {
    for (char const* queue : {"realtime", "default", "background", "heavy"})
      scheduler.offer(ready(fmt::format("{}.{:03}", queue, at), queue));
  }
  std::map<std::string, int> shares;
  for (int at = 0; at < 230; ++at) {
    NamesInOrder const names = begun(scheduler);
    ASSERT_EQ(names.size(), 1U);
    ++shares[names[0].substr(0, names[0].find('.'))];
    scheduler.release(RunId{names[0]});
  }
  // 16 : 4 : 2 : 1, as queue_weight() says.
  EXPECT_NEAR(shares["realtime"], 160, 2);
  EXPECT_NEAR(shares["default"], 40, 2);
  EXPECT_NEAR(shares["background"], 20, 2);
  EXPECT_NEAR(shares["heavy"], 10, 2);
}

TEST(Scheduler, SharesAQueueBetweenNamesInOrderpacesHoweverMuchOneOfThemAsks) {
  Scheduler scheduler({.concurrency = 1, .lease = kLease});
  for (int at = 0; at < 1000; ++at)
    scheduler.offer(ready(fmt::format("greedy.{:04}", at), "default", "greedy"));
  for (int at = 0; at < 10; ++at)
    scheduler.offer(ready(fmt::format("modest.{:04}", at), "default", "modest"));
  int modest = 0;
  for (int at = 0; at < 20; ++at) {
    std::string const name = begun(scheduler).at(0);
    if (name.starts_with("modest")) ++modest;
    scheduler.release(RunId{name});
  }
  EXPECT_EQ(modest, 10);
}

TEST(Scheduler, LetsNobodyWaitBehindARunThatWaitsForItsKey) {
  Scheduler scheduler({.concurrency = 10, .lease = kLease});
  for (int at = 0; at < 3; ++at) {
    ReadyRun run = ready(fmt::format("keyed.{}", at));
    run.concurrency_key = "tenant";
    scheduler.offer(run);
  }
  scheduler.offer(ready("other"));
  EXPECT_EQ(begun(scheduler), (NamesInOrder{"keyed.0", "other"}));
  scheduler.release(RunId{"keyed.0"});
  EXPECT_EQ(begun(scheduler), (NamesInOrder{"keyed.1"}));
  scheduler.forget(RunId{"keyed.2"});
  scheduler.release(RunId{"keyed.1"});
  EXPECT_TRUE(begun(scheduler).empty()) << "who was forgotten does not begin";
}

TEST(Scheduler, AsksForALeaseToBeRenewedAndTakesItBackIfItIsNot) {
  Scheduler scheduler({.concurrency = 1, .lease = kLease});
  scheduler.offer(ready("a"));
  ASSERT_EQ(begun(scheduler).size(), 1U);
  EXPECT_TRUE(scheduler.leased(RunId{"a"}, 7));
  EXPECT_FALSE(scheduler.leased(RunId{"a"}, 7)) << "fences only grow";
  EXPECT_EQ(scheduler.next(), kNoon + kLease / 2);
  EXPECT_EQ(scheduler.poll(kNoon + kLease / 2).size(), 1U);
  EXPECT_FALSE(scheduler.renew(RunId{"a"}, 6, kNoon + 2 * kLease)) << "of an older fence";
  EXPECT_TRUE(scheduler.renew(RunId{"a"}, 7, kNoon + 2 * kLease));
  EXPECT_TRUE(scheduler.poll(kNoon + kLease).empty());
  std::vector<ScheduleAction> const late = scheduler.poll(kNoon + 2 * kLease);
  ASSERT_EQ(late.size(), 1U);
  EXPECT_EQ(late[0], ScheduleAction(ReclaimRun{.run = RunId{"a"}, .fence = 7}));
  EXPECT_FALSE(scheduler.is_leased(RunId{"a"}));
}

TEST(Scheduler, WakesInTheOrderOfTimesAndOnceEach) {
  Scheduler scheduler({});
  scheduler.wake_at(RunId{"b"}, kNoon + std::chrono::seconds(2));
  scheduler.wake_at(RunId{"a"}, kNoon + std::chrono::seconds(1));
  scheduler.wake_at(RunId{"c"}, kNoon + std::chrono::seconds(3));
  scheduler.wake_at(RunId{"c"}, kNoon + std::chrono::seconds(4));
  EXPECT_EQ(scheduler.next(), kNoon + std::chrono::seconds(1));
  EXPECT_TRUE(scheduler.poll(kNoon).empty());
  std::vector<ScheduleAction> const woken = scheduler.poll(kNoon + std::chrono::seconds(3));
  ASSERT_EQ(woken.size(), 2U);
  EXPECT_EQ(std::get<WakeRun>(woken[0]).run.text, "a");
  EXPECT_EQ(std::get<WakeRun>(woken[1]).run.text, "b");
  EXPECT_EQ(scheduler.poll(kNoon + std::chrono::seconds(9)).size(), 1U);
  EXPECT_EQ(scheduler.timers(), 0U);
}

TEST(Scheduler, BeginsNothingWhileItIsHeld) {
  Scheduler scheduler({});
  scheduler.hold(true);
  scheduler.offer(ready("a"));
  scheduler.wake_at(RunId{"b"}, kNoon);
  EXPECT_EQ(scheduler.poll(kNoon).size(), 1U) << "but it still wakes";
  scheduler.hold(false);
  EXPECT_EQ(begun(scheduler), (NamesInOrder{"a"}));
}

/// Whatever is asked in whatever order: the limits hold, and nobody is lost.
TEST(Scheduler, KeepsItsLimitsAndLosesNobodyInAnyOrder) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Chance chance(seed);
    Scheduler scheduler({.concurrency = 3, .lease = kLease});
    std::map<std::string, std::string> running;  // Name -> key.
    std::size_t offered = 0;
    std::size_t over = 0;
    for (int step = 0; step < 200 || over < offered; ++step) {
      ASSERT_LT(step, 5000) << "seed " << seed << ": somebody waits for ever";
      if (step < 200 && chance.one_in(2)) {
        ReadyRun run = ready(fmt::format("r{}", offered++), chance.one_in(2) ? "heavy" : "default",
                             chance.one_in(2) ? "x" : "y");
        run.priority = static_cast<int>(chance.below(3));
        if (chance.one_in(2)) run.concurrency_key = chance.one_in(2) ? "k" : "l";
        scheduler.offer(run);
      }
      for (ScheduleAction const& action : scheduler.poll(kNoon)) {
        ReadyRun const& run = std::get<BeginRun>(action).run;
        EXPECT_TRUE(running.emplace(run.run.text, run.concurrency_key).second);
      }
      ASSERT_LE(running.size(), 3U);
      std::map<std::string, int> keys;
      for (auto const& [name, key] : running) ++keys[key];
      ASSERT_LE(keys["k"], 1);
      ASSERT_LE(keys["l"], 1);
      if (running.empty() || chance.one_in(2)) continue;
      scheduler.release(RunId{running.begin()->first});
      running.erase(running.begin());
      ++over;
    }
  }
}

}  // namespace
}  // namespace aether::jobs
