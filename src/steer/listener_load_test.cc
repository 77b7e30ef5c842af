// SPDX-License-Identifier: Apache-2.0
// Steering while clients come as fast as they can: nothing is lost, nothing goes astray.
#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "steer/listener.h"
#include "steer/testing.h"

namespace aether::steer {
namespace {

using namespace testing;

TEST(ListenerLoad, LosesNoneOf2000ConnectionsOver200Flips) {
  auto group = open_group("127.0.0.1:0");
  LaneServer const one(lane(group, 1), "1");
  LaneServer const two(lane(group, 2), "2");
  std::atomic<int> answered{0};
  std::atomic<int> running{4};
  std::vector<std::thread> clients;
  for (int c = 0; c < 4; ++c)
    clients.emplace_back([&, target = group.bound()] {
      for (int i = 0; i < 500; ++i) {
        auto const client = connect_to(target);
        auto const answer = client ? read_all(client.get()) : std::nullopt;
        if (answer == "1" || answer == "2") ++answered;
      }
      --running;
    });
  int flips = 0;
  for (; flips < 200 || running > 0; ++flips)
    ASSERT_TRUE(group.steer_to(revision(static_cast<std::uint64_t>(flips) % 2 + 1)));
  for (auto& client : clients) client.join();
  EXPECT_EQ(answered, 2000);
  EXPECT_GE(flips, 200);
}

/// Connections come from the first moment to the last while earlier lanes leave under a steered
/// lane that is the last of its group: not one may be found in another lane's queue, or be reset.
TEST(ListenerLoad, SendsNoConnectionAstrayWhileEarlierLanesLeave) {
  auto group = open_group("127.0.0.1:0");
  std::atomic<bool> done{false};
  std::atomic<int> lost{0};
  std::atomic<int> stray{0};
  std::atomic<int> answered{0};
  std::vector<std::thread> clients;
  lane(group, 1);
  lane(group, 2);
  auto server = std::make_unique<LaneServer>(lane(group, 3), "3");
  std::uint64_t last = 3;
  ASSERT_TRUE(group.steer_to(revision(3)));
  for (int c = 0; c < 3; ++c)
    clients.emplace_back([&, target = group.bound()] {
      while (!done) {
        auto const client = connect_to(target);
        auto const answer = client ? read_all(client.get()) : std::nullopt;
        ++(answer ? answered : lost);
      }
    });
  // Each turn retires the first of three lanes while the last is steered, then makes a new last.
  for (int turn = 0; turn < 100; ++turn) {
    ASSERT_TRUE(group.retire(revision(last - 2)));
    if (!group.queue(revision(last - 1))->empty) ++stray;
    ++last;
    auto next = std::make_unique<LaneServer>(lane(group, last), std::to_string(last));
    ASSERT_TRUE(group.steer_to(revision(last)));
    while (!group.queue(revision(last - 1))->empty) std::this_thread::yield();
    server = std::move(next);
  }
  done = true;
  for (auto& client : clients) client.join();
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(stray, 0);
  EXPECT_GT(answered, 100);
}

/// The lane that was opened so that no window opens is not left over: the next revision takes it.
TEST(ListenerLoad, FindsTheSpareLaneInUseAgain) {
  auto group = open_group("127.0.0.1:0");
  for (std::uint64_t n = 1; n <= 3; ++n) lane(group, n);
  ASSERT_TRUE(group.steer_to(revision(3)));
  ASSERT_TRUE(group.retire(revision(1)));
  EXPECT_EQ(group.lanes().size(), 3U);
  lane(group, 4);
  EXPECT_EQ(group.lanes().size(), 3U);
  ASSERT_TRUE(group.steer_to(revision(4)));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(lands_on(group, {2, 3, 4}), 4U);
}

}  // namespace
}  // namespace aether::steer
