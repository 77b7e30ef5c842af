// SPDX-License-Identifier: Apache-2.0
#include "tools/web.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace aether::tools {
namespace {

TEST(JudgeStatus, SaysYesNoOrThatNobodyKnows) {
  struct Row {
    std::string_view method;
    int status;
    Verdict verdict;
  };
  Verdict const yes{.outcome = EffectOutcome::Ok};
  Verdict const no{.outcome = EffectOutcome::Error};
  Verdict const later{.outcome = EffectOutcome::Error, .retryable = true};
  Verdict const unknown{.outcome = EffectOutcome::Unknown};
  std::vector<Row> const rows{
      {"POST", 200, yes},     {"POST", 204, yes},   {"POST", 303, yes},   {"POST", 302, unknown},
      {"POST", 307, no},      {"POST", 400, no},    {"POST", 404, no},    {"POST", 409, no},
      {"POST", 429, later},   {"POST", 500, later}, {"POST", 503, later}, {"POST", 502, unknown},
      {"POST", 504, unknown}, {"GET", 502, later},  {"GET", 301, no},     {"POST", 501, no}};
  for (Row const& row : rows)
    EXPECT_EQ(judge_status(row.method, row.status), row.verdict) << row.method << row.status;
}

TEST(RetryAfter, IsSecondsAndNothingElse) {
  http::Response response;
  EXPECT_FALSE(retry_after(response));
  response.headers.set("Retry-After", "7");
  EXPECT_EQ(retry_after(response), std::chrono::seconds(7));
  response.headers.set("Retry-After", "4000000000");
  EXPECT_EQ(retry_after(response), std::chrono::hours(24));
  response.headers.set("Retry-After", "Sat, 21 Nov 2026 03:14:15 GMT");
  EXPECT_FALSE(retry_after(response));
}

TEST(RedirectTarget, IsFoundFromWhereTheRequestWas) {
  http::Url const from = http::parse_web_url("https://a.example:8443/x/y?q=1").value();
  auto const text = [&](std::string_view location) {
    auto const url = redirect_target(from, location);
    return url ? url->text() : std::string("none");
  };
  EXPECT_EQ(text("http://b.example/z#part"), "http://b.example/z");
  EXPECT_EQ(text("/z?r=2"), "https://a.example:8443/z?r=2");
  EXPECT_EQ(text("z"), "https://a.example:8443/x/z");
  EXPECT_EQ(text("?r=2"), "https://a.example:8443/x/y?r=2");
  EXPECT_EQ(text("//b.example/z"), "https://b.example/z");
  EXPECT_EQ(text("z?at=12:30"), "https://a.example:8443/x/z?at=12:30");
  EXPECT_EQ(text("file:///etc/passwd"), "none");
  EXPECT_EQ(text(""), "none");
}

TEST(Hosts, AreAllowedByNameSuffixOrPort) {
  auto const allowed = [](std::vector<std::string> const& hosts, std::string_view url) {
    return is_host_allowed(hosts, http::parse_web_url(url).value());
  };
  EXPECT_TRUE(allowed({}, "http://anything/"));
  EXPECT_TRUE(allowed({"api.example.com"}, "https://API.example.com/x"));
  EXPECT_FALSE(allowed({"api.example.com"}, "https://api.example.com.evil.org/"));
  EXPECT_TRUE(allowed({"*.example.com"}, "https://api.example.com/"));
  EXPECT_FALSE(allowed({"*.example.com"}, "https://example.com/"));
  EXPECT_FALSE(allowed({"*.example.com"}, "https://badexample.com/"));
  EXPECT_TRUE(allowed({"127.0.0.1:8080"}, "http://127.0.0.1:8080/"));
  EXPECT_FALSE(allowed({"127.0.0.1:8080"}, "http://127.0.0.1:8081/"));
  EXPECT_TRUE(allowed({"[::1]:8080"}, "http://[::1]:8080/"));
}

TEST(DescribeRequest, LeavesTheQueryOut) {
  auto const url = http::parse_web_url("http://a.example/x?token=secret").value();
  EXPECT_EQ(describe_request("POST", url), "POST http://a.example/x");
}

TEST(JsonType, IsJsonWithParametersAndSuffixes) {
  EXPECT_TRUE(is_json_type("application/json"));
  EXPECT_TRUE(is_json_type("Application/JSON; charset=utf-8"));
  EXPECT_TRUE(is_json_type("application/problem+json"));
  EXPECT_FALSE(is_json_type("text/plain"));
  EXPECT_FALSE(is_json_type(""));
}

}  // namespace
}  // namespace aether::tools
