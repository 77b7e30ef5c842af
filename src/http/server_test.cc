// SPDX-License-Identifier: Apache-2.0
// What the server does for clients that mean well.
#include "http/server.h"

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
using std::chrono::milliseconds;
using std::chrono::seconds;

CORO_TEST(Server, AnswersARequestWithItsLengthAndDate) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send(get("/hello?a=1&b=%20x", "X-Thing: yes\r\nConnection: close\r\n"));
  std::string const answer = co_await client.read_all();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_NE(answer.find("Content-Length: 5\r\n"), std::string::npos);
  EXPECT_NE(answer.find("\r\nDate: "), std::string::npos);
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("\r\n\r\nhello"));
  CO_ASSERT_TRUE(site.site.last.has_value());
  Request const& seen = *site.site.last;
  EXPECT_EQ(seen.path, "/hello");
  EXPECT_EQ(seen.headers.get("x-thing"), "yes");
  CO_ASSERT_NE(seen.query_value("b"), nullptr);
  EXPECT_EQ(*seen.query_value("b"), " x");
  EXPECT_TRUE(seen.peer.loopback);
  EXPECT_FALSE(seen.peer.unix_socket);
  EXPECT_TRUE(seen.peer.address.starts_with("127.0.0.1:"));
  co_await site.stop();
}

CORO_TEST(Server, AnswersPipelinedRequestsInOrderOnOneConnection) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  std::string burst;
  for (int i = 0; i < 50; ++i) {
    std::string const body = "number " + std::to_string(i) + "!";
    burst += "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: " + std::to_string(body.size()) +
             "\r\n\r\n" + body;
  }
  co_await client.send(burst);
  for (int i = 0; i < 50; ++i) {
    std::string const answer = co_await client.read_to("!");
    EXPECT_EQ(status_of(answer), 200);
    EXPECT_TRUE(answer.ends_with("number " + std::to_string(i) + "!"));
  }
  EXPECT_EQ(site.server.connections(), 1U);
  co_await site.stop();
}

CORO_TEST(Server, SendsTheHeadersOfABodyButNoBodyForHead) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send("HEAD /hello HTTP/1.1\r\nHost: t\r\n\r\n");
  co_await client.send("HEAD /chunks HTTP/1.1\r\nHost: t\r\n\r\n");
  co_await client.send(get("/empty", "Connection: close\r\n"));
  std::string const answers = co_await client.read_all();
  EXPECT_NE(answers.find("Content-Length: 5\r\n"), std::string::npos);
  EXPECT_NE(answers.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_EQ(answers.find("hello"), std::string::npos);
  EXPECT_NE(answers.find("HTTP/1.1 204 No Content\r\n"), std::string::npos);
  EXPECT_TRUE(answers.ends_with("Connection: close\r\n\r\n"));
  EXPECT_EQ(site.site.streams_cancelled, 0) << "the stream was run for a HEAD";
  co_await site.stop();
}

CORO_TEST(Server, ClosesAfterAnHttp10RequestUnlessAskedToStay) {
  TestServer site(loop);
  RawClient brief(loop, site.server.port());
  co_await brief.send("GET /hello HTTP/1.0\r\n\r\n");
  std::string const once = co_await brief.read_all();
  EXPECT_TRUE(once.ends_with("\r\n\r\nhello"));
  RawClient lasting(loop, site.server.port());
  co_await lasting.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  std::string const first = co_await lasting.read_to("hello");
  EXPECT_NE(first.find("Connection: keep-alive\r\n"), std::string::npos);
  co_await lasting.send("GET /hello HTTP/1.0\r\n\r\n");
  std::string const second = co_await lasting.read_all();
  EXPECT_EQ(status_of(second), 200);
  RawClient stream(loop, site.server.port());
  co_await stream.send("GET /chunks HTTP/1.0\r\n\r\n");
  std::string const body = co_await stream.read_all();
  EXPECT_TRUE(body.ends_with("\r\n\r\nchunk 0\nchunk 1\nchunk 2\nchunk 3\nchunk 4\n")) << body;
  co_await site.stop();
}

CORO_TEST(Server, TakesAChunkedBodyInAnyPieces) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  std::string const request =
      "POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
      "5;name=value\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n";
  for (char const c : request) {
    co_await client.send(std::string(1, c));
    co_await async::yield();
  }
  std::string const answer = co_await client.read_all();
  EXPECT_TRUE(answer.ends_with("\r\n\r\nhello world")) << answer;
  EXPECT_EQ(site.site.last->headers.find("X-Trailer"), nullptr);
  co_await site.stop();
}

CORO_TEST(Server, SaysContinueBeforeItReadsABodyThatWaitsForIt) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send(
      "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n"
      "Connection: close\r\n\r\n");
  std::string const go_on = co_await client.read_to("\r\n\r\n");
  EXPECT_EQ(go_on, "HTTP/1.1 100 Continue\r\n\r\n");
  co_await client.send("body");
  std::string const answer = co_await client.read_all();
  EXPECT_TRUE(answer.ends_with("\r\n\r\nbody"));
  co_await site.stop();
}

CORO_TEST(Server, AnswersAClientThatHasClosedItsSendingSide) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send(get("/slow"));
  client.shut_writes();
  while (site.site.slow_waiting == 0) co_await async::yield();
  site.site.release.set();
  std::string const answer = co_await client.read_all();
  EXPECT_TRUE(answer.ends_with("\r\n\r\nslow"));
  co_await site.stop();
}

CORO_TEST(Server, StreamsInChunksAndKeepsTheConnection) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send(get("/chunks") + get("/hello", "Connection: close\r\n"));
  std::string const stream = co_await client.read_to("0\r\n\r\n");
  EXPECT_NE(stream.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_NE(stream.find("\r\n\r\n8\r\nchunk 0\n\r\n8\r\nchunk 1\n\r\n"), std::string::npos)
      << stream;
  std::string const next = co_await client.read_all();
  EXPECT_TRUE(next.ends_with("\r\n\r\nhello"));
  co_await site.stop();
}

CORO_TEST(Server, SendsABigBodyToAClientThatReadsLate) {
  TestServer site(loop);
  Response const response = co_await fetch(site.endpoint(), {.target = "/big"}, kPatience);
  EXPECT_EQ(response.body.size(), 8U * 1024 * 1024);
  co_await site.stop();
}

CORO_TEST(Server, AnswersAFailingHandlerWith500AndLogsWhy) {
  TestServer site(loop);
  ErrorLog log;
  Response const thrown = co_await fetch(site.endpoint(), {.target = "/throw?secret=1"}, kPatience);
  EXPECT_EQ(thrown.status, 500);
  EXPECT_EQ(thrown.headers.get("content-type"), "application/problem+json");
  EXPECT_EQ(thrown.body.find("thrown"), std::string::npos) << "the reason is for the log only";
  Response const injected = co_await fetch(site.endpoint(), {.target = "/inject"}, kPatience);
  EXPECT_EQ(injected.status, 500);
  EXPECT_EQ(injected.headers.find("Set-Cookie"), nullptr);
  CO_ASSERT_EQ(log.lines.size(), 2U);
  EXPECT_EQ(log.lines[0], "http: GET /throw failed: internal: thrown");
  co_await site.stop();
}

async::Task<void> keep_whole_answer(RawClient& client, std::string& answer) {
  answer = co_await client.read_all();
}

CORO_TEST(ServerStop, FinishesRequestsInFlightAndClosesIdleConnections) {
  TestServer site(loop);
  RawClient idle(loop, site.server.port());
  co_await idle.send(get("/hello"));
  std::string const first = co_await idle.read_to("hello");
  EXPECT_EQ(status_of(first), 200);
  RawClient silent(loop, site.server.port());
  RawClient busy(loop, site.server.port());
  co_await busy.send(get("/slow"));
  while (site.site.slow_waiting == 0) co_await async::yield();
  async::TaskGroup stopping(loop.executor(), "stopping");
  std::string rest;
  stopping.spawn("stop", site.stop());
  stopping.spawn("busy", keep_whole_answer(busy, rest));
  std::string const idle_end = co_await idle.read_all();
  EXPECT_EQ(idle_end, "");
  std::string const silent_end = co_await silent.read_all();
  EXPECT_EQ(silent_end, "");
  EXPECT_EQ(site.site.slow_waiting, 1);
  site.site.release.set();
  co_await stopping.join();
  EXPECT_TRUE(rest.ends_with("\r\n\r\nslow")) << rest;
  EXPECT_NE(rest.find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(site.server.connections(), 0U);
}

CORO_TEST(ServerStop, CancelsWhatHasNotFinishedByTheDeadline) {
  TestServer site(loop);
  RawClient stuck(loop, site.server.port());
  co_await stuck.send(get("/slow"));
  while (site.site.slow_waiting == 0) co_await async::yield();
  co_await site.server.stop(milliseconds(10));
  EXPECT_EQ(site.server.connections(), 0U);
  std::string const answer = co_await stuck.read_all();
  EXPECT_EQ(answer, "");
}

CORO_TEST(ServerStop, EndsAnEndlessStreamCleanly) {
  TestServer site(loop);
  RawClient client(loop, site.server.port());
  co_await client.send(get("/feed"));
  std::string const begin = co_await client.read_to("hello\n\r\n");
  EXPECT_EQ(status_of(begin), 200);
  co_await site.server.stop(kPatience);
  std::string const end = co_await client.read_all();
  EXPECT_EQ(end, "0\r\n\r\n");
  EXPECT_EQ(site.site.streams_cancelled, 1);
}

}  // namespace
}  // namespace aether::http
