// SPDX-License-Identifier: Apache-2.0
// RouteGroup on the kernel: sockets that "programs" of this test bound, steered, split and left.
#include "steer/route_group.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cmath>
#include <map>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "steer/bpf_support.h"
#include "steer/socket_address.h"
#include "steer/steering.h"
#include "steer/testing.h"

namespace aether::steer {
namespace {

using testing::accept_now;
using testing::address_of;
using testing::connect_to;
using testing::revision;

class RouteGroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto const able = check_bpf_steering();
    if (!able) GTEST_SKIP() << able.error().message();
    auto router = LookupRouter::open();
    ASSERT_TRUE(router) << router.error().message();
    router_.emplace(*std::move(router));
    // A port that nobody has: taken by the kernel's choice, and given back.
    auto const port = local_address(bound("127.0.0.1:0").get())->port;
    auto group = RouteGroup::open(
        *router_,
        {.name = "web", .address = address_of(fmt::format("127.0.0.1:{}", port)), .backlog = 64});
    ASSERT_TRUE(group) << group.error().message();
    group_.emplace(*std::move(group));
  }

  static os::UniqueFd bound(std::string_view text) {
    os::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto const address = to_socket_address(address_of(text));
    EXPECT_EQ(::bind(fd.get(), address->get(), address->length), 0);
    return fd;
  }

  /// A program's listening socket, as BindRewriter::take() would give it.
  TakenSocket listening() {
    TakenSocket socket{.fd = bound("127.0.0.1:0"), .pid = 1};
    EXPECT_EQ(::listen(socket.fd.get(), 512), 0);
    socket.hidden_port = local_address(socket.fd.get())->port;
    socket.inode = *inode_of(socket.fd.get());
    socket.address = group_->bound();
    return socket;
  }

  /// The socket that a new connection waits in, by its index; -1: none of them.
  int lands_on(std::vector<TakenSocket> const& sockets, int source = 0) {
    os::UniqueFd const client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    linger const at_once{.l_onoff = 1, .l_linger = 0};
    setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    if (source != 0) {
      auto const from = to_socket_address(address_of(fmt::format("127.0.2.{}:0", source)));
      EXPECT_EQ(::bind(client.get(), from->get(), from->length), 0);
    }
    auto const target = to_connect_address(group_->bound());
    EXPECT_EQ(::connect(client.get(), target->get(), target->length), 0);
    for (std::size_t i = 0; i < sockets.size(); ++i)
      if (accept_now(sockets[i].fd.get())) return static_cast<int>(i);
    return -1;
  }

  std::optional<LookupRouter> router_;
  std::optional<RouteGroup> group_;
};

std::vector<TakenSocket> with(TakenSocket one) {
  std::vector<TakenSocket> all;
  all.push_back(std::move(one));
  return all;
}

TEST_F(RouteGroupTest, LetsConnectionsWaitWhileNobodyServes) {
  ASSERT_TRUE(group_->steer_to(revision(1)));
  EXPECT_FALSE(group_->serves());
  auto const client = connect_to(group_->bound());
  ASSERT_TRUE(client);
  EXPECT_EQ(group_->waiting().connections, 1U);
  EXPECT_FALSE(group_->own_address(revision(1)));
}

TEST_F(RouteGroupTest, SteersToSocketsThatAreFoundLater) {
  ASSERT_TRUE(group_->steer_to(revision(1)));
  auto const sockets = with(listening());
  ASSERT_TRUE(group_->found(revision(1), InstanceId{7}, sockets));
  EXPECT_TRUE(group_->serves());
  EXPECT_EQ(lands_on(sockets), 0);
  EXPECT_EQ(group_->own_address(InstanceId{7})->port, sockets[0].hidden_port);
  ASSERT_EQ(group_->shares().size(), 1U);
  EXPECT_EQ(group_->shares()[0].given, 1U);
  EXPECT_EQ(group_->shares()[0].percent, 100);
}

TEST_F(RouteGroupTest, GivesASplitRevisionItsPartWhateverItsNumberOfSockets) {
  auto const old = with(listening());
  auto fresh = with(listening());
  fresh.push_back(listening());
  ASSERT_TRUE(group_->found(revision(1), InstanceId{1}, old));
  ASSERT_TRUE(group_->found(revision(2), InstanceId{2}, fresh));
  ASSERT_TRUE(group_->split({.revision = revision(2), .percent = 20, .other = revision(1)}));
  int landed = 0;
  for (int i = 0; i < 2000; ++i) {
    bool const is_fresh = lands_on(fresh) >= 0;
    landed += is_fresh ? 1 : 0;
    if (!is_fresh) EXPECT_TRUE(accept_now(old[0].fd.get()));
  }
  EXPECT_NEAR(landed, 400, 5 * std::sqrt(2000 * 0.2 * 0.8));
  EXPECT_EQ(group_->shares()[0].percent, 80);
  EXPECT_EQ(group_->shares()[1].percent, 20);
}

TEST_F(RouteGroupTest, OnlyEverMovesAClientThatSticksToTheNewRevision) {
  std::vector<TakenSocket> all;
  all.push_back(listening());
  all.push_back(listening());
  ASSERT_TRUE(group_->found(revision(1), InstanceId{1}, std::span(all).first(1)));
  ASSERT_TRUE(group_->found(revision(2), InstanceId{2}, std::span(all).last(1)));
  std::map<int, int> before;
  for (int const percent : {10, 40, 90}) {
    ASSERT_TRUE(group_->split({.revision = revision(2),
                               .percent = percent,
                               .other = revision(1),
                               .stick = Stick::Source}));
    int fresh = 0;
    for (int client = 1; client <= 200; ++client) {
      int const home = lands_on(all, client);
      EXPECT_EQ(lands_on(all, client), home) << "who comes again goes elsewhere";
      if (before[client] == 1) EXPECT_EQ(home, 1) << "a client went back";
      before[client] = home;
      fresh += home == 1 ? 1 : 0;
    }
    EXPECT_NEAR(fresh, 2 * percent, 5 * std::sqrt(2.0 * percent * (100 - percent) / 100) + 1);
  }
}

TEST_F(RouteGroupTest, KeepsWhatWaitsForADeadInstanceForRescue) {
  auto sockets = with(listening());
  ASSERT_TRUE(group_->found(revision(1), InstanceId{1}, sockets));
  ASSERT_TRUE(group_->steer_to(revision(1)));
  auto const client = connect_to(group_->bound());
  ASSERT_TRUE(client);
  sockets[0].fd.reset();  // The program is gone; the duplicate keeps the queue.
  EXPECT_EQ(group_->queue(revision(1)).connections, 1U);
  ASSERT_TRUE(group_->gone(InstanceId{1}));
  EXPECT_FALSE(group_->serves());
  auto const left = group_->take_left();
  ASSERT_EQ(left.size(), 1U);
  EXPECT_TRUE(accept_now(left[0].get()));
  EXPECT_TRUE(group_->take_left().empty());
}

TEST_F(RouteGroupTest, LeavesASocketThatItsProgramHasNoMore) {
  std::vector<TakenSocket> all;
  all.push_back(listening());
  all.push_back(listening());
  ASSERT_TRUE(group_->steer_to(revision(1)));
  ASSERT_TRUE(group_->found(revision(1), InstanceId{1}, all));
  ASSERT_TRUE(group_->found(revision(1), InstanceId{1}, std::span(all).first(1)));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(lands_on(all), 0);
  EXPECT_EQ(group_->take_left().size(), 1U);
}

}  // namespace
}  // namespace aether::steer
