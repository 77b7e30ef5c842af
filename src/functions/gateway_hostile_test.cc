// SPDX-License-Identifier: Apache-2.0
// Clients that mean no good, and scarcity.
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "functions/gateway_site_test.h"

namespace aether::functions {
namespace {

using namespace fakes;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

/// The status of a request that the handler must never see, of which the connection ends.
int refusal_of(std::string const& bytes) {
  Site site;
  std::atomic<bool> seen = false;
  site.add(1, [&](Wire& wire) { seen = !wire.read_head().empty(); });
  Wire& client = site.client();
  client.send(bytes + get("/smuggled"));
  std::string const answer = client.read_all();
  EXPECT_EQ(answer.find("HTTP/1.1 2"), std::string::npos) << "two answers to " << bytes;
  EXPECT_EQ(field_of(answer, "Connection"), "close");
  EXPECT_FALSE(seen) << bytes;
  return status_of(answer);
}

TEST(GatewayHostile, RequestsThatTwoReadersCouldReadDifferentlyAreRefused) {
  std::string const post = "POST / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(refusal_of(post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of(post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of(post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of(post + "X: a\r\n folded\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of(post + "X: a\rContent-Length: 3\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of(post + std::string("X: a\0\r\n\r\n", 9)), 400);
  EXPECT_EQ(refusal_of("GET / HTTP/1.1\nHost: a\n\n"), 400);
  EXPECT_EQ(refusal_of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("GET / HTTP/3.0\r\nHost: a\r\n\r\n"), 505);
}

TEST(GatewayHostile, ChunksThatAreNotFramedAreNotPassedOn) {
  std::atomic<bool> whole = false;  // Its handler may still read when the test ends.
  Site site;
  site.add(1, [&](Wire& wire) {
    wire.read_head();
    whole = wire.read_all().find("smuggled") != std::string::npos;
  });
  Wire& client = site.client();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
              ("2\r\nabX\r\n0\r\n\r\n" + get("/smuggled")));
  EXPECT_EQ(status_of(client.read_all()), 400);
  EXPECT_FALSE(whole);
}

TEST(GatewayHostile, AHeadLongerThanSixteenKibibytesIsRefused) {
  std::string const head = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
  EXPECT_EQ(refusal_of(head + std::string(16 * 1024, 'x')), 431);
  Site site;
  site.add(1, answering(kHello));
  std::string const most(16 * 1024 - head.size() - 4, 'x');
  EXPECT_EQ(status_of(site.ask(head + most + "\r\n\r\n")), 200);
  EXPECT_EQ(status_of(site.ask(head + most + "x\r\n\r\n")), 431);
}

TEST(GatewayHostile, ASlowHeadIsCutOff) {
  Site site({}, {.head_timeout = 30ms});
  Wire& client = site.client();
  client.send("GET / HT");
  EXPECT_EQ(status_of(client.read_all()), 408);
}

TEST(GatewayHostile, AConnectionThatSaysNothingIsClosedInTheEnd) {
  Site site({}, {.idle_timeout = 30ms});
  EXPECT_EQ(site.client().read_all(), "");
}

TEST(GatewayHostile, TheClientThatHasKeptUsWaitingLongestGivesWay) {
  Site site({}, {.clients = 3});
  site.add(1, answering(kHello));
  std::vector<Wire*> silent;
  for (int i = 0; i < 3; ++i) silent.push_back(&site.client());
  EXPECT_EQ(body_of(site.ask(get("/"))), "hello");
  EXPECT_EQ(silent[0]->read_all(), "");
  silent[2]->send(get("/"));
  EXPECT_EQ(body_of(silent[2]->read_message()), "hello");
}

TEST(GatewayHostile, ABodyThatDoesNotComeDoesNotHoldAPlaceForEver) {
  Site site({.timeout = 50ms});
  site.add(1, [](Wire& wire) {
    wire.read_head();
    wire.read_all();
  });
  std::string const answer = site.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab");
  EXPECT_EQ(status_of(answer), 408);
  site.pass(1ms);
  EXPECT_TRUE(site.told.timed_out_instances.empty()) << "the handler is not to blame";
}

TEST(GatewayHostile, AClientThatTakesNoAnswerIsCutOff) {
  Site site({}, {.stall_timeout = 50ms});
  site.add(1, [](Wire& wire) {
    wire.read_head();
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    std::string const block(1 << 20, 'x');
    while (wire.send(block)) {
    }
  });
  Wire& client = site.client();
  client.send(get("/"));
  site.eventually([&] { return site.gateway.counts("f").refusals["cut_off"] == 1; });
  site.eventually([&] { return site.gateway.counts("f").in_flight == 0; });
}

TEST(GatewayHostile, AnAnswerWithAHugeHeadIsABadOne) {
  Site site;
  site.add(1, answering("HTTP/1.1 200 OK\r\nX: " + std::string(70 * 1024, 'x') + "\r\n\r\n"));
  EXPECT_EQ(status_of(site.ask(get("/"))), 502);
}

TEST(GatewayHostile, AnAnswerThatIsCutOffIsNotMadeWhole) {
  Site site;
  site.add(1, [](Wire& wire) {
    std::string const head = wire.read_head();
    bool const chunked = head.starts_with("GET /chunked");
    wire.send(chunked ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"
                      : "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel");
  });
  Wire& sized = site.client();
  sized.send(get("/sized"));
  EXPECT_EQ(body_of(sized.read_all()), "hel");
  Wire& chunked = site.client();
  chunked.send(get("/chunked"));
  EXPECT_EQ(body_of(chunked.read_all()), "5\r\nhel");
  Wire& old = site.client();
  old.send("GET /chunked HTTP/1.0\r\n\r\n");
  old.read_all();
  EXPECT_TRUE(old.was_reset()) << "an end would look like the end of the body";
}

/// No descriptor above those that are open now, while it lives.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    os::UniqueFd const next(::dup(0));
    rlimit now = before_;
    now.rlim_cur = static_cast<rlim_t>(next.get());
    ::setrlimit(RLIMIT_NOFILE, &now);
  }
  ~NoMoreDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  NoMoreDescriptors(NoMoreDescriptors const&) = delete;
  NoMoreDescriptors& operator=(NoMoreDescriptors const&) = delete;

 private:
  rlimit before_{};
};

os::UniqueFd unconnected() {
  return os::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}
void connect_to(Site& site, os::UniqueFd const& fd) {
  sockaddr_in const to = local_address(site.gateway.port("f"));
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr const*>(&to), sizeof(to)), 0);
}

TEST(GatewayHostile, WithoutDescriptorsClientsWaitAndTheThreadDoesNotSpin) {
  Site site({}, {.accept_pause = 5ms});
  Wire& queued = site.client();
  queued.send(get("/"));
  site.eventually([&] { return site.gateway.counts("f").queued == 1; });
  os::UniqueFd fd = unconnected();
  rusage before{};
  rusage after{};
  {
    NoMoreDescriptors const none;
    connect_to(site, fd);
    ::getrusage(RUSAGE_SELF, &before);
    site.pass(300ms);
    ::getrusage(RUSAGE_SELF, &after);
  }
  auto const cpu = std::chrono::microseconds(after.ru_utime.tv_usec - before.ru_utime.tv_usec) +
                   std::chrono::seconds(after.ru_utime.tv_sec - before.ru_utime.tv_sec);
  EXPECT_LT(cpu, 200ms);
  site.add(1, answering(kHello));
  Wire client(std::move(fd));
  client.send(get("/"));
  EXPECT_EQ(body_of(client.read_message()), "hello");
  EXPECT_EQ(body_of(queued.read_message()), "hello");
}

TEST(GatewayHostile, WithoutDescriptorsTheClientThatKeptUsWaitingLongestGivesWay) {
  Site site;
  site.add(1, answering(kHello));
  EXPECT_EQ(body_of(site.ask(get("/"))), "hello");
  Wire& silent = site.client();
  os::UniqueFd fd = unconnected();
  EXPECT_EQ(body_of(site.ask(get("/"))), "hello");  // all is accepted and open
  NoMoreDescriptors const none;
  connect_to(site, fd);
  Wire client(std::move(fd));
  client.send(get("/"));
  EXPECT_EQ(body_of(client.read_message()), "hello");
  (void)silent;
}

}  // namespace
}  // namespace aether::functions
