// SPDX-License-Identifier: Apache-2.0
#include "http/head.h"

#include <gtest/gtest.h>

#include "http/problem.h"

namespace aether::http {
namespace {

using std::chrono::seconds;

WallTime const kTime{seconds(784111777)};  // the example of RFC 9110, 5.6.7

TEST(HttpDate, IsWrittenAsTheRfcShowsIt) {
  EXPECT_EQ(http_date(kTime), "Sun, 06 Nov 1994 08:49:37 GMT");
  EXPECT_EQ(http_date(WallTime{seconds(0)}), "Thu, 01 Jan 1970 00:00:00 GMT");
}

TEST(ResponseHead, SaysHowTheBodyEnds) {
  Response const response{.status = 200, .headers = {{"X-A", "1"}, {"Content-Length", "99"}}};
  EXPECT_EQ(response_head(response, {.length = 3, .date = kTime}).value(),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-A: 1\r\n"
            "Content-Length: 3\r\n\r\n");
  HeadOptions const chunked{.framing = Framing::Chunked, .keep_alive = false, .date = kTime};
  EXPECT_TRUE(response_head(response, chunked)
                  .value()
                  .ends_with("Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"));
}

TEST(ResponseHead, RefusesWhatWouldBreakOutOfItsHeader) {
  for (Headers const& headers : {Headers{{"X", "a\nb"}}, Headers{{"X", std::string("a\0b", 3)}},
                                 Headers{{"X Y", "a"}}, Headers{{"", "a"}}, Headers{{"X:", "a"}}}) {
    EXPECT_FALSE(response_head({.headers = headers}, {}));
  }
  EXPECT_FALSE(response_head({.status = 99}, {}));
  EXPECT_FALSE(response_head({.status = 600}, {}));
}

TEST(Headers, AreFoundWhateverTheirCase) {
  Headers headers{{"Content-Type", "a"}, {"X", "1"}, {"x", "2"}};
  EXPECT_EQ(headers.get("content-TYPE"), "a");
  EXPECT_EQ(headers.get("X"), "1");
  EXPECT_EQ(headers.find("Y"), nullptr);
  headers.set("x", "3");
  EXPECT_EQ(headers.size(), 2U);
  EXPECT_EQ(headers.get("X"), "3");
}

TEST(Problem, QuotesWhatItRepeats) {
  EXPECT_EQ(problem(400, "a \"b\" \\ \n\xff").body,
            R"({"type":"about:blank","title":"Bad Request","status":400,)"
            R"("detail":"a \"b\" \\ \u000a\u00ff"})");
}

}  // namespace
}  // namespace aether::http
