// SPDX-License-Identifier: Apache-2.0
// A server with as many clients as it may have, and clients that leave before their answer.
#include <memory>
#include <string>
#include <vector>

#include "async/testing.h"
#include "http/server.h"
#include "http/test_server.h"

namespace aether::http {
namespace {

using namespace testing;
using std::chrono::milliseconds;

// Edge: H2
CORO_TEST(CrowdedServer, EndsTheClientThatHasKeptItWaitingLongest) {
  TestServer site(loop, {.connections = 3});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(loop, site.server.port()));
    co_await clients.back()->send(get("/hello"));
    std::string const answer = co_await clients.back()->read_to("hello");
    EXPECT_EQ(status_of(answer), 200);
  }
  Response const alive = co_await fetch(site.endpoint(), {.target = "/hello"}, kPatience);
  EXPECT_EQ(alive.status, 200);
  std::string const ended = co_await clients.front()->read_all();
  EXPECT_EQ(ended, "");
  co_await clients.back()->send(get("/hello"));
  std::string const answer = co_await clients.back()->read_to("hello");
  EXPECT_EQ(status_of(answer), 200) << "those that came later stay";
  EXPECT_EQ(site.server.turned_away(), 0U);
  co_await site.stop();
}

// Edge: H1
CORO_TEST(CrowdedServer, EndsElseTheGetThatHasWaitedLongestForItsAnswer) {
  TestServer site(loop, {.connections = 2});
  RawClient first(loop, site.server.port());
  co_await first.send(get("/slow"));
  while (site.site.slow_waiting < 1) co_await async::yield();
  RawClient second(loop, site.server.port());
  co_await second.send(get("/slow"));
  while (site.site.slow_waiting < 2) co_await async::yield();
  Response const alive = co_await fetch(site.endpoint(), {.target = "/hello"}, kPatience);
  EXPECT_EQ(alive.status, 200);
  std::string const ended = co_await first.read_all();
  EXPECT_EQ(ended, "");
  site.site.release.set();
  std::string const answer = co_await second.read_to("slow");
  EXPECT_EQ(status_of(answer), 200);
  co_await site.stop();
}

CORO_TEST(CrowdedServer, TurnsAwayOnlyWhenAllOthersChangeSomething) {
  TestServer site(loop, {.connections = 3});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(loop, site.server.port()));
    co_await clients.back()->send("POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  }
  while (site.site.slow_waiting < 3) co_await async::yield();
  RawClient fourth(loop, site.server.port());
  std::string const refused = co_await fourth.read_all();
  EXPECT_EQ(status_of(refused), 503);
  EXPECT_EQ(site.server.turned_away(), 1U);
  site.site.release.set();
  for (auto const& client : clients) {
    std::string const answer = co_await client->read_to("slow");
    EXPECT_EQ(status_of(answer), 200);
  }
  co_await site.stop();
}

CORO_TEST(CrowdedServer, KeepsHalfOfItsPlacesFreeOfEndlessStreams) {
  TestServer site(loop, {.connections = 4});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(loop, site.server.port()));
    co_await clients.back()->send(get("/feed"));
    std::string const begin = co_await clients.back()->read_to("\r\n\r\n");
    EXPECT_EQ(status_of(begin), i < 2 ? 200 : 503);
  }
  co_await site.stop();
}

// Edge: H1
CORO_TEST(CrowdedServer, HoldsNothingForAClientThatHungUpBeforeItsAnswer) {
  ErrorLog log;
  TestServer site(loop);
  auto client = std::make_unique<RawClient>(loop, site.server.port());
  co_await client->send(get("/slow"));
  while (site.site.slow_waiting == 0) co_await async::yield();
  client->reset_when_closed();
  client.reset();
  while (site.server.connections() > 0) co_await async::sleep_for(milliseconds(1));
  EXPECT_TRUE(log.lines.empty()) << log.lines.front();
  co_await site.stop();
}

CORO_TEST(CrowdedServer, StillAnswersAClientThatEndedItsSendingSideOnly) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send(get("/slow"));
  client.shut_writes();
  while (site.site.slow_waiting == 0) co_await async::yield();
  for (int i = 0; i < 10; ++i) co_await async::yield();
  site.site.release.set();
  std::string const answer = co_await client.read_all();
  EXPECT_EQ(status_of(answer), 200);
  co_await site.stop();
}

}  // namespace
}  // namespace aether::http
