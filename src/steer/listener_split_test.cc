// SPDX-License-Identifier: Apache-2.0
// Two revisions that share what is new: how much each gets, and who stays with whom.
#include <netinet/in.h>
#include <sys/socket.h>

#include <cmath>
#include <map>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "steer/listener.h"
#include "steer/testing.h"

namespace aether::steer {
namespace {

using namespace testing;

/// Leaves no TIME_WAIT behind: thousands of them would use up the ports.
void leave_nothing(int fd) {
  linger const at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

/// How many of so many new connections went to the revision, which is one of two.
int share_of(ListenerGroup& group, std::uint64_t number, std::uint64_t other, int connections) {
  int landed = 0;
  int lost = 0;
  for (int i = 0; i < connections; ++i) {
    auto const client = connect_to(group.bound());
    leave_nothing(client.get());
    if (accept_now(lane(group, number))) {
      ++landed;
    } else if (!accept_now(lane(group, other))) {
      ++lost;
    }
  }
  EXPECT_EQ(lost, 0);
  return landed;
}

/// Five standard deviations of a binomial distribution: one run in two million is outside.
int bound_of(int connections, int percent) {
  double const p = percent / 100.0;
  return static_cast<int>(5 * std::sqrt(connections * p * (1 - p))) + 1;
}

TEST(ListenerSplit, GivesEachRevisionItsPartOf10000ConnectionsWithinBinomialBounds) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  lane(group, 2);
  for (int const percent : {10, 50}) {
    ASSERT_TRUE(group.split({.revision = revision(2), .percent = percent, .other = revision(1)}));
    EXPECT_EQ(group.steered(), revision(2));
    int const got = share_of(group, 2, 1, 5000);
    EXPECT_NEAR(got, 5000 * percent / 100, bound_of(5000, percent));
  }
}

TEST(ListenerSplit, EndsWithTheNextSteering) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  lane(group, 2);
  ASSERT_TRUE(group.split({.revision = revision(2), .percent = 50, .other = revision(1)}));
  ASSERT_TRUE(group.steer_to(revision(1)));
  EXPECT_EQ(share_of(group, 2, 1, 100), 0);
}

TEST(ListenerSplit, GoesOnWhileOtherLanesComeAndGo) {
  auto group = open_group("127.0.0.1:0");
  for (std::uint64_t n = 1; n <= 3; ++n) lane(group, n);
  ASSERT_TRUE(group.steer_to(revision(2)));
  ASSERT_TRUE(group.split({.revision = revision(3), .percent = 50, .other = revision(2)}));
  ASSERT_TRUE(group.retire(revision(1)));
  EXPECT_NEAR(share_of(group, 3, 2, 400), 200, bound_of(400, 50));
}

TEST(ListenerSplit, GivesEverythingToOneWhenTheOtherIsRetired) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  lane(group, 2);
  ASSERT_TRUE(group.split({.revision = revision(2), .percent = 10, .other = revision(1)}));
  ASSERT_TRUE(group.retire(revision(1)));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(lands_on(group, {2}), 2U);
}

TEST(ListenerSplit, LetsAProbeInToTheRevisionWhoseTurnItIsNot) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  lane(group, 2);
  ASSERT_TRUE(group.split({.revision = revision(2), .percent = 1, .other = revision(1)}));
  os::UniqueFd const probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto const own = to_socket_address(address_of("127.0.0.1:0"));
  ASSERT_EQ(::bind(probe.get(), own->get(), own->length), 0);
  auto const bound = local_address(probe.get());
  ASSERT_TRUE(group.admit(revision(2), bound->port));
  auto const target = to_connect_address(group.bound());
  ASSERT_EQ(::connect(probe.get(), target->get(), target->length), 0);
  EXPECT_TRUE(accept_now(lane(group, 2)));
}

/// Which revision each of many clients, by address, goes to.
std::map<int, std::uint64_t> homes(ListenerGroup& group, bool v6) {
  std::map<int, std::uint64_t> home;
  for (int i = 1; i <= 200; ++i) {
    os::UniqueFd const client(socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    leave_nothing(client.get());
    if (!v6) {
      auto const from = to_socket_address(address_of(fmt::format("127.0.{}.{}:0", i / 20, i)));
      EXPECT_EQ(::bind(client.get(), from->get(), from->length), 0);
    }
    auto const target = to_connect_address(group.bound());
    EXPECT_EQ(::connect(client.get(), target->get(), target->length), 0);
    for (std::uint64_t const number : {1, 2})
      if (accept_now(lane(group, number))) home[i] = number;
  }
  EXPECT_EQ(home.size(), 200U);
  return home;
}

TEST(ListenerSplit, KeepsEachClientWithItsRevisionAndOnlyEverMovesItToTheNewOne) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  lane(group, 2);
  std::map<int, std::uint64_t> before;
  int last = 0;
  for (int const percent : {10, 40, 90}) {
    ASSERT_TRUE(group.split({.revision = revision(2),
                             .percent = percent,
                             .other = revision(1),
                             .stick = Stick::Source}));
    auto const now = homes(group, false);
    EXPECT_EQ(homes(group, false), now) << "who comes again goes elsewhere";
    int fresh = 0;
    for (auto const& [client, home] : now) {
      fresh += home == 2 ? 1 : 0;
      if (before[client] == 2U) EXPECT_EQ(home, 2U) << "a client went back";
    }
    EXPECT_NEAR(fresh, 2 * percent, bound_of(200, percent));
    EXPECT_GT(fresh, last);
    last = fresh;
    before = now;
  }
}

TEST(ListenerSplit, KeepsAClientOfVersion6WithItsRevision) {
  auto group = open_group("[::1]:0");
  lane(group, 1);
  lane(group, 2);
  ASSERT_TRUE(group.split(
      {.revision = revision(2), .percent = 50, .other = revision(1), .stick = Stick::Source}));
  auto const home = homes(group, true);
  for (auto const& [client, number] : home) EXPECT_EQ(number, home.begin()->second);
}

TEST(ListenerSplit, IsRefusedWhereThereAreNotTwoLanes) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  Split const split{.revision = revision(1), .percent = 50, .other = revision(2)};
  auto const refused = group.split(split);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::NotFound);
  auto shared = open_group("127.0.0.1:0", ListenMode::Shared);
  lane(shared, 1);
  auto const unsupported = shared.split(split);
  ASSERT_FALSE(unsupported);
  EXPECT_EQ(unsupported.error().code(), ErrorCode::Unsupported);
  EXPECT_EQ(group.steered(), revision(1));
}

}  // namespace
}  // namespace aether::steer
