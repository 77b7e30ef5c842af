// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <chrono>
#include <string>
#include <utility>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "api/fake_control_plane.h"
#include "api/routes.h"
#include "async/testing.h"

namespace aether::api {
namespace {

namespace json = boost::json;

/// Routes over a fake Aether with the function "hello".
struct FunctionHouse {
  SystemClock clock;
  testing::FakeControlPlane control{clock};
  EventFeed feed;
  Metrics metrics{feed};
  Routes routes{control, metrics, feed, clock};

  async::Task<http::Response> ask(std::string method, std::string path, std::string body = {}) {
    http::Request request;
    request.method = std::move(method);
    request.path = std::move(path);
    request.body = std::move(body);
    request.peer = {.unix_socket = true, .pid = ::getpid(), .uid = ::geteuid()};
    http::Response response = co_await routes.answer(std::move(request));
    co_return response;
  }
};

json::value parsed(http::Response const& response) {
  return json::parse(response.body);
}

CORO_TEST(FunctionRoutes, TellAllThatIsKnownOfAFunction) {
  FunctionHouse house;
  http::Response const response = co_await house.ask("GET", "/v1/functions/hello");
  EXPECT_EQ(response.status, 200);
  json::value const function = parsed(response);
  EXPECT_EQ(function.at("id").as_string(), "hello");
  EXPECT_EQ(function.at("state").as_string(), "RUNNING");
  EXPECT_EQ(function.at("trigger_port").to_number<int>(), 8080);
  EXPECT_EQ(function.at("notes").at(0).as_string(),
            "no reseeding hook: clones share random numbers");
  EXPECT_EQ(function.at("instances").at(1).at("state").as_string(), "warm");
  EXPECT_EQ(function.at("instances").at(1).at("tier").as_string(), "clone");
  json::object const& starts = function.at("starts").as_object();
  EXPECT_EQ(starts.size(), 2U) << "only tiers that occurred";
  EXPECT_EQ(starts.at("clone").at("count").to_number<int>(), 2);
  EXPECT_EQ(starts.at("clone").at("failed").to_number<int>(), 1);
  EXPECT_GE(starts.at("cold").at("p50_ms").to_number<double>(), 90);
  json::value const& requests = function.at("requests");
  EXPECT_EQ(requests.at("by_status").at("429").to_number<int>(), 1);
  EXPECT_EQ(requests.at("refusals").at("too_many").to_number<int>(), 1);
  EXPECT_EQ(requests.at("queued").to_number<int>(), 5);
}

CORO_TEST(FunctionRoutes, GiveTheCountsOfAHistogramByBucket) {
  FunctionHouse house;
  http::Response const response = co_await house.ask("GET", "/v1/functions/hello");
  json::value const function = parsed(response);
  json::array const& counts = function.at("requests").at("latency").at("counts").as_array();
  functions::DurationHistogram const& latency =
      house.control.all_functions.front().requests.latency;
  CO_ASSERT_LE(counts.size(), functions::DurationHistogram::kBuckets);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    EXPECT_EQ(counts[i].to_number<std::uint64_t>(), latency.counts()[i]) << i;
    sum += counts[i].to_number<std::uint64_t>();
  }
  EXPECT_EQ(sum, 3U);
}

CORO_TEST(FunctionRoutes, ListFunctionsAndShowThemInTheStatus) {
  FunctionHouse house;
  for (std::string const path : {"/v1/functions", "/v1/status"}) {
    http::Response const response = co_await house.ask("GET", path);
    EXPECT_EQ(response.status, 200);
    json::value const body = parsed(response);
    EXPECT_EQ(body.at("functions").at(0).at("id").as_string(), "hello") << path;
  }
}

CORO_TEST(FunctionRoutes, OfAFunctionThatIsNotThereSaySo) {
  FunctionHouse house;
  for (auto const& [method, path] : std::vector<std::pair<std::string, std::string>>{
           {"GET", "/v1/functions/nobody"},
           {"GET", "/v1/functions/nobody/inspect"},
           {"POST", "/v1/functions/nobody/rollback"}}) {
    http::Response const response = co_await house.ask(method, path);
    EXPECT_EQ(response.status, 404) << path;
    EXPECT_EQ(parsed(response).at("code").as_string(), "function-unknown") << path;
  }
}

CORO_TEST(FunctionRoutes, ShowTheConfigurationWithoutValuesOfTheEnvironment) {
  FunctionHouse house;
  http::Response const response = co_await house.ask("GET", "/v1/functions/hello/inspect");
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.body.contains("API_KEY"));
  EXPECT_FALSE(response.body.contains("do-not-show"));
  EXPECT_EQ(parsed(response).at("configuration").at("idle_timeout_ms").to_number<int>(), 60000);
  EXPECT_GE(parsed(response).at("sandbox_rules").as_array().size(), 3U) << "those of basic";
}

CORO_TEST(Deploy, TakesAFileOfThisMachine) {
  FunctionHouse house;
  http::Response const response =
      co_await house.ask("POST", "/v1/functions", R"({"file": "/etc/hello.yaml"})");
  EXPECT_EQ(response.status, 200);
  CO_ASSERT_EQ(house.control.deploys.size(), 1U);
  EXPECT_EQ(house.control.deploys.front().file, "/etc/hello.yaml");
  EXPECT_FALSE(house.control.deploys.front().yaml);
  json::value const body = parsed(response);
  json::value const& deploy = body.at("deploys").at(0);
  EXPECT_EQ(deploy.at("verdict").as_string(), "succeeded");
  EXPECT_EQ(deploy.at("from_revision").to_number<int>(), 2);
  EXPECT_EQ(deploy.at("revision").to_number<int>(), 3);
}

CORO_TEST(Deploy, TakesAConfigurationAsItStands) {
  FunctionHouse house;
  // JSON is YAML: a whole configuration in it is one, too.
  for (std::string const text : {"functions:\n  - id: a\n", R"({"functions": [{"id": "a"}]})"}) {
    http::Response const response = co_await house.ask("POST", "/v1/functions", text);
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(house.control.deploys.back().yaml, text);
  }
}

CORO_TEST(Deploy, RefusesABodyThatNamesNothing) {
  FunctionHouse house;
  for (std::string const body : {"", R"({"file": "relative.yaml"})", R"({"file": 7})"}) {
    http::Response const response = co_await house.ask("POST", "/v1/functions", body);
    EXPECT_EQ(response.status, 400) << body;
  }
  EXPECT_TRUE(house.control.deploys.empty());
}

CORO_TEST(Deploy, ThatFailsTellsWhyAndWhoServesOn) {
  FunctionHouse house;
  house.control.deployed.failed = Error(ErrorCode::ExitedEarly, "exited with code 1");
  house.control.deployed.revision = RevisionId{2};
  http::Response const response =
      co_await house.ask("POST", "/v1/functions", R"({"file": "/etc/hello.yaml"})");
  EXPECT_EQ(response.status, 200);
  json::value const body = parsed(response);
  json::value const& deploy = body.at("deploys").at(0);
  EXPECT_EQ(deploy.at("verdict").as_string(), "failed");
  EXPECT_EQ(deploy.at("code").as_string(), "exited-early");
  EXPECT_EQ(deploy.at("why").as_string(), "exited with code 1");
  EXPECT_EQ(deploy.at("revision").to_number<int>(), 2);
}

CORO_TEST(Deploy, OfAFileWithMistakesIsAProblem) {
  FunctionHouse house;
  house.control.refusal = Error(ErrorCode::ConfigInvalid, "a.yaml:1:1: has no id");
  http::Response const response =
      co_await house.ask("POST", "/v1/functions", R"({"file": "/etc/hello.yaml"})");
  EXPECT_EQ(response.status, 422);
  EXPECT_EQ(response.headers.get("Content-Type"), "application/problem+json");
}

CORO_TEST(FunctionRoutes, ReloadWhatIsKnownAndRemove) {
  FunctionHouse house;
  http::Response const reloaded = co_await house.ask("POST", "/v1/functions/hello/reload");
  EXPECT_EQ(reloaded.status, 200);
  CO_ASSERT_EQ(house.control.deploys.size(), 1U);
  EXPECT_EQ(house.control.deploys.front().function, "hello");
  EXPECT_TRUE(house.control.deploys.front().file.empty());
  http::Response const rolled = co_await house.ask("POST", "/v1/functions/hello/rollback");
  EXPECT_EQ(rolled.status, 200);
  http::Response const removed = co_await house.ask("DELETE", "/v1/functions/hello");
  EXPECT_EQ(removed.status, 200);
  EXPECT_TRUE(house.control.all_functions.empty());
}

CORO_TEST(FunctionRoutes, GiveTheLogOfAFunction) {
  FunctionHouse house;
  house.control.book.append({.text = "hello there"});
  http::Response const response = co_await house.ask("GET", "/v1/functions/hello/logs");
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.body.contains("hello there"));
}

CORO_TEST(Health, NamesTheFunctionsThatCannotAnswer) {
  FunctionHouse house;
  house.control.all_functions.front().state = "FAILED";
  house.control.all_functions.front().problem = "exited with code 1";
  http::Response const response = co_await house.ask("GET", "/health");
  EXPECT_EQ(response.status, 503);
  EXPECT_TRUE(response.body.contains("hello"));
  EXPECT_TRUE(response.body.contains("exited with code 1"));
}

}  // namespace
}  // namespace aether::api
