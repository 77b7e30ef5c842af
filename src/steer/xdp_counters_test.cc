// SPDX-License-Identifier: Apache-2.0
#include "steer/xdp_counters.h"

#include <sys/wait.h>

#include <chrono>

#include "steer/bpf_testing.h"

namespace aether::steer {
namespace {

using testing::address_of;
using testing::bring_up;
using testing::connect_to;
using testing::InNetwork;
using testing::OwnNetwork;
using testing::serve_on;

class XdpCountersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!network_.entered()) GTEST_SKIP() << "a network namespace needs CAP_SYS_ADMIN";
    auto const made = XdpCounters::attach("lo");
    if (!made) GTEST_SKIP() << made.error().message();
  }
  void TearDown() override { EXPECT_TRUE(fault::configure("")); }

  static XdpCounters attach(std::string const& interface, XdpMode mode = XdpMode::Auto) {
    auto made = XdpCounters::attach(interface, mode);
    if (!made) throw std::move(made).error();
    return *std::move(made);
  }
  static XdpCount only(XdpCounters const& counters) {
    auto const all = counters.read();
    EXPECT_TRUE(all);
    EXPECT_EQ(all->size(), 1U);
    return all->at(0);
  }

  OwnNetwork network_;
};

/// How many of `count` datagrams of one source arrive at a socket.
int send_datagrams(os::UniqueFd const& server, std::string_view to, int count,
                   std::string_view from = "udp://127.0.0.1:0") {
  auto const client = serve_on(from);
  auto const native = to_connect_address(address_of(to));
  EXPECT_EQ(connect(client.get(), native->get(), native->length), 0);
  for (int i = 0; i < count; ++i) (void)!send(client.get(), "x", 1, 0);
  int arrived = 0;
  char byte = 0;
  while (recv(server.get(), &byte, 1, MSG_DONTWAIT) == 1) ++arrived;
  return arrived;
}

TEST_F(XdpCountersTest, CountPacketsAndBytesOfWatchedPortsOnLoopback) {
  auto counters = attach("lo");
  EXPECT_EQ(counters.mode(), XdpMode::Generic) << "what lo can";
  EXPECT_EQ(counters.interface(), "lo");
  EXPECT_EQ(xdp_mode_name(counters.mode()), "generic");
  ASSERT_TRUE(counters.watch(Transport::Udp, 5300, "dns"));
  auto const server = serve_on("udp://127.0.0.1:5300");
  auto const other = serve_on("udp://127.0.0.1:5301");
  EXPECT_EQ(send_datagrams(server, "udp://127.0.0.1:5300", 10), 10);
  EXPECT_EQ(send_datagrams(other, "udp://127.0.0.1:5301", 10), 10);
  auto const count = only(counters);
  EXPECT_EQ(count.name, "dns");
  EXPECT_EQ(count.port, 5300);
  EXPECT_EQ(count.packets, 10U);
  EXPECT_EQ(count.bytes, 10U * (14 + 20 + 8 + 1)) << "whole frames";
  EXPECT_EQ(count.dropped, 0U);
}

TEST_F(XdpCountersTest, CountConnectionsOfBothFamilies) {
  auto counters = attach("lo");
  ASSERT_TRUE(counters.watch(Transport::Tcp, 8080, "hello"));
  auto const server = serve_on("[::]:8080");
  EXPECT_TRUE(connect_to(address_of("127.0.0.1:8080")));
  auto const four = only(counters).packets;
  EXPECT_GE(four, 2U) << "SYN and ACK; what goes back has another port";
  EXPECT_TRUE(connect_to(address_of("[::1]:8080")));
  EXPECT_GT(only(counters).packets, four);
}

TEST_F(XdpCountersTest, DropWhatASourceSendsOverItsLimit) {
  auto counters = attach("lo");
  ASSERT_TRUE(counters.watch(Transport::Udp, 5300, "dns"));
  auto const server = serve_on("udp://0.0.0.0:5300");
  auto const begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(counters.set_limit(XdpLimit{.packets_per_second = 1, .burst = 5}));
  int const arrived = send_datagrams(server, "udp://127.0.0.1:5300", 50);
  auto const seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begin)
          .count();
  EXPECT_GE(arrived, 5);
  EXPECT_LE(arrived, 6 + seconds);
  auto const count = only(counters);
  EXPECT_EQ(count.packets, 50U);
  EXPECT_EQ(count.dropped, 50U - static_cast<unsigned>(arrived));
  EXPECT_EQ(send_datagrams(server, "udp://127.0.0.1:5300", 5, "udp://127.0.0.9:0"), 5)
      << "another source has its own";
  ASSERT_TRUE(counters.set_limit(std::nullopt));
  EXPECT_EQ(send_datagrams(server, "udp://127.0.0.1:5300", 50), 50);
}

TEST_F(XdpCountersTest, EarnTokensWithTime) {
  auto counters = attach("lo");
  ASSERT_TRUE(counters.watch(Transport::Udp, 5300, "dns"));
  auto const server = serve_on("udp://0.0.0.0:5300");
  ASSERT_TRUE(counters.set_limit(XdpLimit{.packets_per_second = 1000, .burst = 1}));
  EXPECT_TRUE(os::testing::wait_until([&] {
    return send_datagrams(server, "udp://127.0.0.1:5300", 1) == 1 &&
           only(counters).packets - only(counters).dropped >= 10;
  })) << "one each millisecond";
}

TEST_F(XdpCountersTest, RunInTheDriverOfAVethAndSeeWhatComesFromTheOtherSide) {
  auto const neighbour = testing::make_neighbour();
  auto counters = attach("here");
  EXPECT_EQ(counters.mode(), XdpMode::Native);
  ASSERT_TRUE(counters.watch(Transport::Tcp, 8080, "hello"));
  auto const server = serve_on("0.0.0.0:8080");
  {
    InNetwork const in(neighbour.get());
    EXPECT_TRUE(connect_to(address_of("10.77.0.1:8080")));
  }
  EXPECT_GE(only(counters).packets, 2U);
  EXPECT_TRUE(connect_to(address_of("127.0.0.1:8080")));
  EXPECT_LE(only(counters).packets, 5U) << "lo is another interface";
}

TEST_F(XdpCountersTest, RefuseAModeThatTheInterfaceDoesNotHave) {
  for (auto const mode : {XdpMode::Native, XdpMode::Offload}) {
    auto const refused = XdpCounters::attach("lo", mode);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::BpfUnavailable);
  }
  auto const refused = XdpCounters::attach("lo", XdpMode::Native);
  EXPECT_NE(refused.error().message().find("generic"), std::string::npos)
      << refused.error().message();
}

TEST_F(XdpCountersTest, NeverReplaceAProgramOfSomebodyElse) {
  auto theirs = attach("lo");
  ASSERT_TRUE(theirs.watch(Transport::Udp, 5300, "theirs"));
  auto const ours = XdpCounters::attach("lo");
  ASSERT_FALSE(ours);
  EXPECT_EQ(ours.error().code(), ErrorCode::Conflict);
  EXPECT_NE(ours.error().message().find("bpftool"), std::string::npos);
  auto const server = serve_on("udp://127.0.0.1:5300");
  send_datagrams(server, "udp://127.0.0.1:5300", 1);
  EXPECT_EQ(only(theirs).packets, 1U) << "it still works";
}

TEST_F(XdpCountersTest, SayThatThereIsNoSuchInterface) {
  auto const none = XdpCounters::attach("eth99");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::NotFound);
}

TEST_F(XdpCountersTest, KeepCountsOfAPortThatIsWatchedAgainAndForgetItsWhenUnwatched) {
  auto counters = attach("lo");
  auto const server = serve_on("udp://127.0.0.1:5300");
  ASSERT_TRUE(counters.watch(Transport::Udp, 5300, "one"));
  send_datagrams(server, "udp://127.0.0.1:5300", 3);
  ASSERT_TRUE(counters.watch(Transport::Udp, 5300, "two"));
  EXPECT_EQ(only(counters).packets, 3U);
  EXPECT_EQ(only(counters).name, "two");
  ASSERT_TRUE(counters.unwatch(Transport::Udp, 5300));
  EXPECT_TRUE(counters.read()->empty());
  ASSERT_TRUE(counters.watch(Transport::Udp, 5300, "three"));
  EXPECT_EQ(only(counters).packets, 0U);
}

TEST_F(XdpCountersTest, RefuseWhatMakesNoSense) {
  auto counters = attach("lo");
  EXPECT_FALSE(counters.watch(Transport::UnixStream, 1, "x"));
  EXPECT_FALSE(counters.watch(Transport::Tcp, 0, "x"));
  EXPECT_FALSE(counters.set_limit(XdpLimit{.packets_per_second = 0, .burst = 1}));
  EXPECT_FALSE(counters.set_limit(XdpLimit{.packets_per_second = 1, .burst = 0}));
  for (std::uint16_t port = 1; port <= 1024; ++port)
    ASSERT_TRUE(counters.watch(Transport::Tcp, port, "x"));
  auto const refused = counters.watch(Transport::Tcp, 1025, "x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::LimitReached);
}

TEST_F(XdpCountersTest, LeaveNothingBehindAtAnyStepNorAfterAKill) {
  auto const before = os::count_own_fds();
  auto const lo = static_cast<int>(if_nametoindex("lo"));
  for (auto const* point : {"steer.bpf-load:1", "steer.xdp-attach:1"}) {
    ASSERT_TRUE(fault::configure(fmt::format("{}:eio", point)));
    EXPECT_FALSE(XdpCounters::attach("lo", XdpMode::Generic)) << point;
    EXPECT_EQ(os::count_own_fds(), before) << point;
    EXPECT_EQ(xdp_program_on(lo), 0U) << point;
  }
  ASSERT_TRUE(fault::configure(""));
  {
    auto counters = attach("lo");
    ASSERT_TRUE(fault::configure("steer.xdp-watch:1:eio"));
    EXPECT_FALSE(counters.watch(Transport::Tcp, 80, "x"));
    EXPECT_TRUE(counters.read()->empty());
    EXPECT_NE(xdp_program_on(lo), 0U);
  }
  EXPECT_EQ(xdp_program_on(lo), 0U) << "detached with its object";
  os::testing::Pipe ready;
  pid_t const child = fork();
  if (child == 0) {
    auto const counters = XdpCounters::attach("lo");
    (void)!write(ready.write_end.get(), counters ? "1" : "0", 1);
    pause();
    _exit(0);
  }
  ASSERT_EQ(os::testing::read_byte(ready.read_end.get()), '1');
  EXPECT_NE(xdp_program_on(lo), 0U);
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(xdp_program_on(lo), 0U);
}

}  // namespace
}  // namespace aether::steer
