// SPDX-License-Identifier: Apache-2.0
#include "steer/connections.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "os/temp_dir.h"
#include "steer/listener.h"
#include "steer/testing.h"

namespace aether::steer {
namespace {

using testing::accept_now;
using testing::connect_to;
using testing::lane;
using testing::open_group;
using testing::revision;

std::array<pid_t, 1> self() {
  return {getpid()};
}

std::size_t count(AcceptedFrom const& from) {
  auto const counted = count_connections(from, self());
  EXPECT_TRUE(counted.has_value()) << counted.error().describe();
  return counted.value_or(999);
}

TEST(Connections, AreCountedOnceAcceptedAndUntilTheirProgramClosesThem) {
  auto group = open_group("127.0.0.1:0");
  int const listener = lane(group, 1);
  AcceptedFrom const from{.tcp_ports = {group.bound().port}, .unix_names = {}};
  EXPECT_EQ(count(from), 0U) << "the listener itself is none";
  auto client = connect_to(group.bound());
  EXPECT_EQ(count(from), 0U) << "who waits in a queue is not counted here";
  auto accepted = accept_now(listener);
  EXPECT_EQ(count(from), 1U);
  os::UniqueFd const twice(dup(accepted.get()));
  EXPECT_EQ(count(from), 1U) << "one connection, whoever holds it and how often";
  client.reset();
  EXPECT_EQ(count(from), 1U) << "a client that has left may be waited for still";
  ::shutdown(accepted.get(), SHUT_RDWR);
  accepted.reset();
  EXPECT_LE(count(from), 1U);
}

TEST(Connections, OfOtherPortsAndOfOtherProcessesAreNotCounted) {
  auto group = open_group("127.0.0.1:0");
  auto other = open_group("127.0.0.1:0");
  auto const client = connect_to(group.bound());
  auto const accepted = accept_now(lane(group, 1));
  ASSERT_TRUE(accepted);
  EXPECT_EQ(count({.tcp_ports = {other.bound().port}, .unix_names = {}}), 0U);
  AcceptedFrom const from{.tcp_ports = {group.bound().port}, .unix_names = {}};
  std::array<pid_t, 1> const init{1};
  auto const of_another = count_connections(from, init);
  if (of_another) {
    EXPECT_EQ(*of_another, 0U);
  } else {
    EXPECT_EQ(of_another.error().code(), ErrorCode::Unsupported);
  }
  EXPECT_EQ(count_connections(from, {}).value_or(9), 0U);
}

TEST(Connections, OfUnixSocketsAreCountedForTheLaneThatTheyCameBy) {
  auto folder = os::TempDir::create("connections");
  ASSERT_TRUE(folder.has_value());
  auto group = open_group("unix:" + folder->path() + "/app.sock");
  auto const first = connect_to(group.bound());
  auto const accepted = accept_now(lane(group, 1));
  ASSERT_TRUE(accepted);
  std::ignore = lane(group, 2);
  ASSERT_TRUE(group.steer_to(revision(2)).has_value());
  AcceptedFrom const by_first{.tcp_ports = {}, .unix_names = {group.unix_name(revision(1))}};
  AcceptedFrom const by_second{.tcp_ports = {}, .unix_names = {group.unix_name(revision(2))}};
  EXPECT_EQ(count(by_first), 1U);
  EXPECT_EQ(count(by_second), 0U);
}

}  // namespace
}  // namespace aether::steer
