// SPDX-License-Identifier: Apache-2.0
// Room, and the lack of it: what the owner is told, and what clients are answered meanwhile.
#include <atomic>
#include <chrono>
#include <latch>
#include <string>
#include <vector>

#include "functions/gateway_site_test.h"

namespace aether::functions {
namespace {

using namespace fakes;
using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A handler that answers when the test lets it.
struct Slow {
  std::atomic<int> asked = 0;
  std::latch release{1};
  FakeHandler::Talk talk() {
    return [this](Wire& wire) {
      while (!wire.read_head().empty()) {
        ++asked;
        release.wait();
        wire.send(kHello);
      }
    };
  }
};

TEST(GatewayDemand, OfARequestThatMustWaitIsTold) {
  Site site;
  Wire& client = site.client();
  client.send(get("/"));
  site.eventually([&] { return site.told.last_waiting == 1; });
  EXPECT_EQ(site.gateway.counts("f").queued, 1U);
  Wire& other = site.client();
  other.send(get("/"));
  site.eventually([&] { return site.told.last_waiting == 2; });
  site.add(1, answering(kHello), StartTier::Cold);
  std::string const answer = client.read_message();
  EXPECT_EQ(field_of(answer, "X-Aether-Start"), "cold");
  EXPECT_THAT(field_of(answer, "Server-Timing"), HasSubstr("start;dur="));
  EXPECT_EQ(body_of(other.read_message()), "hello");
  // The other one found it running.
  auto const& starts = site.gateway.counts("f").starts;
  EXPECT_EQ(starts.at(static_cast<std::size_t>(StartTier::Cold)).count(), 1U);
  EXPECT_EQ(starts.at(static_cast<std::size_t>(StartTier::Warm)).count(), 0U);
}

TEST(GatewayDemand, ThatIsMetOrGivenUpIsToldToo) {
  Site site;
  Wire& client = site.client();
  client.send(get("/"));
  site.eventually([&] { return site.told.last_waiting == 1; });
  site.add(1, answering(kHello));
  EXPECT_EQ(body_of(client.read_message()), "hello");
  site.eventually([&] { return site.told.last_waiting == 0; });
  Site other;
  Wire& leaving = other.client();
  leaving.send(get("/"));
  other.eventually([&] { return other.told.last_waiting == 1; });
  leaving.close();
  other.eventually([&] { return other.told.last_waiting == 0; });
}

TEST(GatewayDemand, IsMetInTheOrderOfComing) {
  Site site;
  std::vector<Wire*> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(&site.client());
    clients.back()->send(get("/" + std::to_string(i)));
    site.eventually([&] { return site.gateway.counts("f").queued == unsigned(i) + 1; });
  }
  std::mutex mutex;
  std::string order;
  site.add(1, [&](Wire& wire) {
    for (std::string head = wire.read_head(); !head.empty(); head = wire.read_head()) {
      {
        std::scoped_lock const lock(mutex);
        order += head[5];
      }
      wire.send(kHello);
    }
  });
  for (Wire* client : clients) EXPECT_EQ(body_of(client->read_message()), "hello");
  EXPECT_EQ(order, "01234567");
}

TEST(GatewayDemand, OfAnInstanceIsToldBeforeItHasItsFirstRequest) {
  Site site;
  for (std::uint64_t instance = 1; instance <= 20; ++instance) {
    std::latch asked(1);
    site.add(instance, [&](Wire& wire) {
      wire.read_head();
      asked.count_down();
    });
    Wire& client = site.client();
    client.send(get("/"));
    asked.wait();
    // What its owner hears next could be that it has ended.
    site.pass(0ms);
    EXPECT_TRUE(site.told.in_flight_of.contains({instance})) << instance;
    site.gateway.remove("f", {instance}, {.kind = BackendEnd::Kind::Died, .message = "it ended"});
    EXPECT_EQ(status_of(client.read_message()), 502);
  }
}

TEST(GatewayDemand, IsSpreadSoThatNoInstanceHasMoreThanItsConcurrency) {
  Slow first;
  Slow second;
  Site site({.concurrency = 2});
  site.add(1, first.talk());
  site.add(2, second.talk());
  std::vector<Wire*> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(&site.client());
    clients.back()->send(get("/"));
  }
  site.eventually([&] { return first.asked == 2 && second.asked == 2; });
  site.eventually([&] { return site.told.last_waiting == 1; });
  EXPECT_EQ(site.gateway.counts("f").in_flight, 4U);
  site.eventually([&] { return site.told.in_flight_of[{2}] == 2; });
  first.release.count_down();
  second.release.count_down();
  for (Wire* client : clients) EXPECT_EQ(body_of(client->read_message()), "hello");
  site.eventually(
      [&] { return site.told.in_flight_of[{1}] == 0 && site.told.in_flight_of[{2}] == 0; });
}

TEST(GatewayDemand, OverMaxInflightIsRefusedWithFourHundredTwentyNine) {
  Site site({.max_inflight = 2});
  Wire& first = site.client();
  Wire& second = site.client();
  first.send(get("/"));
  second.send(get("/"));
  site.eventually([&] { return site.gateway.counts("f").queued == 2; });
  std::string const answer = site.ask(get("/", "X-Call-Id: c1\r\n"));
  EXPECT_EQ(status_of(answer), 429);
  EXPECT_EQ(field_of(answer, "Retry-After"), "1");
  EXPECT_EQ(field_of(answer, "Content-Type"), "application/json");
  EXPECT_THAT(body_of(answer), HasSubstr(R"("code":"too_many")"));
  EXPECT_THAT(body_of(answer), HasSubstr(R"("function":"f","call_id":"c1"})"));
  EXPECT_EQ(status_of(site.ask(get("/_/ready"))), 429);
  EXPECT_EQ(status_of(site.ask(get("/_/health"))), 200);
  EXPECT_EQ(site.gateway.counts("f").refusals.at("too_many"), 1U);
}

TEST(GatewayDemand, ThatNobodyCanMeetIsAnsweredFiveHundredThreeWithTheReason) {
  Site site;
  Wire& client = site.client();
  client.send(get("/"));
  site.eventually([&] { return site.told.last_waiting == 1; });
  site.gateway.fail_waiting("f", "the handler \"x.py\" exited with 1");
  std::string const answer = client.read_message();
  EXPECT_EQ(status_of(answer), 503);
  EXPECT_THAT(body_of(answer), HasSubstr(R"(the handler \"x.py\" exited with 1)"));
  client.send(get("/"));  // the connection lives on
  site.eventually([&] { return site.told.wanted_times >= 2; });
}

TEST(GatewayDemand, ThatWaitsTooLongIsAnsweredFiveHundredThree) {
  Site site({.queue_timeout = 20ms});
  std::string const answer = site.ask(get("/"));
  EXPECT_EQ(status_of(answer), 503);
  EXPECT_THAT(body_of(answer), HasSubstr("queue_timeout"));
  EXPECT_EQ(site.gateway.counts("f").queued, 0U);
}

TEST(GatewayDemand, AnswersFiveHundredFourWhenTheHandlerTakesTooLongAndTellsWho) {
  Slow slow;
  Site site({.timeout = 50ms});
  site.add(7, slow.talk());
  std::string const answer = site.ask(get("/"));
  EXPECT_EQ(status_of(answer), 504);
  EXPECT_THAT(body_of(answer), HasSubstr(R"("code":"timeout")"));
  EXPECT_THAT(body_of(answer), HasSubstr("50ms"));
  site.eventually([&] { return !site.told.timed_out_instances.empty(); });
  EXPECT_THAT(site.told.timed_out_instances, ElementsAre(InstanceId{7}));
  EXPECT_EQ(site.gateway.counts("f").in_flight, 0U);
  slow.release.count_down();
}

TEST(GatewayDemand, IsKeptFromAnInstanceThatTookTooLong) {
  Slow slow;
  Site site({.timeout = 50ms, .queue_timeout = 60s});
  site.add(7, slow.talk());
  EXPECT_EQ(status_of(site.ask(get("/"))), 504);
  // The owner has not removed it yet.
  Wire& client = site.client();
  client.send(get("/"));
  site.eventually([&] { return site.told.last_waiting == 1; });
  EXPECT_EQ(slow.asked, 1);
  site.gateway.remove("f", {7}, {.kind = BackendEnd::Kind::Died, .message = "it hung"});
  site.add(8, answering(kHello));
  EXPECT_EQ(body_of(client.read_message()), "hello");
  slow.release.count_down();
}

TEST(GatewayDemand, AnswersFiveHundredTwoWithTheLimitWhenTheHandlerRanOutOfMemory) {
  Site site;
  site.add(1, [](Wire& wire) { wire.read_head(); });  // and closes without a word
  Wire& client = site.client();
  client.send(get("/"));
  site.eventually([&] { return site.told.in_flight_of[{1}] == 1; });
  site.gateway.remove(
      "f", {1},
      {.kind = BackendEnd::Kind::OutOfMemory, .message = "memory limit of 64 MB exceeded"});
  std::string const answer = client.read_message();
  EXPECT_EQ(status_of(answer), 502);
  EXPECT_THAT(body_of(answer), HasSubstr("out_of_memory"));
  EXPECT_THAT(body_of(answer), HasSubstr("memory limit of 64 MB exceeded"));
}

TEST(GatewayDemand, AnswersFiveHundredTwoAtOnceWhenTheInstanceIsSaidToHaveDied) {
  Slow slow;
  Site site;
  site.add(1, slow.talk());
  Wire& client = site.client();
  client.send(get("/"));
  site.eventually([&] { return slow.asked == 1; });
  site.gateway.remove("f", {1}, {.kind = BackendEnd::Kind::Died, .message = "signal 11 (SEGV)"});
  std::string const answer = client.read_message();
  EXPECT_EQ(status_of(answer), 502);
  EXPECT_THAT(body_of(answer), HasSubstr("signal 11 (SEGV)"));
  slow.release.count_down();
}

TEST(GatewayDemand, AnswersFiveHundredTwoWhenNobodyKnowsWhyThereIsNoAnswer) {
  Site site({}, {.cause_timeout = 10ms});
  site.add(1, [](Wire& wire) { wire.read_head(); });
  EXPECT_EQ(status_of(site.ask(get("/"))), 502);
  Site liar;
  liar.add(1, answering("220 smtp ready\r\n\r\n"));
  std::string const answer = liar.ask(get("/"));
  EXPECT_EQ(status_of(answer), 502);
  EXPECT_THAT(body_of(answer), HasSubstr("not HTTP"));
}

TEST(GatewayDemand, GoesToAnotherInstanceWhenOneCannotBeReached) {
  Site site;
  FakeHandler& dead = site.add(1, answering(kHello));
  dead.die();
  Wire& client = site.client();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab");
  site.eventually([&] { return !site.told.unreachable_instances.empty(); });
  EXPECT_THAT(site.told.unreachable_instances, ElementsAre(InstanceId{1}));
  EXPECT_THAT(site.told.last_why, HasSubstr("refused"));
  site.eventually([&] { return site.told.last_waiting == 1; });
  site.add(2, [](Wire& wire) {
    wire.read_head();
    EXPECT_EQ(wire.read_exactly(2), "ab");
    wire.send(kHello);
  });
  EXPECT_EQ(body_of(client.read_message()), "hello");
}

/// Keeps the connection for one answer, and closes it at the next request without a word.
FakeHandler::Talk closing_at_the_second() {
  return [](Wire& wire) {
    wire.read_head();
    wire.send(kHello);
    wire.read_head();
  };
}

TEST(GatewayDemand, IsTriedAgainWhenAKeptConnectionWasClosedBeforeAnAnswer) {
  Site site;
  FakeHandler& handler = site.add(1, closing_at_the_second());
  for (int i = 0; i < 4; ++i) EXPECT_EQ(body_of(site.ask(get("/"))), "hello");
  EXPECT_EQ(handler.connections(), 4);
}

TEST(GatewayDemand, IsNotTriedAgainWhenItCouldHaveBeenCarriedOut) {
  Site site({}, {.cause_timeout = 10ms});
  site.add(1, closing_at_the_second());
  std::string const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
  EXPECT_EQ(status_of(site.ask(post)), 200);
  EXPECT_EQ(status_of(site.ask(post)), 502);
}

TEST(GatewayDemand, OfAClientThatLeavesIsForgotten) {
  Slow slow;
  Site site;
  Wire& waiting = site.client();
  waiting.send(get("/"));
  site.eventually([&] { return site.gateway.counts("f").queued == 1; });
  waiting.close();
  site.eventually([&] { return site.gateway.counts("f").queued == 0; });
  site.add(1, slow.talk());
  Wire& served = site.client();
  served.send(get("/"));
  site.eventually([&] { return slow.asked == 1; });
  served.close();
  site.eventually([&] { return site.gateway.counts("f").in_flight == 0; });
  EXPECT_EQ(site.gateway.counts("f").refusals.at("client_left"), 2U);
  slow.release.count_down();
}

TEST(GatewayDemand, OfAClientThatOnlyStopsSendingIsMet) {
  Slow slow;
  Site site;
  site.add(1, slow.talk());
  Wire& client = site.client();
  client.send(get("/"));
  client.shut_writes();
  site.eventually([&] { return slow.asked == 1; });
  slow.release.count_down();
  EXPECT_EQ(body_of(client.read_all()), "hello");
}

TEST(GatewayDemand, IsKeptFromAnInstanceThatRetiresWhileItsRequestsEnd) {
  Slow slow;
  Site site;
  site.add(1, slow.talk());
  Wire& first = site.client();
  first.send(get("/"));
  site.eventually([&] { return slow.asked == 1; });
  site.gateway.remove("f", {1}, {});
  Wire& second = site.client();
  second.send(get("/"));
  site.eventually([&] { return site.told.last_waiting == 1; });
  site.loop.run_task(site.gateway.drained("f", {1}, 1ms));  // the deadline
  EXPECT_EQ(site.gateway.counts("f").in_flight, 1U);
  slow.release.count_down();
  site.loop.run_task(site.gateway.drained("f", {1}, 30s));
  EXPECT_EQ(body_of(first.read_message()), "hello");
  EXPECT_EQ(site.gateway.counts("f").in_flight, 0U);
  EXPECT_EQ(slow.asked, 1);
}

TEST(GatewayDemand, CountsWhatClientsSaw) {
  Site site;
  site.add(1, answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"));
  for (int i = 0; i < 3; ++i) site.ask(get("/"));
  site.ask("BROKEN\r\n\r\n");
  site.eventually([&] { return site.gateway.counts("f").requests == 4; });
  RequestCounts const counts = site.gateway.counts("f");
  EXPECT_EQ(counts.requests, 4U);
  EXPECT_EQ(counts.by_status.at(404), 3U);
  EXPECT_EQ(counts.by_status.at(400), 1U);
  EXPECT_EQ(counts.latency.count(), 4U);
  EXPECT_EQ(site.gateway.counts("unknown").requests, 0U);
}

}  // namespace
}  // namespace aether::functions
