// SPDX-License-Identifier: Apache-2.0
#include "http/client.h"

#include <stdio.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "async/task_group.h"
#include "async/testing.h"
#include "http/test_server.h"

namespace aether::http {
namespace {

using namespace testing;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Answers every connection with the same bytes, then closes or stays.
class Parrot {
 public:
  enum class Then { Close, Stay };
  Parrot(async::Loop& loop, std::string bytes, Then then)
      : listener_(open_tcp_listener("127.0.0.1", 0).value()),
        bytes_(std::move(bytes)),
        then_(then),
        tasks_(loop.executor(), "parrot") {
    tasks_.spawn("accept", serve(loop.executor()));
  }
  [[nodiscard]] Endpoint endpoint() const { return Endpoint::tcp("127.0.0.1", listener_.port); }
  async::Task<std::vector<std::string>> stop() { return tasks_.stop(kPatience); }

 private:
  static async::Task<void> drain(Socket& socket) {
    std::size_t got = 1;
    while (got > 0) {
      std::string rest;
      got = co_await socket.read_some(rest, 65536);
    }
  }
  async::Task<void> serve(async::Executor executor) {
    Socket listening(executor, os::UniqueFd(::dup(listener_.fd.get())));
    while (true) {
      co_await listening.wait_readable();
      auto client = accept_client(listener_.fd.get()).value();
      if (!client) continue;
      Socket socket(executor, std::move(client->fd));
      std::string request;
      co_await socket.read_some(request, 65536);
      try {
        co_await socket.write_all(bytes_, kPatience);
        if (then_ == Then::Stay) co_await async::sleep_for(hours(1));
        socket.shut_writes();
        co_await drain(socket);
      } catch (Error const&) {
        request.clear();  // the client has seen enough
      }
    }
  }

  TcpListener listener_;
  std::string bytes_;
  Then then_;
  async::TaskGroup tasks_;
};

async::Task<std::optional<Error>> fault_of(async::Task<Response> task) {
  std::optional<Error> fault;
  try {
    co_await std::move(task);
  } catch (Error const& error) {
    fault = error;
  }
  co_return fault;
}

async::Task<std::optional<Error>> fault_of_bytes(async::Loop& loop, std::string bytes,
                                                 Parrot::Then then, Duration deadline) {
  Parrot parrot(loop, std::move(bytes), then);
  std::optional<Error> fault = co_await fault_of(fetch(parrot.endpoint(), {}, deadline));
  co_await parrot.stop();
  co_return fault;
}

CORO_TEST(Fetch, BringsStatusHeadersAndBody) {
  TestServer site(loop);
  Request request{.method = "POST", .target = "/echo", .body = "some body"};
  request.headers.set("Content-Type", "text/x");
  Response const response = co_await fetch(site.endpoint(), request, kPatience);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "some body");
  EXPECT_EQ(response.headers.get("content-type"), "text/plain; charset=utf-8");
  EXPECT_EQ(site.site.last->headers.get("Content-Type"), "text/x");
  Response const missing = co_await fetch(site.endpoint(), {.target = "/none"}, kPatience);
  EXPECT_EQ(missing.status, 404);
  Response const head =
      co_await fetch(site.endpoint(), {.method = "HEAD", .target = "/hello"}, kPatience);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.get("Content-Length"), "5");
  EXPECT_EQ(head.body, "");
  Response const empty = co_await fetch(site.endpoint(), {.target = "/empty"}, kPatience);
  EXPECT_EQ(empty.status, 204);
  Response const chunks = co_await fetch(site.endpoint(), {.target = "/chunks"}, kPatience);
  EXPECT_EQ(chunks.body, "chunk 0\nchunk 1\nchunk 2\nchunk 3\nchunk 4\n");
  co_await site.stop();
}

CORO_TEST(Fetch, ReadsTheAnswerOfAServerThatDidNotWaitForTheBody) {
  TestServer site(loop, {.body_bytes = 1000});
  Request request{.method = "POST", .target = "/echo", .body = std::string(3 * 1024 * 1024, 'x')};
  Response const response = co_await fetch(site.endpoint(), request, kPatience);
  EXPECT_EQ(response.status, 413);
  co_await site.stop();
}

CORO_TEST(Fetch, FindsLocalhostAndRefusesToLookUpOtherNames) {
  TestServer site(loop);
  Endpoint const local = Endpoint::tcp("localhost", site.server.port());
  Response const response = co_await fetch(local, {.target = "/hello"}, kPatience);
  EXPECT_EQ(response.body, "hello");
  auto const fault = co_await fault_of(fetch(Endpoint::tcp("example.org", 80), {}, kPatience));
  CO_ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->code(), ErrorCode::AddressInvalid);
  co_await site.stop();
}

CORO_TEST(Fetch, SaysWhoCannotBeReached) {
  std::uint16_t port = 0;
  {
    TcpListener const gone = open_tcp_listener("127.0.0.1", 0).value();
    port = gone.port;
  }
  Endpoint const nobody = Endpoint::tcp("127.0.0.1", port);
  auto const fault = co_await fault_of(fetch(nobody, {}, kPatience));
  CO_ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->code(), ErrorCode::Unreachable);
  EXPECT_NE(fault->message().find(nobody.text()), std::string::npos);
  Endpoint const no_file = Endpoint::unix_socket("/nonexistent/aether.sock");
  auto const missing = co_await fault_of(fetch(no_file, {}, kPatience));
  CO_ASSERT_TRUE(missing.has_value());
  EXPECT_EQ(missing->code(), ErrorCode::Unreachable);
  EXPECT_NE(missing->message().find("/nonexistent/aether.sock"), std::string::npos);
}

CORO_TEST(Fetch, GivesUpAtTheDeadline) {
  TestServer site(loop);
  auto const slow =
      co_await fault_of(fetch(site.endpoint(), {.target = "/slow"}, milliseconds(20)));
  CO_ASSERT_TRUE(slow.has_value());
  EXPECT_EQ(slow->code(), ErrorCode::Timeout);
  EXPECT_NE(slow->message().find("20ms"), std::string::npos);
  auto const endless =
      co_await fault_of(fetch(site.endpoint(), {.target = "/feed"}, milliseconds(20)));
  CO_ASSERT_TRUE(endless.has_value());
  EXPECT_EQ(endless->code(), ErrorCode::Timeout);
  // Nobody accepts: the listener's queue takes the connection, and nothing more happens.
  TcpListener const deaf = open_tcp_listener("127.0.0.1", 0).value();
  Endpoint const endpoint = Endpoint::tcp("127.0.0.1", deaf.port);
  auto const unheard = co_await fault_of(fetch(endpoint, {}, milliseconds(20)));
  CO_ASSERT_TRUE(unheard.has_value());
  EXPECT_EQ(unheard->code(), ErrorCode::Timeout);
  site.site.release.set();
  co_await site.stop();
}

CORO_TEST(Fetch, RefusesWhatIsNotHttpOrIsCutOff) {
  std::string const head = "HTTP/1.1 200 OK\r\n";
  std::vector<std::string> const wrong{
      "SSH-2.0-OpenSSH_9.2\r\n\r\n",
      "",
      "HTTP/1.1 2",
      "HTTP/1.1 abc OK\r\n\r\n",
      head + "Content-Length: 10\r\n\r\nshort",
      head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
      head + "Transfer-Encoding: chunked\r\n\r\nnope\r\n",
      head + "X: " + std::string(kClientHeaderBytesMax, 'x'),
      head + "Transfer-Encoding: chunked\r\n\r\n5;" + std::string(kClientHeaderBytesMax + 10, 'x'),
      head + "Content-Length: 9223372036854775807\r\n\r\nsmall",
  };
  for (std::string const& bytes : wrong) {
    auto const fault = co_await fault_of_bytes(loop, bytes, Parrot::Then::Close, kPatience);
    CO_ASSERT_TRUE(fault.has_value()) << bytes.substr(0, 100);
    EXPECT_EQ(fault->code(), ErrorCode::ProtocolViolation) << bytes.substr(0, 100);
    EXPECT_NE(fault->message().find("127.0.0.1:"), std::string::npos);
  }
}

CORO_TEST(Fetch, TakesABodyThatEndsWithTheConnectionAndStepsOverInterimAnswers) {
  Parrot parrot(loop,
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                "HTTP/1.0 200 OK\r\n\r\nto the end",
                Parrot::Then::Close);
  Response const response = co_await fetch(parrot.endpoint(), {}, kPatience);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "to the end");
  EXPECT_TRUE(response.headers.empty());
  co_await parrot.stop();
}

CORO_TEST(Fetch, TakesABodyUpToTheLimitAndNotAByteMore) {
  std::string const head = "HTTP/1.0 200 OK\r\n\r\n";
  Parrot most(loop, head + std::string(kClientBodyBytesMax, 'x'), Parrot::Then::Close);
  Response const response = co_await fetch(most.endpoint(), {}, kPatience);
  EXPECT_EQ(response.body.size(), kClientBodyBytesMax);
  co_await most.stop();
  auto const fault = co_await fault_of_bytes(loop, head + std::string(kClientBodyBytesMax + 1, 'x'),
                                             Parrot::Then::Close, kPatience);
  CO_ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->code(), ErrorCode::LimitReached);
}

CORO_TEST(Fetch, RefusesToSendARequestThatWouldBecomeTwo) {
  Endpoint const anywhere = Endpoint::tcp("127.0.0.1", 9);
  Request injected;
  injected.headers.add("X", "a\r\nHost: evil");
  std::vector<Request> const wrong{
      {.method = "GET /"}, {.target = "/a b"}, {.target = ""}, injected};
  for (Request const& request : wrong) {
    auto const fault = co_await fault_of(fetch(anywhere, request, kPatience));
    CO_ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(fault->code(), ErrorCode::RequestInvalid);
  }
}

async::Task<void> append(std::string& all, std::string chunk) {
  all += chunk;
  co_return;
}

CORO_TEST(FetchStream, HandsTheBodyOnPieceByPiece) {
  TestServer site(loop);
  std::string all;
  ChunkSink const sink = [&all](std::string chunk) { return append(all, std::move(chunk)); };
  Response const response =
      co_await fetch_stream(site.endpoint(), {.target = "/chunks"}, kPatience, sink);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "");
  EXPECT_EQ(all, "chunk 0\nchunk 1\nchunk 2\nchunk 3\nchunk 4\n");
  Response const missing =
      co_await fetch_stream(site.endpoint(), {.target = "/none"}, kPatience, sink);
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.body, "no such page");
  co_await site.stop();
}

CORO_TEST(FetchStream, IsToldThatAStreamWasCutOff) {
  ErrorLog log;
  TestServer site(loop);
  std::string all;
  ChunkSink const sink = [&all](std::string chunk) { return append(all, std::move(chunk)); };
  auto const fault =
      co_await fault_of(fetch_stream(site.endpoint(), {.target = "/broken"}, kPatience, sink));
  EXPECT_TRUE(fault.has_value());
  EXPECT_EQ(log.lines.size(), 1U);
  co_await site.stop();
}

async::Task<void> follow(Endpoint endpoint, async::Event& first) {
  auto take = [](async::Event& seen, std::string) -> async::Task<void> {
    seen.set();
    co_return;
  };
  ChunkSink const sink = [&first, take](std::string chunk) {
    return take(first, std::move(chunk));
  };
  co_await fetch_stream(std::move(endpoint), {.target = "/feed"}, kPatience, sink);
}

CORO_TEST(FetchStream, LeavesTheServerWhenItsTaskIsCancelled) {
  TestServer site(loop);
  async::Event first;
  async::TaskGroup group(loop.executor(), "followers");
  group.spawn("follow", follow(site.endpoint(), first));
  co_await first.wait();
  EXPECT_EQ(site.site.streams_running, 1);
  co_await group.stop(kPatience);
  bool const over = co_await site.site.stream_over.wait_for(kPatience);
  EXPECT_TRUE(over);
  co_await site.stop();
}

async::Task<void> add_up(std::size_t& total, async::Event& go_on, std::string chunk) {
  co_await go_on.wait();
  total += chunk.size();
}

CORO_TEST(FetchStream, SlowsTheServerDownWhenTheSinkWaits) {
  TestServer site(loop);
  std::size_t total = 0;
  async::Event go_on;
  auto read = [](Endpoint endpoint, std::size_t& sum, async::Event& event) -> async::Task<void> {
    ChunkSink const sink = [&](std::string chunk) { return add_up(sum, event, std::move(chunk)); };
    co_await fetch_stream(std::move(endpoint), {.target = "/flood"}, kPatience, sink);
  };
  async::TaskGroup group(loop.executor(), "reader");
  group.spawn("read", read(site.endpoint(), total, go_on));
  // The stream stands still once the kernel's buffers are full.
  std::size_t before = 1;
  while (before != site.site.bytes_written) {
    before = site.site.bytes_written;
    co_await async::sleep_for(milliseconds(50));
  }
  EXPECT_EQ(total, 0U);
  go_on.set();
  while (total < before + 1024 * 1024) co_await async::sleep_for(milliseconds(1));
  co_await group.stop(kPatience);
  co_await site.stop();
}

}  // namespace
}  // namespace aether::http
