// SPDX-License-Identifier: Apache-2.0
#include "steer/lookup_router.h"

#include <arpa/inet.h>

#include <cmath>
#include <set>
#include <thread>

#include "steer/bpf_testing.h"

namespace aether::steer {
namespace {

using testing::accept_now;
using testing::address_of;
using testing::connect_to;
using testing::lands_in;
using testing::read_all;
using testing::serve_on;
using testing::waits_for;
using testing::with_host;

class LookupRouterTest : public testing::BpfTest {};

/// A connection from an address and port of this machine's choice.
os::UniqueFd connect_from(std::string const& source, Address const& to) {
  os::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in from{};
  from.sin_family = AF_INET;
  inet_pton(AF_INET, source.c_str(), &from.sin_addr);
  auto const native = to_connect_address(to);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&from), sizeof(from)) != 0 ||
      connect(fd.get(), native->get(), native->length) != 0)
    fd.reset();
  return fd;
}

std::size_t count_of(Route const& route, std::uint64_t tag) {
  for (auto const& count : route.counts())
    if (count.tag == tag) return count.given;
  return 0;
}

TEST_F(LookupRouterTest, GivesConnectionsToASocketOnAnotherPortWhichSeesTheDocumentedOne) {
  auto route = claim("127.0.0.1:8080");
  auto const hidden = serve_on("127.0.0.1:0");
  ASSERT_TRUE(route.direct(std::array{Share{.fd = hidden.get(), .tag = 7}}));
  auto const client = connect_to(route.bound());
  ASSERT_TRUE(client);
  auto const accepted = accept_now(hidden.get());
  ASSERT_TRUE(accepted);
  EXPECT_EQ(local_address(accepted.get())->text(), "127.0.0.1:8080");
  EXPECT_EQ(count_of(route, 7), 1U);
  EXPECT_EQ(route.waited(), 0U);
}

TEST_F(LookupRouterTest, LetsConnectionsWaitInTheWaitingListenerWhileNobodyServes) {
  auto route = claim("127.0.0.1:8080");
  auto const client = connect_to(route.bound());
  ASSERT_TRUE(client) << "nothing is refused";
  EXPECT_EQ(route.waited(), 1U);
  EXPECT_TRUE(accept_now(route.waiting_fd()));
}

TEST_F(LookupRouterTest, MovesNewConnectionsAtOnceAndLeavesThoseThatAreOpen) {
  auto route = claim("127.0.0.1:8080");
  auto const first = serve_on("127.0.0.1:0");
  auto const second = serve_on("127.0.0.1:0");
  ASSERT_TRUE(route.direct(std::array{Share{.fd = first.get(), .tag = 1}}));
  auto const client = connect_to(route.bound());
  auto const accepted = accept_now(first.get());
  ASSERT_TRUE(accepted);
  ASSERT_TRUE(route.direct(std::array{Share{.fd = second.get(), .tag = 2}}));
  EXPECT_EQ(lands_in(route.bound(), {first.get(), second.get()}), 1U);
  send(accepted.get(), "still here\n", 11, 0);
  EXPECT_EQ(testing::read_line(client.get()), "still here\n");
  ASSERT_TRUE(route.direct(std::array{Share{.fd = first.get(), .tag = 1}}));
  EXPECT_EQ(lands_in(route.bound(), {first.get(), second.get()}), 0U) << "and back";
  EXPECT_EQ(count_of(route, 1), 2U) << "counts of a tag outlive its share";
  EXPECT_EQ(count_of(route, 2), 1U);
}

TEST_F(LookupRouterTest, PassesOverClosedSocketsToThoseThatStandByAndThenToTheWaitingListener) {
  auto route = claim("127.0.0.1:8080");
  auto serving = serve_on("127.0.0.1:0");
  auto other = serve_on("127.0.0.1:0");
  auto standing_by = serve_on("127.0.0.1:0");
  ASSERT_TRUE(route.direct(std::array{Share{.fd = standing_by.get(), .weight = 0, .tag = 3},
                                      Share{.fd = serving.get(), .weight = 1000, .tag = 1},
                                      Share{.fd = other.get(), .weight = 1, .tag = 2}}));
  EXPECT_TRUE(route.whole());
  serving.reset();
  EXPECT_FALSE(route.whole());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(lands_in(route.bound(), {other.get()}), 0U);
  ASSERT_EQ(shutdown(other.get(), SHUT_RDWR), 0) << "no listener any more, though it is open";
  EXPECT_EQ(lands_in(route.bound(), {standing_by.get()}), 0U);
  standing_by.reset();
  EXPECT_EQ(lands_in(route.bound(), {route.waiting_fd()}), 0U);
  EXPECT_EQ(route.waited(), 1U);
}

TEST_F(LookupRouterTest, TakesASocketBackThatListensAgain) {
  auto route = claim("127.0.0.1:8080");
  auto const server = serve_on("127.0.0.1:9000");
  std::array const shares{Share{.fd = server.get()}};
  ASSERT_TRUE(route.direct(shares));
  ASSERT_EQ(shutdown(server.get(), SHUT_RDWR), 0);
  EXPECT_EQ(lands_in(route.bound(), {route.waiting_fd()}), 0U) << "nobody is refused";
  ASSERT_EQ(listen(server.get(), 10), 0);
  ASSERT_TRUE(route.direct(shares));
  EXPECT_TRUE(route.whole());
  EXPECT_EQ(lands_in(route.bound(), {server.get()}), 0U);
}

TEST_F(LookupRouterTest, SplitsConnectionsByWeightWithinBinomialBounds) {
  auto route = claim("127.0.0.1:8080");
  auto const small = serve_on("127.0.0.1:0");
  auto const large = serve_on("127.0.0.1:0");
  ASSERT_TRUE(route.direct(std::array{Share{.fd = small.get(), .weight = 10, .tag = 1},
                                      Share{.fd = large.get(), .weight = 90, .tag = 2}}));
  constexpr int kConnections = 4000;
  for (int i = 0; i < kConnections; ++i) {
    auto const landed = lands_in(route.bound(), {small.get(), large.get()});
    ASSERT_TRUE(landed.has_value());
  }
  auto const given = static_cast<double>(count_of(route, 1));
  double const sigma = std::sqrt(kConnections * 0.1 * 0.9);
  EXPECT_NEAR(given, kConnections * 0.1, 6 * sigma);
  EXPECT_EQ(count_of(route, 1) + count_of(route, 2), std::size_t{kConnections});
}

TEST_F(LookupRouterTest, KeepsASourceWithItsShareAndMovesSourcesOnlyToTheShareThatGrows) {
  auto route = claim("0.0.0.0:8080");
  auto const fresh = serve_on("0.0.0.0:0");
  auto const proven = serve_on("0.0.0.0:0");
  auto const where = [&](int source) -> std::size_t {
    auto const client = connect_from(fmt::format("127.0.1.{}", source), route.bound());
    EXPECT_TRUE(client);
    if (accept_now(fresh.get())) return 0;
    return accept_now(proven.get()) ? 1 : 2;
  };
  std::vector<std::size_t> before(200, 1);
  for (std::uint32_t const percent : {10U, 50U, 100U}) {
    ASSERT_TRUE(
        route.direct(std::array{Share{.fd = fresh.get(), .weight = percent, .tag = 2},
                                Share{.fd = proven.get(), .weight = 100 - percent, .tag = 1}},
                     Stick::Source));
    for (std::size_t i = 0; i < before.size(); ++i) {
      auto const now = where(static_cast<int>(i) + 1);
      EXPECT_EQ(where(static_cast<int>(i) + 1), now) << "again the same";
      EXPECT_LE(now, before[i]) << "nobody goes back";
      before[i] = now;
    }
    auto const moved = static_cast<double>(std::ranges::count(before, std::size_t{0}));
    EXPECT_NEAR(moved, 2.0 * percent, 45.0);
  }
  EXPECT_EQ(std::ranges::count(before, std::size_t{0}), 200);
}

TEST_F(LookupRouterTest, GivesASynCookieBackToTheSocketThatSentIt) {
  std::ofstream("/proc/sys/net/ipv4/tcp_syncookies") << "2" << std::flush;
  auto route = claim("127.0.0.1:8080");
  auto const first = serve_on("127.0.0.1:0");
  auto const second = serve_on("127.0.0.1:0");
  ASSERT_TRUE(route.direct(
      std::array{Share{.fd = first.get(), .tag = 1}, Share{.fd = second.get(), .tag = 2}}));
  std::vector<int> landed(2);
  for (int i = 0; i < 200; ++i) {
    auto const client = connect_to(route.bound());
    ASSERT_TRUE(client);
    bool const in_first = static_cast<bool>(accept_now(first.get()));
    ASSERT_TRUE(in_first || accept_now(second.get()));
    ++landed[in_first ? 0 : 1];
  }
  EXPECT_GT(landed[0], 40);
  EXPECT_GT(landed[1], 40);
}

TEST_F(LookupRouterTest, ServesBothFamiliesAndRefusesTheOneThatNoSocketTakes) {
  auto route = claim(":8080");
  Address const v4 = with_host(route.bound(), "127.0.0.1");
  Address const v6 = with_host(route.bound(), "::1");
  EXPECT_TRUE(connect_to(v4)) << "waits";
  EXPECT_TRUE(connect_to(v6)) << "waits";
  auto const both = serve_on("[::]:0");
  ASSERT_TRUE(route.direct(std::array{Share{.fd = both.get()}}));
  EXPECT_EQ(lands_in(v4, {both.get()}), 0U);
  EXPECT_EQ(lands_in(v6, {both.get()}), 0U);
  auto const only4 = serve_on("0.0.0.0:0");
  ASSERT_TRUE(route.direct(std::array{Share{.fd = only4.get()}}));
  EXPECT_EQ(lands_in(v4, {only4.get()}), 0U);
  EXPECT_FALSE(connect_to(v6)) << "a client of localhost must go on to IPv4, and not wait";
  auto const only6 = serve_on("[::]:0", true);
  ASSERT_TRUE(route.direct(
      std::array{Share{.fd = only4.get(), .weight = 1}, Share{.fd = only6.get(), .weight = 1}}));
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(lands_in(v4, {only4.get(), only6.get()}), 0U);
    EXPECT_EQ(lands_in(v6, {only4.get(), only6.get()}), 1U);
  }
}

TEST_F(LookupRouterTest, KeepsSpecificAddressesOnOnePortApart) {
  auto first = claim("127.0.0.1:8080");
  auto second = claim("127.0.0.2:8080");
  auto sixth = claim("[::1]:8080");
  auto const a = serve_on("127.0.0.1:0");
  auto const b = serve_on("127.0.0.1:0");
  auto const c = serve_on("[::]:0");
  ASSERT_TRUE(first.direct(std::array{Share{.fd = a.get()}}));
  ASSERT_TRUE(second.direct(std::array{Share{.fd = b.get()}}));
  ASSERT_TRUE(sixth.direct(std::array{Share{.fd = c.get()}}));
  std::vector<int> const all{a.get(), b.get(), c.get()};
  EXPECT_EQ(lands_in(first.bound(), all), 0U);
  EXPECT_EQ(lands_in(second.bound(), all), 1U);
  EXPECT_EQ(lands_in(sixth.bound(), all), 2U);
  EXPECT_FALSE(connect_to(address_of("127.0.0.3:8080"))) << "not claimed";
}

TEST_F(LookupRouterTest, AnswersDatagramsFromTheSocketThatTheShareNames) {
  auto route = claim("udp://127.0.0.1:5300");
  auto const other = [&] {
    os::UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    int const on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    auto const native = to_socket_address(route.bound());
    EXPECT_EQ(bind(fd.get(), native->get(), native->length), 0);
    return fd;
  };
  auto const first = other();
  auto const second = other();
  auto const client = connect_to(route.bound());
  for (auto const* serving : {&first, &second, &first}) {
    ASSERT_TRUE(route.direct(std::array{Share{.fd = serving->get(), .tag = 1}}));
    ASSERT_EQ(send(client.get(), "question", 8, 0), 8);
    ASSERT_TRUE(waits_for(serving->get(), POLLIN));
    char text[16];
    sockaddr_storage peer{};
    socklen_t length = sizeof(peer);
    ASSERT_EQ(recvfrom(serving->get(), text, sizeof(text), 0, reinterpret_cast<sockaddr*>(&peer),
                       &length),
              8);
    sendto(serving->get(), "answer", 6, 0, reinterpret_cast<sockaddr*>(&peer), length);
    EXPECT_EQ(recv(client.get(), text, sizeof(text), 0), 6) << "from the documented port";
  }
  ASSERT_TRUE(route.direct({}));
  ASSERT_EQ(send(client.get(), "question", 8, 0), 8);
  EXPECT_TRUE(waits_for(route.waiting_fd(), POLLIN));
  EXPECT_EQ(route.waited(), 1U);
}

TEST_F(LookupRouterTest, NamesWhoHoldsTheAddress) {
  auto const holder = serve_on("127.0.0.1:8080");
  for (auto const* text : {"127.0.0.1:8080", "0.0.0.0:8080", ":8080"}) {
    auto const route = router_->claim({.name = "web", .address = address_of(text)});
    ASSERT_FALSE(route) << text;
    EXPECT_EQ(route.error().code(), ErrorCode::AddressInUse);
    EXPECT_NE(route.error().message().find(fmt::format("pid {}", getpid())), std::string::npos)
        << route.error().message();
  }
  auto const udp = serve_on("udp://127.0.0.1:5300");
  EXPECT_EQ(
      router_->claim({.name = "dns", .address = address_of("udp://0.0.0.0:5300")}).error().code(),
      ErrorCode::AddressInUse);
}

TEST_F(LookupRouterTest, IsTheOnlyOneToHaveAClaimedAddressUntilItsEnd) {
  std::optional<Route> route = claim("127.0.0.1:8080");
  auto const again = router_->claim({.name = "b", .address = address_of("127.0.0.1:8080")});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::AddressInUse);
  route.reset();
  EXPECT_FALSE(connect_to(address_of("127.0.0.1:8080"))) << "nobody is there";
  EXPECT_TRUE(router_->claim({.name = "b", .address = address_of("127.0.0.1:8080")}));
}

TEST_F(LookupRouterTest, LeavesPortsThatItDoesNotHaveAndProgramsOfOthersAlone) {
  auto const stranger = serve_on("127.0.0.1:9090");
  auto other = LookupRouter::open();
  ASSERT_TRUE(other);
  EXPECT_EQ(router_->foreign_programs(), 1U);
  EXPECT_EQ(other->foreign_programs(), 1U);
  auto ours = claim("127.0.0.1:8080");
  auto theirs = other->claim({.name = "b", .address = address_of("127.0.0.1:8081")});
  ASSERT_TRUE(theirs);
  auto const a = serve_on("127.0.0.1:0");
  auto const b = serve_on("127.0.0.1:0");
  ASSERT_TRUE(ours.direct(std::array{Share{.fd = a.get()}}));
  ASSERT_TRUE(theirs->direct(std::array{Share{.fd = b.get()}}));
  std::vector<int> const all{a.get(), b.get(), stranger.get()};
  EXPECT_EQ(lands_in(ours.bound(), all), 0U);
  EXPECT_EQ(lands_in(theirs->bound(), all), 1U);
  EXPECT_EQ(lands_in(address_of("127.0.0.1:9090"), all), 2U);
}

}  // namespace
}  // namespace aether::steer
