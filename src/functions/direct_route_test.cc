// SPDX-License-Identifier: Apache-2.0
#include "functions/direct_route.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include <gtest/gtest.h>

#include "async/loop.h"
#include "async/testing.h"
#include "async/timers.h"
#include "async/wait_fd.h"

namespace aether::functions {
namespace {

constexpr RevisionId kOne{1};
constexpr RevisionId kTwo{2};
constexpr InstanceId kInstance{7};
constexpr Duration kPatience = std::chrono::seconds(30);

struct DirectRig {
  explicit DirectRig(async::Loop& loop)
      : route(or_throw(DirectRoute::open(loop.executor(), 0, [this] {
          ++wanted;
          told.set();
        }))) {}

  int lane(RevisionId revision) { return or_throw(route->lane(revision))->fd; }
  os::UniqueFd connect() {
    os::UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in name{.sin_family = AF_INET,
                     .sin_port = htons(or_throw(route->lane(kOne))->address.port),
                     .sin_addr = {htonl(INADDR_LOOPBACK)},
                     .sin_zero = {}};
    if (::connect(client.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0)
      throw system_error("connect");
    return client;
  }
  std::unique_ptr<DirectRoute> route;
  int wanted = 0;
  async::Event told;
};

/// The next byte of the connection: none if its other side has reset it.
bool is_reset(os::UniqueFd const& client) {
  std::array<char, 1> byte{};
  return ::recv(client.get(), byte.data(), byte.size(), 0) < 0 && errno == ECONNRESET;
}

CORO_TEST(DirectRoute, TellsOfWhoWaitsWhileNobodyServes) {
  DirectRig rig(loop);
  (void)rig.lane(kOne);
  or_throw(rig.route->steer_to(kOne));
  EXPECT_EQ(rig.wanted, 0);
  os::UniqueFd const client = rig.connect();
  bool const told = co_await rig.told.wait_for(kPatience);
  CO_ASSERT_TRUE(told);
  EXPECT_EQ(rig.route->queued(), 1U);
  EXPECT_FALSE(rig.route->queue_empty(kOne));
  co_await rig.route->stop();
}

CORO_TEST(DirectRoute, LeavesTheQueueToWhoServes) {
  DirectRig rig(loop);
  int const lane = rig.lane(kOne);
  or_throw(rig.route->steer_to(kOne));
  rig.route->add(kInstance, kOne);
  os::UniqueFd const client = rig.connect();
  bool const told = co_await rig.told.wait_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(told);
  os::UniqueFd const accepted(::accept4(lane, nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(accepted);
  auto const held = co_await rig.route->connections({::getpid()});
  EXPECT_EQ(held, 1U);
  os::UniqueFd const next = rig.connect();
  rig.route->remove(kInstance);
  bool const told_then = co_await rig.told.wait_for(kPatience);
  EXPECT_TRUE(told_then);
  co_await rig.route->stop();
}

CORO_TEST(DirectRoute, BringsWhatCameBeforeTheFirstRevisionToIt) {
  DirectRig rig(loop);
  int const lane = rig.lane(kOne);
  os::UniqueFd const early = rig.connect();
  bool const told = co_await rig.told.wait_for(kPatience);
  CO_ASSERT_TRUE(told);
  EXPECT_TRUE(rig.route->queue_empty(kOne)) << "it is not ready";
  or_throw(rig.route->steer_to(kOne));
  co_await async::readable(lane);
  os::UniqueFd const accepted(::accept4(lane, nullptr, nullptr, SOCK_CLOEXEC));
  CO_ASSERT_TRUE(accepted);
  CO_ASSERT_EQ(::send(accepted.get(), "x", 1, 0), 1);
  int const client = early.get();
  co_await async::readable(client);
  std::array<char, 1> byte{};
  EXPECT_EQ(::recv(client, byte.data(), byte.size(), 0), 1);
  co_await rig.route->stop();
}

CORO_TEST(DirectRoute, GivesNewConnectionsToTheRevisionThatIsSteeredTo) {
  DirectRig rig(loop);
  int const old_lane = rig.lane(kOne);
  or_throw(rig.route->steer_to(kOne));
  rig.route->add(kInstance, kOne);
  int const new_lane = rig.lane(kTwo);
  os::UniqueFd const first = rig.connect();
  co_await async::readable(old_lane);
  EXPECT_TRUE(rig.route->queue_empty(kTwo));
  or_throw(rig.route->steer_to(kTwo));
  os::UniqueFd const second = rig.connect();
  co_await async::readable(new_lane);
  EXPECT_FALSE(rig.route->queue_empty(kOne)) << "its own instance takes what it has";
  // Nobody is left to take it.
  rig.route->remove(kInstance);
  bool moved = false;
  for (int i = 0; i < 3000 && !moved; ++i) {
    co_await async::sleep_for(std::chrono::milliseconds(10));
    moved = rig.route->queue_empty(kOne) && rig.route->queued() == 2;
  }
  EXPECT_TRUE(moved);
  co_await rig.route->stop();
}

CORO_TEST(DirectRoute, ResetsWhoWaitsWhenNothingCanBeStarted) {
  DirectRig rig(loop);
  os::UniqueFd const client = rig.connect();
  bool const told = co_await rig.told.wait_for(kPatience);
  CO_ASSERT_TRUE(told);
  rig.route->refuse_waiting();
  EXPECT_TRUE(is_reset(client));
  co_await rig.route->stop();
}

}  // namespace
}  // namespace aether::functions
