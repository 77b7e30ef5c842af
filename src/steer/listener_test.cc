// SPDX-License-Identifier: Apache-2.0
#include "steer/listener.h"

#include <fcntl.h>

#include <string>
#include <utility>

#include <gmock/gmock.h>

#include "base/log.h"
#include "os/proc.h"
#include "steer/testing.h"

namespace aether::steer {
namespace {

using namespace testing;
using ::testing::HasSubstr;

TEST(ListenerGroup, HoldsTheAddressBeforeAnyRevisionCame) {
  auto group = open_group("127.0.0.1:0");
  EXPECT_NE(group.bound().port, 0);
  EXPECT_EQ(group.steered(), RevisionId{});
  auto const early = connect_to(group.bound());
  ASSERT_TRUE(early);
  int const first = lane(group, 1);
  EXPECT_EQ(group.steered(), revision(1));
  EXPECT_EQ(answer_all(first, "one"), 1);
  EXPECT_EQ(read_all(early.get()), "one");
}

TEST(ListenerGroup, GivesTheSameLaneToTheSameRevisionAgain) {
  auto group = open_group("127.0.0.1:0");
  EXPECT_EQ(lane(group, 1), lane(group, 1));
  EXPECT_NE(lane(group, 1), lane(group, 2));
  EXPECT_NE(group.socket_inode(revision(1)), 0U);
  EXPECT_NE(group.socket_inode(revision(1)), group.socket_inode(revision(2)));
  EXPECT_EQ(group.socket_inode(revision(3)), 0U);
}

TEST(ListenerGroup, GivesLanesThatAreCloseOnExecAndBlocking) {
  auto group = open_group("127.0.0.1:0");
  int const fd = lane(group, 1);
  EXPECT_NE(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
}

TEST(ListenerGroup, SteersNewConnectionsOnly) {
  auto group = open_group("127.0.0.1:0");
  int const one = lane(group, 1);
  int const two = lane(group, 2);
  auto const established = connect_to(group.bound());
  auto const accepted = accept_now(one);
  ASSERT_TRUE(accepted);
  auto const queued = connect_to(group.bound());
  ASSERT_TRUE(group.steer_to(revision(2)));
  auto const fresh = connect_to(group.bound());

  EXPECT_EQ(group.queue(revision(1))->connections, 1U);
  EXPECT_EQ(group.queue(revision(2))->connections, 1U);
  EXPECT_EQ(answer_all(one, "one"), 1);
  EXPECT_EQ(answer_all(two, "two"), 1);
  EXPECT_EQ(read_all(queued.get()), "one");
  EXPECT_EQ(read_all(fresh.get()), "two");
  ASSERT_EQ(send(accepted.get(), "still", 5, MSG_NOSIGNAL), 5);
  char buffer[8];
  EXPECT_EQ(recv(established.get(), buffer, sizeof(buffer), 0), 5);
}

TEST(ListenerGroup, SteersBackInOneStep) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  lane(group, 2);
  EXPECT_EQ(lands_on(group, {1, 2}), 1U);
  ASSERT_TRUE(group.steer_to(revision(2)));
  EXPECT_EQ(lands_on(group, {1, 2}), 2U);
  ASSERT_TRUE(group.steer_to(revision(1)));
  ASSERT_TRUE(group.steer_to(revision(1)));
  EXPECT_EQ(lands_on(group, {1, 2}), 1U);
  ASSERT_TRUE(group.retire(revision(2)));
  ASSERT_TRUE(group.retire(revision(2)));
  EXPECT_EQ(lands_on(group, {1}), 1U);
}

TEST(ListenerGroup, RefusesToSteerToARevisionWithoutALaneAndToRetireTheSteeredOne) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  EXPECT_EQ(group.steer_to(revision(9)).error().code(), ErrorCode::NotFound);
  EXPECT_EQ(group.retire(revision(1)).error().code(), ErrorCode::RequestInvalid);
  EXPECT_TRUE(group.retire(revision(9)));
  EXPECT_EQ(lands_on(group, {1}), 1U);
}

TEST(ListenerGroup, TellsTheDepthAndTheLimitOfAQueue) {
  auto group =
      ListenerGroup::open({.name = "http", .address = address_of("127.0.0.1:0"), .backlog = 7});
  ASSERT_TRUE(group);
  lane(*group, 1);
  EXPECT_TRUE(group->queue(revision(1))->empty);
  EXPECT_EQ(group->queue(revision(1))->limit, 7U);
  auto const a = connect_to(group->bound());
  auto const b = connect_to(group->bound());
  EXPECT_FALSE(group->queue(revision(1))->empty);
  EXPECT_EQ(group->queue(revision(1))->connections, 2U);
  EXPECT_TRUE(group->queue(revision(2))->empty);
}

// Edge: A11
TEST(ListenerGroup, ChangesTheBacklogOfOpenLanesAndOfThoseToCome) {
  auto group = open_group("127.0.0.1:0");
  std::ignore = lane(group, 1);
  ASSERT_TRUE(group.set_backlog(7).has_value());
  std::ignore = lane(group, 2);
  EXPECT_EQ(group.queue(revision(1))->limit, 7U);
  EXPECT_EQ(group.queue(revision(2))->limit, 7U);
}

TEST(ListenerGroup, KeepsNoSpareLanesAfterABurstOfSwaps) {
  auto group = open_group("127.0.0.1:0");
  std::uint64_t last = 1;
  std::ignore = lane(group, last);
  // Several revisions live at a time and end in any order, as after fast reloads.
  for (int round = 0; round < 50; ++round) {
    std::uint64_t const first = last;
    for (int i = 0; i < 4; ++i) {
      std::ignore = lane(group, ++last);
      ASSERT_TRUE(group.steer_to(revision(last)).has_value());
    }
    for (std::uint64_t const n : {first + 2, first, first + 3, first + 1})
      ASSERT_TRUE(group.retire(revision(n)).has_value());
    EXPECT_LE(group.lanes().size(), 5U) << "one spare for each that left at the same time";
    EXPECT_EQ(lands_on(group, {last}), last);
    // One swap by itself clears them away.
    std::ignore = lane(group, ++last);
    ASSERT_TRUE(group.steer_to(revision(last)).has_value());
    ASSERT_TRUE(group.retire(revision(last - 1)).has_value());
    EXPECT_EQ(group.lanes().size(), 1U);
    EXPECT_EQ(lands_on(group, {last}), last);
  }
}

// Edge: A9
TEST(ListenerGroup, CountsConnectionsDroppedByAFullQueueAlsoOfEndedLanes) {
  auto group =
      ListenerGroup::open({.name = "http", .address = address_of("127.0.0.1:0"), .backlog = 1});
  ASSERT_TRUE(group);
  lane(*group, 1);
  EXPECT_EQ(group->overflows(), 0U);
  auto const to = to_connect_address(group->bound());
  std::vector<os::UniqueFd> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    static_cast<void>(connect(clients.back().get(), to->get(), to->length));
  }
  auto const dropped = group->overflows();
  EXPECT_GT(dropped, 0U);
  lane(*group, 2);
  ASSERT_TRUE(group->steer_to(revision(2)));
  ASSERT_TRUE(group->retire(revision(1)));
  EXPECT_GE(group->overflows(), dropped);
}

TEST(ListenerGroup, ReplacesALaneThatItsProgramShutDown) {
  auto group = open_group("127.0.0.1:0");
  int const one = lane(group, 1);
  lane(group, 2);
  auto const inode = group.socket_inode(revision(1));
  shutdown(one, SHUT_RDWR);
  ASSERT_TRUE(group.check());
  EXPECT_NE(group.socket_inode(revision(1)), inode);
  EXPECT_EQ(lands_on(group, {1, 2}), 1U);
  ASSERT_TRUE(group.steer_to(revision(2)));
  EXPECT_EQ(lands_on(group, {1, 2}), 2U);
}

TEST(ListenerGroup, KeepsSteeringRightWhenAnotherLaneIsShutDownByItsProgram) {
  auto group = open_group("127.0.0.1:0");
  int const one = lane(group, 1);
  lane(group, 2);
  lane(group, 3);
  ASSERT_TRUE(group.steer_to(revision(3)));
  shutdown(one, SHUT_RDWR);
  ASSERT_TRUE(group.check());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(lands_on(group, {2, 3}), 3U);
  EXPECT_EQ(group.lanes().size(), 2U);
}

// Edge: A12
TEST(ListenerGroup, EndsALaneThatAStragglerStillHolds) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  auto const straggler = os::duplicate(lane(group, 2));
  ASSERT_TRUE(straggler);
  ASSERT_TRUE(group.retire(revision(2)));
  lane(group, 3);
  ASSERT_TRUE(group.steer_to(revision(3)));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(lands_on(group, {1, 3}), 3U);
  EXPECT_EQ(accept(straggler->get(), nullptr, nullptr), -1);
}

TEST(ListenerGroup, FreesTheAddressInTheEndWhoeverHoldsTheFds) {
  Address bound;
  Result<os::UniqueFd> straggler;
  {
    auto group = open_group("127.0.0.1:0");
    bound = group.bound();
    straggler = os::duplicate(lane(group, 1));
  }
  EXPECT_FALSE(connect_to(bound));
  EXPECT_EQ(errno, ECONNREFUSED);
}

// Edge: A7
TEST(ListenerGroup, KeepsThePortThatTheKernelChoseOverLanes) {
  auto group = open_group("127.0.0.1:0");
  auto const port = group.bound().port;
  for (std::uint64_t n = 1; n <= 5; ++n) {
    lane(group, n);
    ASSERT_TRUE(group.steer_to(revision(n)));
    if (n > 1) ASSERT_TRUE(group.retire(revision(n - 1)));
    EXPECT_EQ(lands_on(group, {n}), n);
  }
  EXPECT_EQ(group.bound().port, port);
  EXPECT_EQ(group.bound().host, "127.0.0.1");
}

TEST(ListenerGroup, TakesBothFamiliesWithoutAHost) {
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6";
  auto group = open_group(":0");
  Address v4 = group.bound();
  v4.host = "127.0.0.1";
  Address v6 = group.bound();
  v6.host = "::1";
  int const one = lane(group, 1);
  int const two = lane(group, 2);
  for (auto const& [number, fd] : {std::pair{1U, one}, std::pair{2U, two}, std::pair{1U, one}}) {
    ASSERT_TRUE(group.steer_to(revision(number)));
    auto const over_v4 = connect_to(v4);
    auto const over_v6 = connect_to(v6);
    EXPECT_TRUE(over_v4);
    EXPECT_TRUE(over_v6);
    EXPECT_EQ(answer_all(fd, "x"), 2);
  }
}

TEST(ListenerGroup, LeavesThePortOfTheOtherFamilyAloneWhenV6Only) {
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6";
  auto group =
      ListenerGroup::open({.name = "http", .address = address_of("[::]:0"), .v6_only = true});
  ASSERT_TRUE(group) << group.error().describe();
  Address v4 = group->bound();
  v4.host = "0.0.0.0";
  EXPECT_TRUE(ListenerGroup::open({.name = "v4", .address = v4}));
}

// Edge: A16
TEST(ListenerGroup, GivesNothingToAForeignSocketThatJoinsTheGroup) {
  std::vector<std::string> warnings;
  log::set_sink([&](log::Level, std::string_view line) { warnings.emplace_back(line); });
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  os::UniqueFd intruder(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int const yes = 1;
  setsockopt(intruder.get(), SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes));
  auto const address = to_socket_address(group.bound());
  ASSERT_EQ(bind(intruder.get(), address->get(), address->length), 0);
  ASSERT_EQ(listen(intruder.get(), 16), 0);
  lane(group, 2);
  lane(group, 3);
  for (std::uint64_t const n : {2U, 3U, 1U, 3U}) {
    ASSERT_TRUE(group.steer_to(revision(n)));
    for (int i = 0; i < 16; ++i) EXPECT_EQ(lands_on(group, {1, 2, 3}), n);
  }
  EXPECT_FALSE(accept_now(intruder.get()));
  EXPECT_TRUE(group.lanes().back().foreign);
  intruder.reset();
  ASSERT_TRUE(group.check());
  for (int i = 0; i < 16; ++i) EXPECT_EQ(lands_on(group, {1, 2, 3}), 3U);
  log::set_sink({});
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_THAT(warnings[0], HasSubstr("joined the address"));
}

TEST(ListenerGroup, SharesOneSocketWhenAskedTo) {
  for (auto const mode : {ListenMode::Shared, ListenMode::Exclusive}) {
    auto group = open_group("127.0.0.1:0", mode);
    EXPECT_EQ(lane(group, 1), lane(group, 2));
    EXPECT_EQ(group.socket_inode(revision(1)), group.socket_inode(revision(2)));
    EXPECT_TRUE(group.steer_to(revision(2)));
    EXPECT_TRUE(group.retire(revision(1)));
    EXPECT_EQ(group.steered(), RevisionId{});
    EXPECT_EQ(lands_on(group, {2}), 2U);
  }
}

TEST(ListenerGroup, MakesASharedSocketListenAgainAfterAProgramShutItDown) {
  auto group = open_group("127.0.0.1:0", ListenMode::Shared);
  int const fd = lane(group, 1);
  shutdown(fd, SHUT_RDWR);
  EXPECT_EQ(lane(group, 1), fd);
  EXPECT_EQ(lands_on(group, {1}), 1U);
}

TEST(ListenerGroup, AdoptsASocketFromOutsideAndLeavesItAliveInTheEnd) {
  auto original = open_group("127.0.0.1:0", ListenMode::Shared);
  {
    auto duplicate = os::duplicate(lane(original, 1));
    ASSERT_TRUE(duplicate);
    auto adopted = ListenerGroup::adopt({.name = "http"}, *std::move(duplicate));
    ASSERT_TRUE(adopted);
    EXPECT_EQ(adopted->mode(), ListenMode::Shared);
    EXPECT_EQ(adopted->bound(), original.bound());
    EXPECT_EQ(lands_on(*adopted, {1}), 1U);
  }
  EXPECT_EQ(lands_on(original, {1}), 1U);
  os::UniqueFd deaf(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(ListenerGroup::adopt({.name = "http"}, std::move(deaf)).error().code(),
            ErrorCode::AddressInvalid);
}

TEST(ListenerGroup, SteersDatagramsAndLeavesQueuedOnesWhereTheyAre) {
  auto group = open_group("udp://127.0.0.1:0");
  int const one = lane(group, 1);
  int const two = lane(group, 2);
  auto const client = connect_to(group.bound());
  auto const read_one = [](int fd) -> std::string {
    char buffer[16];
    if (!waits_for(fd, POLLIN, 0)) return "";
    ssize_t const got = recv(fd, buffer, sizeof(buffer), 0);
    return {buffer, got > 0 ? static_cast<std::size_t>(got) : 0};
  };
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(group.steer_to(revision(1)));
    ASSERT_EQ(send(client.get(), "first", 5, 0), 5);
    ASSERT_TRUE(group.steer_to(revision(2)));
    ASSERT_EQ(send(client.get(), "second", 6, 0), 6);
    EXPECT_FALSE(group.queue(revision(1))->empty);
    EXPECT_EQ(read_one(two), "second");
    EXPECT_EQ(read_one(one), "first");
    EXPECT_TRUE(group.queue(revision(1))->empty);
  }
  ASSERT_TRUE(group.retire(revision(1)));
  lane(group, 3);
  ASSERT_TRUE(group.steer_to(revision(3)));
  send(client.get(), "third", 5, 0);
  EXPECT_EQ(read_one(lane(group, 3)), "third");
}

TEST(ListenerGroup, KeepsDatagramsOnCourseWhileAStragglerHoldsAnEndedLane) {
  auto group = open_group("udp://127.0.0.1:0");
  auto straggler = os::duplicate(lane(group, 1));
  lane(group, 2);
  lane(group, 3);
  auto const client = connect_to(group.bound());
  auto const goes_to_three = [&] {
    for (int i = 0; i < 20; ++i) {
      send(client.get(), "x", 1, 0);
      char buffer[4];
      if (!waits_for(lane(group, 3), POLLIN, 0)) return false;
      recv(lane(group, 3), buffer, sizeof(buffer), 0);
    }
    return true;
  };
  ASSERT_TRUE(group.steer_to(revision(3)));
  ASSERT_TRUE(group.retire(revision(1)));
  EXPECT_TRUE(goes_to_three());
  straggler->reset();
  ASSERT_TRUE(group.check());
  EXPECT_TRUE(goes_to_three());
}

TEST(ListenerGroup, StaysWithoutFdLeaksOver500Lanes) {
  auto group = open_group("127.0.0.1:0");
  lane(group, 1);
  auto const before = os::count_own_fds();
  for (std::uint64_t n = 2; n <= 501; ++n) {
    lane(group, n);
    ASSERT_TRUE(group.steer_to(revision(n)));
    ASSERT_TRUE(group.retire(revision(n - 1)));
  }
  EXPECT_EQ(os::count_own_fds(), before);
  EXPECT_EQ(group.lanes().size(), 1U);
}

TEST(TcpMigrateReq, ReadsTheKernelsSetting) {
  EXPECT_TRUE(tcp_migrate_req().has_value());
}

}  // namespace
}  // namespace aether::steer
