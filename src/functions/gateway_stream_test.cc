// SPDX-License-Identifier: Apache-2.0
// What lasts: streams, tunnels, large bodies, and the gateway's own end.
#include <atomic>
#include <chrono>
#include <latch>
#include <string>
#include <thread>

#include "functions/gateway_site_test.h"
#include "os/proc.h"

namespace aether::functions {
namespace {

using namespace fakes;
using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(GatewayStream, OfEventsIsPassedOnAtOnceAndOutlivesTheTimeout) {
  Site site({.timeout = 50ms});
  std::latch timeout_over(1);
  site.add(1, [&](Wire& wire) {
    wire.read_head();
    wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
    timeout_over.wait();
    wire.send("data: 2\n\n");
    wire.read_all();
  });
  Wire& client = site.client();
  client.send(get("/"));
  client.read_head();
  EXPECT_THAT(client.read_to("\n\n\r\n"), HasSubstr("data: 1"));
  site.pass(100ms);
  timeout_over.count_down();
  EXPECT_THAT(client.read_to("\n\n\r\n"), HasSubstr("data: 2"));
  EXPECT_EQ(site.gateway.counts("f").in_flight, 1U);
  client.close();
  site.eventually([&] { return site.gateway.counts("f").in_flight == 0; });
  EXPECT_TRUE(site.told.timed_out_instances.empty());
}

TEST(GatewayStream, OfAWebSocketIsATunnelBothWays) {
  Site site({.timeout = 50ms});
  site.add(1, [](Wire& wire) {
    std::string const head = wire.read_head();
    EXPECT_EQ(field_of(head, "Upgrade"), "websocket");
    EXPECT_EQ(field_of(head, "Connection"), "Upgrade");
    wire.send(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: x\r\n\r\nhi");
    wire.send("<" + wire.read_to("!") + ">");
    EXPECT_EQ(wire.read_all(), "bye");  // the client's half-close comes through
    wire.send("last");
  });
  Wire& client = site.client();
  client.send(get("/", "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"));
  std::string const head = client.read_head();
  EXPECT_THAT(head, StartsWith("HTTP/1.1 101 Switching Protocols\r\n"));
  EXPECT_EQ(field_of(head, "Upgrade"), "websocket");
  EXPECT_EQ(field_of(head, "Sec-WebSocket-Accept"), "x");
  EXPECT_EQ(client.read_exactly(2), "hi");
  site.pass(100ms);  // the timeout is for answers
  client.send("ping!");
  EXPECT_EQ(client.read_to(">"), "<ping!>");
  client.send("bye");
  client.shut_writes();
  EXPECT_EQ(client.read_all(), "last");
  site.eventually([&] { return site.gateway.counts("f").in_flight == 0; });
  EXPECT_EQ(site.gateway.counts("f").by_status[101], 1U);
}

TEST(GatewayStream, ThatNobodyAskedForIsNoAnswer) {
  Site site;
  site.add(1, answering("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"));
  EXPECT_EQ(status_of(site.ask(get("/"))), 502);
}

/// Sends `total` bytes, and says how many the other side has let in.
void pour(Wire& wire, std::size_t total, std::atomic<std::size_t>& poured) {
  std::string const block(1 << 20, 'x');
  while (poured < total && wire.send(block)) poured += block.size();
}

constexpr std::size_t kMebibyte = 1 << 20;
constexpr std::size_t kLarge = 100 * kMebibyte;
/// What the kernel may hold in the sockets between the two ends, generously.
constexpr std::size_t kKernelHolds = 40 * kMebibyte;

TEST(GatewayStream, OfAHundredMegabytesUpIsHeldBackByASlowHandlerAndTakesNoMemory) {
  Site site;
  std::latch read_on(1);
  site.add(1, [&](Wire& wire) {
    wire.read_head();
    read_on.wait();
    std::size_t came = 0;
    while (came < kLarge) came += wire.read_exactly(kMebibyte).size();
    wire.send(kHello);
  });
  std::uint64_t const before = os::read_rss_bytes(::getpid());
  Wire& client = site.client();
  client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(kLarge) +
              "\r\n\r\n");
  std::atomic<std::size_t> poured = 0;
  std::thread sender([&] { pour(client, kLarge, poured); });
  std::size_t seen = 1;
  site.eventually([&] {  // it stands still
    bool const still = poured > 0 && seen == poured;
    seen = poured;
    site.pass(100ms);
    return still;
  });
  EXPECT_LT(poured, kKernelHolds);
  EXPECT_LT(os::read_rss_bytes(::getpid()), before + 20 * kMebibyte);
  read_on.count_down();
  sender.join();
  EXPECT_EQ(body_of(client.read_message()), "hello");
}

TEST(GatewayStream, OfAHundredMegabytesDownIsHeldBackByASlowClient) {
  Site site;
  std::atomic<std::size_t> poured = 0;
  site.add(1, [&](Wire& wire) {
    wire.read_head();
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kLarge) + "\r\n\r\n");
    pour(wire, kLarge, poured);
    wire.read_all();
  });
  Wire& client = site.client();
  client.send(get("/"));
  std::size_t seen = 1;
  site.eventually([&] {
    bool const still = poured > 0 && seen == poured;
    seen = poured;
    site.pass(100ms);
    return still;
  });
  EXPECT_LT(poured, kKernelHolds);
  client.read_head();
  std::size_t came = 0;
  while (came < kLarge) came += client.read_exactly(kMebibyte).size();
  EXPECT_EQ(came, kLarge);
}

TEST(GatewayStream, OfABodyIsLeftWhenTheHandlerAnswersEarly) {
  Site site;
  site.add(1, [](Wire& wire) {
    wire.read_head();
    wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno\n");
    wire.shut_writes();
    wire.read_all();
  });
  Wire& client = site.client();
  client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
  std::string const answer = client.read_message();
  EXPECT_EQ(status_of(answer), 413);
  EXPECT_EQ(field_of(answer, "Connection"), "close");
  EXPECT_EQ(client.read_all(), "");
}

TEST(GatewayClose, LetsRequestsEndAndTakesNoNewConnections) {
  Site site;
  std::atomic<int> asked = 0;
  std::latch release(1);
  site.add(1, [&](Wire& wire) {
    while (!wire.read_head().empty()) {
      ++asked;
      release.wait();
      wire.send(kHello);
    }
  });
  Wire& idle = site.client();
  Wire& busy = site.client();
  busy.send(get("/"));
  site.eventually([&] { return asked == 1; });
  std::uint16_t const port = site.gateway.port("f");
  std::thread answerer([&] {
    EXPECT_EQ(idle.read_all(), "");  // the gate is closed
    release.count_down();
  });
  site.loop.run_task(site.gateway.close("f", 30s));
  answerer.join();
  std::string const answer = busy.read_all();
  EXPECT_EQ(body_of(answer), "hello");
  EXPECT_EQ(field_of(answer, "Connection"), "close");
  os::UniqueFd const fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in const to = local_address(port);
  EXPECT_NE(::connect(fd.get(), reinterpret_cast<sockaddr const*>(&to), sizeof(to)), 0);
  EXPECT_TRUE(site.gateway.open({.function = "f", .trigger_port = port}));  // and again
}

TEST(GatewayClose, CutsOffAtTheDeadlineWhoHasNotEnded) {
  Site site;
  site.add(1, [](Wire& wire) {
    wire.read_head();
    wire.send("HTTP/1.1 200 OK\r\n\r\nfor ever");
    wire.read_all();
  });
  Wire& client = site.client();
  client.send(get("/"));
  client.read_to("for ever");
  site.loop.run_task(site.gateway.close("f", 10ms));
  EXPECT_EQ(site.gateway.counts("f").in_flight, 0U);
  client.read_all();
}

TEST(GatewayClose, AnswersWhatCameBeforeIt) {
  Site site;
  site.add(1, answering(kHello));
  Wire& client = site.client();
  client.send(get("/"));
  site.loop.run_task(site.gateway.close("f", 30s));
  EXPECT_EQ(body_of(client.read_all()), "hello");
}

TEST(GatewayRoute, ChangesForTheNextRequests) {
  Site site({.max_inflight = 1});
  Wire& waiting = site.client();
  waiting.send(get("/"));
  site.eventually([&] { return site.gateway.counts("f").queued == 1; });
  EXPECT_EQ(status_of(site.ask(get("/"))), 429);
  site.gateway.change({.function = "f", .max_inflight = 2});
  Wire& second = site.client();
  second.send(get("/"));
  site.eventually([&] { return site.gateway.counts("f").queued == 2; });
}

TEST(GatewayRoute, ServesManyClientsAtOnceWithoutAFault) {
  Site site({.concurrency = 4});
  for (std::uint64_t i = 1; i <= 3; ++i) site.add(i, answering(kHello));
  std::atomic<int> good = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    Wire& client = site.client();
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) {
        client.send(get("/"));
        if (body_of(client.read_message()) == "hello") ++good;
      }
    });
  }
  site.eventually([&] {  // the control plane looks on meanwhile
    return site.gateway.counts("f").requests == 1600;
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 1600);
}

}  // namespace
}  // namespace aether::functions
