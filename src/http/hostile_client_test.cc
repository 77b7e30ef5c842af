// SPDX-License-Identifier: Apache-2.0
// What clients that mean harm, or have died, can do: nothing. And each limit, at the limit.
#include <sys/resource.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "async/task_group.h"
#include "async/testing.h"
#include "http/server.h"
#include "http/test_server.h"
#include "os/unique_fd.h"

namespace aether::http {
namespace {

using namespace testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

// What a connection that sends these bytes is told, to its end.
async::Task<std::string> answer_to(async::Loop& loop, std::uint16_t port, std::string bytes) {
  RawClient client(loop, port);
  co_await client.send(std::move(bytes));
  client.shut_writes();
  co_return co_await client.read_all();
}

async::Task<int> status_for(async::Loop& loop, std::uint16_t port, std::string bytes) {
  std::string const answer = co_await answer_to(loop, port, std::move(bytes));
  co_return status_of(answer);
}

struct Malformed {
  int status;
  std::string_view bytes;
};

constexpr Malformed kMalformed[] = {
    {400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x8a\xd1\xe5\r\n\r\n"},  // TLS
    {400, "GET\r\n\r\n"},
    {400, "GET  / HTTP/1.1\r\nHost: t\r\n\r\n"},
    {400, "G\x01T / HTTP/1.1\r\nHost: t\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: t\r\nBad Name: x\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: t\r\nName : x\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: t\r\nX: a\x01\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n\r\n"},                        // no Host
    {400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"},  // two
    {400, "GET hello HTTP/1.1\r\nHost: t\r\n\r\n"},
    {400, "GET /%zz HTTP/1.1\r\nHost: t\r\n\r\n"},
    {400, "GET /%00 HTTP/1.1\r\nHost: t\r\n\r\n"},
    {400, "CONNECT a:443 HTTP/1.1\r\nHost: t\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: x\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
    {400,
     "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: "
     "chunked\r\n\r\n0\r\n\r\n"},
    {400,
     "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nContent-Length: "
     "1\r\n\r\n0\r\n\r\n"},
    {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {400, "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"},
    {400, "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n"},
    {413, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n"},
    {413,
     "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"},
    {417, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nExpect: magic\r\n\r\na"},
    {501, "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
    {501, "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\na"},
    {505, "GET / HTTP/2.0\r\nHost: t\r\n\r\n"},
    {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
};

CORO_TEST(HostileClient, IsToldWhatIsWrongWithItsRequest) {
  ErrorLog log;
  TestServer site(loop);
  for (Malformed const& wrong : kMalformed) {
    int const status = co_await status_for(loop, site.server.port(), std::string(wrong.bytes));
    EXPECT_EQ(status, wrong.status) << wrong.bytes;
  }
  EXPECT_FALSE(site.site.last.has_value()) << "a malformed request reached the handler";
  EXPECT_TRUE(log.lines.empty()) << log.lines.front();
  co_await site.stop();
}

CORO_TEST(HostileClient, MaySendEmptyLinesFirst) {
  TestServer site(loop);
  int const status = co_await status_for(loop, site.server.port(), "\r\n\r\n" + get("/hello"));
  EXPECT_EQ(status, 200);
  co_await site.stop();
}

// A request whose line and headers are exactly so long.
std::string request_with_header_bytes(std::size_t size) {
  std::string const begin = "GET /hello HTTP/1.1\r\nHost: t\r\nConnection: close\r\nX: ";
  return begin + std::string(size - begin.size() - 4, 'x') + "\r\n\r\n";
}

CORO_TEST(HostileClient, MaySendHeadersUpToTheLimitAndNotAByteMore) {
  TestServer site(loop);
  std::uint16_t const port = site.server.port();
  int const most = co_await status_for(loop, port, request_with_header_bytes(kHeaderBytesMax));
  EXPECT_EQ(most, 200);
  int const more = co_await status_for(loop, port, request_with_header_bytes(kHeaderBytesMax + 1));
  EXPECT_EQ(more, 431);
  std::string const endless = "GET /" + std::string(kHeaderBytesMax * 4, 'a');
  int const target = co_await status_for(loop, port, endless);
  EXPECT_EQ(target, 431);
  co_await site.stop();
}

std::string post_of(std::size_t size) {
  return "POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: " +
         std::to_string(size) + "\r\n\r\n" + std::string(size, 'b');
}

std::string chunked_post_of(std::size_t size) {
  std::string text =
      "POST /echo HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
      "Transfer-Encoding: chunked\r\n\r\n";
  std::size_t const half = size / 2;
  for (std::size_t const piece : {half, size - half}) {
    char head[32];
    text.append(head,
                static_cast<std::size_t>(std::snprintf(head, sizeof(head), "%zx\r\n", piece)));
    text += std::string(piece, 'b') + "\r\n";
  }
  return text + "0\r\n\r\n";
}

CORO_TEST(HostileClient, MaySendABodyUpToTheLimitAndNotAByteMore) {
  TestServer site(loop);
  std::uint16_t const port = site.server.port();
  std::string const most = co_await answer_to(loop, port, post_of(kBodyBytesMax));
  EXPECT_EQ(status_of(most), 200);
  EXPECT_TRUE(most.ends_with("\r\n\r\n" + std::string(kBodyBytesMax, 'b')));
  int const more = co_await status_for(loop, port, post_of(kBodyBytesMax + 1));
  EXPECT_EQ(more, 413);
  std::string const pieces = co_await answer_to(loop, port, chunked_post_of(kBodyBytesMax));
  EXPECT_EQ(status_of(pieces), 200);
  int const more_pieces = co_await status_for(loop, port, chunked_post_of(kBodyBytesMax + 1));
  EXPECT_EQ(more_pieces, 413);
  std::string const long_extension =
      "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1;" +
      std::string(kHeaderBytesMax * 2, 'x');
  int const extension = co_await status_for(loop, port, long_extension);
  EXPECT_EQ(extension, 431);
  co_await site.stop();
}

CORO_TEST(HostileClient, CannotHarmByAThousandConnectionsOfGarbage) {
  ErrorLog log;
  TestServer site(loop);
  std::uint64_t random = 88172645463325252ULL;
  for (int i = 0; i < 1000; ++i) {
    std::string garbage;
    for (int k = 0; k < 20 + (i % 200); ++k) {
      random ^= random << 13U;
      random ^= random >> 7U;
      random ^= random << 17U;
      garbage.push_back(static_cast<char>(random));
    }
    RawClient client(loop, site.server.port());
    if (i % 3 == 0) client.reset_when_closed();
    co_await client.send(i % 5 == 0 ? garbage + "\r\n\r\n" : garbage);
    if (i % 50 == 0) co_await async::yield();
  }
  Response const alive = co_await fetch(site.endpoint(), {.target = "/hello"}, kPatience);
  EXPECT_EQ(alive.status, 200);
  EXPECT_TRUE(log.lines.empty()) << log.lines.front();
  co_await site.stop();
}

async::Task<void> drip(RawClient& client, std::string text) {
  for (char const c : text) {
    co_await client.send(std::string(1, c));
    co_await async::sleep_for(milliseconds(2));
  }
}

CORO_TEST(HostileClient, IsCutOffWhenItsHeadersDripIn) {
  TestServer site(loop, {.header_timeout = milliseconds(50)});
  RawClient client(loop, site.server.port());
  async::TaskGroup dripping(loop.executor(), "drip");
  dripping.spawn("drip", drip(client, get("/hello", "X: " + std::string(4000, 'x') + "\r\n")));
  std::string const answer = co_await client.read_all();
  EXPECT_EQ(status_of(answer), 408);
  co_await dripping.stop(kPatience);
  co_await site.stop();
}

CORO_TEST(HostileClient, IsCutOffWhenItsBodyDoesNotArrive) {
  TestServer site(loop, {.body_timeout = milliseconds(30)});
  RawClient client(loop, site.server.port());
  co_await client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nhalf");
  std::string const answer = co_await client.read_all();
  EXPECT_EQ(status_of(answer), 408);
  co_await site.stop();
}

CORO_TEST(HostileClient, IsClosedWithoutAWordWhenItSaysNothing) {
  TestServer site(loop, {.header_timeout = milliseconds(30), .idle_timeout = milliseconds(30)});
  RawClient silent(loop, site.server.port());
  std::string const nothing = co_await silent.read_all();
  EXPECT_EQ(nothing, "");
  RawClient idle(loop, site.server.port());
  co_await idle.send(get("/hello"));
  std::string const answer = co_await idle.read_all();
  EXPECT_TRUE(answer.ends_with("\r\n\r\nhello"));
  co_await site.stop();
}

CORO_TEST(HostileClient, CancelsTheStreamWhenItCloses) {
  ErrorLog log;
  TestServer site(loop);
  for (bool const reset : {false, true}) {
    site.site.stream_over.reset();
    auto client = std::make_unique<RawClient>(loop, site.server.port());
    co_await client->send(get("/feed"));
    std::string const begin = co_await client->read_to("hello\n\r\n");
    EXPECT_EQ(status_of(begin), 200);
    EXPECT_EQ(site.site.streams_running, 1);
    if (reset) client->reset_when_closed();
    client.reset();
    bool const over = co_await site.site.stream_over.wait_for(kPatience);
    EXPECT_TRUE(over);
    EXPECT_EQ(site.site.streams_running, 0);
  }
  EXPECT_TRUE(log.lines.empty()) << log.lines.front();
  co_await site.stop();
}

CORO_TEST(HostileClient, CancelsABusyStreamWhenItIsReset) {
  ErrorLog log;
  TestServer site(loop);
  auto client = std::make_unique<RawClient>(loop, site.server.port());
  co_await client->send(get("/flood"));
  std::string const begin = co_await client->read_to("\r\n\r\n");
  EXPECT_EQ(status_of(begin), 200);
  client->reset_when_closed();
  client.reset();
  bool const over = co_await site.site.stream_over.wait_for(kPatience);
  EXPECT_TRUE(over);
  EXPECT_TRUE(log.lines.empty()) << log.lines.front();
  co_await site.stop();
}

CORO_TEST(HostileClient, HoldsAStreamBackByNotReadingAndIsCutOffInTheEnd) {
  TestServer site(loop, {.write_stall_timeout = milliseconds(50)});
  RawClient client(loop, site.server.port());
  co_await client.send(get("/flood"));
  bool const over = co_await site.site.stream_over.wait_for(kPatience);
  EXPECT_TRUE(over);
  // What the kernel's two socket buffers hold (tcp_wmem and tcp_rmem: 4 and 6 MiB at most), not
  // more.
  EXPECT_LT(site.site.bytes_written, 32U * 1024 * 1024);
  co_await site.stop();
}

CORO_TEST(HostileClient, SeesThatAStreamThatFailedIsNotWhole) {
  ErrorLog log;
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send(get("/broken"));
  std::string const answer = co_await client.read_all();
  EXPECT_EQ(answer.find("0\r\n\r\n"), std::string::npos);
  CO_ASSERT_EQ(log.lines.size(), 1U);
  EXPECT_EQ(log.lines[0], "http: the stream of GET /broken failed: internal: the disk is on fire");
  co_await site.stop();
}

CORO_TEST(HostileClient, WaitsWhileNoDescriptorIsLeft) {
  // Also keeps the log from what first happens without descriptors: UBSan needs a pipe to check a
  // vptr.
  ErrorLog log;
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send(get("/hello", "Connection: close\r\n"));
  rlimit before{};
  CO_ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // No number is free below the limit: all that are open stay, none can be added.
  int const next = ::dup(2);
  ::close(next);
  rlimit const none{.rlim_cur = static_cast<rlim_t>(next), .rlim_max = before.rlim_max};
  CO_ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  co_await async::sleep_for(milliseconds(20));
  EXPECT_EQ(site.server.connections(), 0U);
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(log.lines.empty()) << log.lines.front();
  std::string const answer = co_await client.read_all();
  EXPECT_TRUE(answer.ends_with("\r\n\r\nhello"));
  co_await site.stop();
}

}  // namespace
}  // namespace aether::http
