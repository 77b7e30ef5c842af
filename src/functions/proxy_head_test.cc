// SPDX-License-Identifier: Apache-2.0
#include "functions/proxy_head.h"

#include <string>

#include <gtest/gtest.h>

namespace aether::functions {
namespace {

int status_for(std::string const& head) {
  RequestHead request;
  auto const parsed = parse_request_head(head, request);
  return parsed ? 200 : parsed.error().status;
}

int status_with(std::string const& fields) {
  return status_for("POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n");
}

TEST(ProxyHead, IsFoundWhereItsEmptyLineIsHoweverItComesIn) {
  std::string const whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n";
  for (std::size_t piece = 1; piece <= whole.size(); ++piece) {
    HeadScan scan;
    std::size_t came = 0;
    auto step = HeadScan::Step::NeedMore;
    while (step == HeadScan::Step::NeedMore && came < whole.size()) {
      came = std::min(whole.size(), came + piece);
      step = scan.advance(std::string_view(whole).substr(0, came));
    }
    EXPECT_EQ(step, HeadScan::Step::Done);
    EXPECT_EQ(scan.length(), whole.find("body"));
  }
}

TEST(ProxyHead, WithALineThatEndsInLfAloneIsRefusedFromClientsOnly) {
  HeadScan strict;
  EXPECT_EQ(strict.advance("GET / HTTP/1.1\nHost: a\n\n"), HeadScan::Step::BareLineEnd);
  HeadScan lenient;
  lenient.lenient = true;
  EXPECT_EQ(lenient.advance("HTTP/1.1 200 OK\nA: b\n\nrest"), HeadScan::Step::Done);
  EXPECT_EQ(lenient.length(), 22U);
}

TEST(ProxyHead, OfAnOrdinaryRequestIsRead) {
  RequestHead request;
  std::string const head =
      "PUT /a?b=c HTTP/1.1\r\nhost: example:80\r\nX-One:  two \t\r\nContent-Length: 17\r\n\r\n";
  ASSERT_TRUE(parse_request_head(head, request));
  EXPECT_EQ(request.method, "PUT");
  EXPECT_EQ(request.target, "/a?b=c");
  EXPECT_EQ(request.authority, "example:80");
  EXPECT_EQ(find_field(request.fields, "x-one"), "two");
  EXPECT_EQ(request.body.kind, BodyKind::Length);
  EXPECT_EQ(request.body.length, 17U);
  EXPECT_TRUE(request.keep_alive);
}

TEST(ProxyHead, InAbsoluteFormNamesHostAndPath) {
  RequestHead request;
  ASSERT_TRUE(parse_request_head("GET HTTP://b:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n", request));
  EXPECT_EQ(request.authority, "b:1");
  EXPECT_EQ(request.target, "/p?q");
  ASSERT_TRUE(parse_request_head("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", request));
  EXPECT_EQ(request.target, "/");
  EXPECT_EQ(status_for("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
}

TEST(ProxyHead, ThatTwoReadersCouldReadDifferentlyIsRefused) {
  EXPECT_EQ(status_with("Content-Length: 3\r\nContent-Length: 4\r\n"), 400);
  EXPECT_EQ(status_with("Content-Length: 3\r\nContent-Length: 3\r\n"), 400);
  EXPECT_EQ(status_with("Content-Length: 3, 3\r\n"), 400);
  EXPECT_EQ(status_with("Content-Length: +3\r\n"), 400);
  EXPECT_EQ(status_with("Content-Length: -3\r\n"), 400);
  EXPECT_EQ(status_with("Content-Length: 0x3\r\n"), 400);
  EXPECT_EQ(status_with("Content-Length:\r\n"), 400);
  EXPECT_EQ(status_with("Content-Length: 99999999999999999999\r\n"), 400);
  EXPECT_EQ(status_with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400);
  EXPECT_EQ(status_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400);
  EXPECT_EQ(status_with("Transfer-Encoding: gzip, chunked\r\n"), 501);
  EXPECT_EQ(status_with("Transfer-Encoding: xchunked\r\n"), 501);
  EXPECT_EQ(status_with("Transfer-Encoding: \x0b"
                        "chunked\r\n"),
            400);
  EXPECT_EQ(status_with("X: a\r\n b\r\n"), 400);
  EXPECT_EQ(status_with("X : a\r\n"), 400);
  EXPECT_EQ(status_with(" X: a\r\n"), 400);
  EXPECT_EQ(status_with("X\r\n"), 400);
  EXPECT_EQ(status_with(std::string("X: a\0b\r\n", 8)), 400);
  EXPECT_EQ(status_with("X: a\rb\r\n"), 400);
  EXPECT_EQ(status_with("Host: b\r\n"), 400);
  EXPECT_EQ(status_with("Transfer-Encoding: Chunked\r\n"), 200);
}

TEST(ProxyHead, WithABrokenFirstLineIsRefused) {
  EXPECT_EQ(status_for("GET /\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET / a HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("G(T / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET x HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
  EXPECT_EQ(status_for("GET / HTTX/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_for("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
  EXPECT_EQ(status_for("GET / HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(status_for("GET / HTTP/1.0\r\n\r\n"), 200);
  EXPECT_EQ(status_for("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
}

TEST(ProxyHead, SaysWhetherTheConnectionGoesOn) {
  RequestHead request;
  ASSERT_TRUE(parse_request_head("GET / HTTP/1.0\r\n\r\n", request));
  EXPECT_FALSE(request.keep_alive);
  ASSERT_TRUE(parse_request_head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", request));
  EXPECT_TRUE(request.keep_alive);
  ASSERT_TRUE(
      parse_request_head("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", request));
  EXPECT_FALSE(request.keep_alive);
}

TEST(ProxyHead, AsksForAnUpgradeOnlyIfItNamesOneAndHttp2IsNone) {
  RequestHead request;
  std::string const with = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n";
  ASSERT_TRUE(parse_request_head(with + "Upgrade: websocket\r\n\r\n", request));
  EXPECT_TRUE(request.asks_upgrade);
  ASSERT_TRUE(parse_request_head(with + "Upgrade: h2c\r\n\r\n", request));
  EXPECT_FALSE(request.asks_upgrade);
  ASSERT_TRUE(parse_request_head(with + "\r\n", request));
  EXPECT_FALSE(request.asks_upgrade);
}

std::string wrong_with(std::string const& head) {
  AnswerHead answer;
  auto const parsed = parse_answer_head(head, answer);
  return parsed ? "" : parsed.error();
}

TEST(ProxyHead, OfAnAnswerIsRead) {
  AnswerHead answer;
  ASSERT_TRUE(parse_answer_head("HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n", answer));
  EXPECT_EQ(answer.status, 404);
  EXPECT_EQ(answer.reason, "Not Found");
  EXPECT_EQ(answer.body.kind, BodyKind::UntilClose);
  EXPECT_FALSE(answer.keep_alive);
  ASSERT_TRUE(parse_answer_head("HTTP/1.1 200\nContent-Length: 0\n\n", answer));
  EXPECT_EQ(answer.body.kind, BodyKind::Length);
  EXPECT_EQ(answer.body.length, 0U);
  EXPECT_TRUE(answer.keep_alive);
}

TEST(ProxyHead, OfAnAnswerThatIsNoneSaysWhy) {
  EXPECT_NE(wrong_with("SSH-2.0-OpenSSH\r\n\r\n"), "");
  EXPECT_NE(wrong_with("HTTP/1.1 20 OK\r\n\r\n"), "");
  EXPECT_NE(wrong_with("HTTP/1.1 2000\r\n\r\n"), "");
  EXPECT_NE(wrong_with("HTTP/1.1 099 X\r\n\r\n"), "");
  EXPECT_NE(wrong_with("HTTP/1.1 200 OK\r\nbroken\r\n\r\n"), "");
  EXPECT_NE(wrong_with("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), "");
  EXPECT_NE(wrong_with("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), "");
}

}  // namespace
}  // namespace aether::functions
