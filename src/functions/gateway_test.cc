// SPDX-License-Identifier: Apache-2.0
// What a request and its answer look like on the other side.
#include "functions/gateway.h"

#include <atomic>
#include <mutex>
#include <string>

#include "functions/gateway_site_test.h"

namespace aether::functions {
namespace {

using namespace fakes;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

/// Answers kHello, and keeps the last head for the test.
struct Seen {
  std::mutex mutex;
  std::string head;
  std::string body;
  FakeHandler::Talk talk(std::string answer = kHello) {
    return [this, answer](Wire& wire) {
      while (true) {
        std::string const got = wire.read_head();
        if (got.empty()) return;
        std::string const length = field_of(got, "Content-Length");
        std::string const came = length.empty() ? "" : wire.read_exactly(std::stoul(length));
        {
          std::scoped_lock const lock(mutex);
          head = got;
          body = came;
        }
        wire.send(answer);
      }
    };
  }
  std::string last() {
    std::scoped_lock const lock(mutex);
    return head;
  }
};

TEST(Gateway, BringsARequestToTheHandlerAndItsAnswerBack) {
  Site site;
  Seen seen;
  site.add(1, seen.talk(), StartTier::Clone);
  std::string const answer = site.ask(get("/path?q=1", "X-Mine: yes\r\n"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(body_of(answer), "hello");
  EXPECT_EQ(field_of(answer, "X-Aether-Start"), "clone");
  EXPECT_THAT(field_of(answer, "X-Call-Id"), MatchesRegex("[0-9a-f]{32}"));
  EXPECT_THAT(field_of(answer, "Server-Timing"), HasSubstr("fn;dur="));
  std::string const head = seen.last();
  EXPECT_THAT(head, StartsWith("GET /path?q=1 HTTP/1.1\r\nHost: test\r\n"));
  EXPECT_EQ(field_of(head, "X-Mine"), "yes");
  EXPECT_EQ(field_of(head, "X-Forwarded-For"), "127.0.0.1");
  EXPECT_EQ(field_of(head, "X-Forwarded-Proto"), "http");
  EXPECT_EQ(field_of(head, "X-Forwarded-Host"), "test");
  EXPECT_EQ(field_of(head, "X-Call-Id"), field_of(answer, "X-Call-Id"));
  EXPECT_EQ(field_of(head, "Traceparent").substr(3, 32), field_of(answer, "X-Call-Id"));
}

TEST(Gateway, PassesOnTheIdsThatItIsGiven) {
  Site site;
  Seen seen;
  site.add(1, seen.talk());
  std::string const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  std::string const answer = site.ask(get(
      "/", "x-call-id: order-7\r\ntraceparent: " + trace + "\r\nX-Forwarded-For: 10.0.0.9\r\n"));
  EXPECT_EQ(field_of(answer, "X-Call-Id"), "order-7");
  EXPECT_EQ(field_of(seen.last(), "X-Call-Id"), "order-7");
  EXPECT_EQ(field_of(seen.last(), "Traceparent"), trace);
  EXPECT_EQ(field_of(seen.last(), "X-Forwarded-For"), "10.0.0.9, 127.0.0.1");
}

TEST(Gateway, TakesOffWhatConcernsOneConnectionOnly) {
  Site site;
  Seen seen;
  site.add(1, seen.talk("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nConnection: X-Private\r\n"
                        "X-Private: 1\r\nContent-Length: 0\r\n\r\n"));
  std::string const answer = site.ask(get(
      "/", "Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nTE: trailers\r\nUpgrade: h2c\r\n"));
  EXPECT_EQ(status_of(answer), 200);
  EXPECT_THAT(answer, Not(HasSubstr("Keep-Alive")));
  EXPECT_THAT(answer, Not(HasSubstr("X-Private")));
  for (char const* name : {"Connection", "X-Secret", "TE", "Upgrade"})
    EXPECT_THAT(seen.last(), Not(HasSubstr(std::string("\r\n") + name + ":"))) << name;
}

TEST(Gateway, SaysTheTierOfAnInstanceWithItsFirstRequestOnly) {
  Site site;
  site.add(1, answering(kHello), StartTier::Parked);
  EXPECT_EQ(field_of(site.ask(get("/")), "X-Aether-Start"), "parked");
  EXPECT_EQ(field_of(site.ask(get("/")), "X-Aether-Start"), "warm");
}

TEST(Gateway, KeepsBothConnectionsForTheNextRequest) {
  Site site;
  FakeHandler& handler = site.add(1, answering(kHello));
  Wire& client = site.client();
  for (int i = 0; i < 5; ++i) {
    client.send(get("/"));
    EXPECT_EQ(body_of(client.read_message()), "hello");
  }
  EXPECT_EQ(handler.connections(), 1);
}

TEST(Gateway, AnswersRequestsThatCameAtOnceInTheirOrder) {
  Site site;
  site.add(1, [](Wire& wire) {
    for (std::string head = wire.read_head(); !head.empty(); head = wire.read_head()) {
      std::string const path = head.substr(4, 2);
      wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + path);
    }
  });
  Wire& client = site.client();
  client.send(get("/1") + get("/2") + get("/3") + "\r\n" + get("/4"));
  for (char const* path : {"/1", "/2", "/3", "/4"}) EXPECT_EQ(body_of(client.read_message()), path);
}

TEST(Gateway, SpeaksHttp10WithThoseWhoDo) {
  Site site;
  site.add(1, [](Wire& wire) {
    wire.read_head();
    wire.send(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
  });
  Wire& client = site.client();
  client.send("GET / HTTP/1.0\r\n\r\n");
  std::string const answer = client.read_all();
  EXPECT_THAT(answer, Not(HasSubstr("chunked")));
  EXPECT_EQ(body_of(answer), "abc");
  Site kept;
  kept.add(1, answering(kHello));
  Wire& other = kept.client();
  for (int i = 0; i < 2; ++i) {
    other.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    std::string const message = other.read_message();
    EXPECT_EQ(field_of(message, "Connection"), "keep-alive");
    EXPECT_EQ(body_of(message), "hello");
  }
}

TEST(Gateway, AnswersHeadWithoutABodyAndWithItsLength) {
  Site site;
  Seen seen;
  site.add(1, seen.talk("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"));
  Wire& client = site.client();
  for (int i = 0; i < 2; ++i) {
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(field_of(client.read_head(), "Content-Length"), "5000");
  }
  EXPECT_THAT(seen.last(), StartsWith("HEAD / "));
}

TEST(Gateway, BringsBodiesInChunksWithTheirTrailersBothWays) {
  Site site;
  std::string const body = "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n";
  site.add(1, [](Wire& wire) {
    for (std::string head = wire.read_head(); !head.empty(); head = wire.read_head()) {
      EXPECT_EQ(field_of(head, "Transfer-Encoding"), "chunked");
      std::string const came = wire.read_to("X-Sum: 11\r\n\r\n");
      wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + came);
    }
  });
  Wire& client = site.client();
  for (int i = 0; i < 2; ++i) {
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body);
    EXPECT_EQ(field_of(client.read_head(), "Transfer-Encoding"), "chunked");
    EXPECT_EQ(client.read_to("X-Sum: 11\r\n\r\n"), body);
  }
}

TEST(Gateway, KeepsTheClientWhenAHandlerEndsItsAnswerByClosing) {
  Site site;
  site.add(1, [](Wire& wire) {
    wire.read_head();
    wire.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n");
    wire.send("to the end");
  });
  Wire& client = site.client();
  for (int i = 0; i < 2; ++i) {
    client.send(get("/"));
    EXPECT_EQ(field_of(client.read_head(), "Transfer-Encoding"), "chunked");
    EXPECT_EQ(client.read_to("0\r\n\r\n"), "a\r\nto the end\r\n0\r\n\r\n");
  }
}

// The handler of seed 004 in Rust: it never reads the request, so the kernel sends a reset.
TEST(Gateway, TakesAResetBehindAnAnswerWithoutALengthAsItsEnd) {
  Site site;
  std::atomic<bool> came = false;
  site.add(1, [&](Wire& wire) {
    wire.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"ok\":true}");
    char byte = 0;
    came = ::recv(wire.fd(), &byte, 1, MSG_PEEK) == 1;  // it is there, and is not read
    wire.close();
  });
  for (int i = 0; i < 20; ++i) {
    std::string const answer = [&] {
      Wire& client = site.client();
      client.send(get("/", "Connection: close\r\n"));
      return client.read_all();
    }();
    EXPECT_EQ(status_of(answer), 200);
    EXPECT_THAT(answer, HasSubstr("{\"ok\":true}\r\n0\r\n\r\n"));
  }
  EXPECT_TRUE(came);
}

TEST(Gateway, PassesOnTheHandlersWordThatTheBodyMayCome) {
  Site site;
  site.add(1, [](Wire& wire) {
    EXPECT_EQ(field_of(wire.read_head(), "Expect"), "100-continue");
    wire.send("HTTP/1.1 100 Continue\r\n\r\n");
    EXPECT_EQ(wire.read_exactly(4), "body");
    wire.send(kHello);
  });
  Wire& client = site.client();
  client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("body");
  EXPECT_EQ(body_of(client.read_message()), "hello");
}

TEST(Gateway, ReadsAnAbsoluteTargetAsAHandlerExpectsIt) {
  Site site;
  Seen seen;
  site.add(1, seen.talk());
  site.ask("GET http://example.org/a?b HTTP/1.1\r\nHost: other\r\n\r\n");
  EXPECT_THAT(seen.last(), StartsWith("GET /a?b HTTP/1.1\r\nHost: example.org\r\n"));
}

TEST(Gateway, AnswersProbesItselfAndWakesNothingForThem) {
  Site site;
  EXPECT_EQ(status_of(site.ask(get("/_/health"))), 200);
  EXPECT_EQ(status_of(site.ask(get("/_/ready"))), 200);
  EXPECT_EQ(status_of(site.ask(get("/x", "User-Agent: kube-probe/1.31\r\n"))), 200);
  {
    Wire const& silent = site.client();
    (void)silent;
  }
  site.add(1, answering(kHello));
  EXPECT_EQ(status_of(site.ask(get("/"))), 200);
  site.eventually([&] { return site.gateway.counts("f").requests == 1; });
  EXPECT_EQ(site.told.wanted_times, 0);
  EXPECT_EQ(site.gateway.counts("f").requests, 1U);
}

TEST(Gateway, ListensOnAllAddressesOfBothKinds) {
  Site site;
  site.add(1, answering(kHello));
  os::UniqueFd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_addr = in6addr_loopback;
  to.sin6_port = htons(site.gateway.port("f"));
  sockaddr_in6 ours{.sin6_family = AF_INET6};
  ours.sin6_addr = in6addr_loopback;
  if (!fd || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&ours), sizeof(ours)) != 0)
    GTEST_SKIP() << "this machine has no IPv6";
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  Wire client(std::move(fd));
  client.send(get("/"));
  EXPECT_EQ(body_of(client.read_message()), "hello");
}

TEST(Gateway, SaysWhoHasItsPort) {
  Site site;
  Status const again = site.gateway.open({.function = "g", .trigger_port = site.gateway.port("f")});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::AddressInUse);
  EXPECT_THAT(again.error().message(), HasSubstr(std::to_string(::getpid())));
}

}  // namespace
}  // namespace aether::functions
