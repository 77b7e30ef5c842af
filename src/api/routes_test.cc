// SPDX-License-Identifier: Apache-2.0
#include "api/routes.h"

#include <unistd.h>

#include <array>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "api/fake_control_plane.h"
#include "async/testing.h"

namespace aether::api {
namespace {

namespace json = boost::json;

/// Routes over a fake Aether.
struct House {
  SystemClock clock;
  testing::FakeControlPlane control{clock};
  EventFeed feed;
  Metrics metrics{feed};
  Routes routes{control, metrics, feed, clock};

  async::Task<http::Response> ask(http::Request request) {
    http::Response response = co_await routes.answer(std::move(request));
    co_return response;
  }
};

http::Request request(std::string method, std::string path, std::string body = {}) {
  http::Request made;
  made.method = std::move(method);
  made.target = path;
  made.path = std::move(path);
  made.body = std::move(body);
  made.peer = {.unix_socket = true, .pid = ::getpid(), .uid = ::geteuid()};
  return made;
}

std::string code_of(http::Response const& response) {
  json::value const body = json::parse(response.body);
  return std::string(body.at("code").as_string());
}

/// Collects what a stream writes, up to a number of pieces; then ends it as a lost client would.
class Collector final : public http::BodyWriter {
 public:
  explicit Collector(std::size_t pieces) : left_(pieces) {}
  async::Task<void> write(std::string bytes) override {
    text += bytes;
    if (--left_ == 0) throw Error(ErrorCode::Unreachable, "enough");
    co_return;
  }
  std::string text;

 private:
  std::size_t left_;
};

/// What the stream wrote in so many pieces.
async::Task<std::string> collect(http::Response const* response, std::size_t pieces) {
  Collector collector(pieces);
  try {
    co_await response->stream(collector);
  } catch (Error const&) {
    // It was ended by the collector.
  }
  co_return collector.text;
}

using Documented = std::set<std::tuple<std::string, std::string, std::string>>;

/// {method, path, x-right} of each operation in docs/openapi.yaml, which is indented by two.
Documented documented() {
  std::ifstream file(AETHER_OPENAPI);
  EXPECT_TRUE(file) << AETHER_OPENAPI;
  Documented all;
  std::string path;
  std::string method;
  for (std::string line; std::getline(file, line) && line != "components:";) {
    if (line.starts_with("  /")) path = line.substr(2, line.rfind(':') - 2);
    if (line == "    get:") method = "GET";
    if (line == "    post:") method = "POST";
    if (line == "    delete:") method = "DELETE";
    constexpr std::string_view kRight = "      x-right: ";
    if (line.starts_with(kRight)) all.emplace(method, path, line.substr(kRight.size()));
  }
  return all;
}

std::string right_name(Right right) {
  switch (right) {
    case Right::Open:
      return "open";
    case Right::Look:
      return "look";
    case Right::ReadLogs:
      return "read-logs";
    case Right::ReadJobs:
      return "read-jobs";
    case Right::Submit:
      return "submit";
    case Right::Approve:
      return "approve";
    case Right::Operate:
      return "operate";
    case Right::Audit:
      return "audit";
    case Right::Work:
      return "work";
    case Right::Change:
      break;
  }
  return "change";
}

TEST(Routes, AreThoseOfTheOpenApiFileWithTheirRights) {
  Documented have;
  for (RouteInfo const& route : routes()) {
    have.emplace(route.method, route.path, right_name(route.right));
  }
  EXPECT_EQ(have, documented());
}

CORO_TEST(Routes, AreAllAnswered) {
  for (RouteInfo const& route : routes()) {
    House house;
    std::string path(route.path);
    // job_routes_test.cc and work_routes_test.cc ask these.
    if (path.starts_with("/v1/jobs") || path == "/v1/audit" || path == "/v1/checkpoint") continue;
    if (path.starts_with("/v1/work")) continue;
    std::string const name = path.starts_with("/v1/functions") ? "hello" : "web";
    if (auto at = path.find("{name}"); at != std::string::npos) path.replace(at, 6, name);
    if (auto at = path.find("{swap}"); at != std::string::npos) path.replace(at, 6, "1");
    std::string const body = path == "/v1/functions" ? R"({"file": "/etc/hello.yaml"})" : "";
    http::Request asked = request(std::string(route.method), path, body);
    http::Response const response = co_await house.ask(std::move(asked));
    EXPECT_LT(response.status, 300) << route.method << " " << path << ": " << response.body;
  }
}

CORO_TEST(Routes, WithAnotherMethodSayWhichOnesAreAllowed) {
  House house;
  std::vector<std::array<std::string, 3>> const wrong{{"POST", "/health", "GET"},
                                                      {"DELETE", "/v1/status", "GET"},
                                                      {"GET", "/v1/reload", "POST"},
                                                      {"PUT", "/v1/services/web/logs", "GET"}};
  for (auto const& [method, path, allowed] : wrong) {
    http::Request asked = request(method, path);
    http::Response const response = co_await house.ask(std::move(asked));
    EXPECT_EQ(response.status, 405) << method << " " << path;
    EXPECT_EQ(response.headers.get("Allow"), allowed);
    EXPECT_EQ(response.headers.get("Content-Type"), "application/problem+json");
  }
}

CORO_TEST(Routes, WithAnotherPathAreNotFound) {
  House house;
  std::vector<std::pair<std::string, std::string>> const wrong{{"GET", "/"},
                                                               {"GET", "/v2/status"},
                                                               {"GET", "/v1/services/web/logs/1"},
                                                               {"GET", "//v1/status"},
                                                               {"GET", "*"}};
  for (auto const& [method, path] : wrong) {
    http::Request asked = request(method, path);
    http::Response const response = co_await house.ask(std::move(asked));
    EXPECT_EQ(response.status, 404) << method << " " << path;
    EXPECT_EQ(response.headers.get("Content-Type"), "application/problem+json");
  }
}

CORO_TEST(Routes, AnswerOnlyWhoMayAsk) {
  House house;
  struct Case {
    http::Peer peer;
    bool origin;
    bool may;
  };
  uid_t const me = ::geteuid();
  std::vector<Case> const cases{
      {{.unix_socket = true, .uid = me}, false, true},
      {{.unix_socket = true, .uid = 0}, false, true},
      {{.unix_socket = true, .uid = me + 1}, false, false},
      {{.uid = me, .address = "127.0.0.1:1", .loopback = true}, false, true},
      {{.uid = me, .address = "127.0.0.1:1", .loopback = true}, true, false},
      {{.address = "192.0.2.1:1"}, false, false},
      {{.address = "192.0.2.1:1", .loopback = false}, true, false},
  };
  for (Case const& one : cases) {
    for (std::string const path :
         {"/v1/status", "/v1/events", "/v1/services/web/logs", "/nothing"}) {
      http::Request asked = request("GET", path);
      asked.peer = one.peer;
      if (one.origin) asked.headers.set("Origin", "http://evil.example");
      http::Response const response = co_await house.ask(std::move(asked));
      EXPECT_EQ(response.status != 403, one.may) << path << " from " << one.peer.address;
    }
    for (std::string const path : {"/health", "/metrics"}) {
      http::Request asked = request("GET", path);
      asked.peer = one.peer;
      http::Response const response = co_await house.ask(std::move(asked));
      EXPECT_EQ(response.status, 200);
    }
  }
}

CORO_TEST(Inspect, NamesTheEnvironmentAndKeepsItsValues) {
  House house;
  http::Request asked = request("GET", "/v1/services/web/inspect");
  http::Response const response = co_await house.ask(std::move(asked));
  EXPECT_EQ(response.status, 200);
  EXPECT_TRUE(response.body.contains("API_KEY"));
  EXPECT_FALSE(response.body.contains("do-not-show"));
  json::value const body = json::parse(response.body);
  EXPECT_EQ(body.at("configuration").at("stop_signal").as_string(), "SIGTERM");
}

CORO_TEST(Routes, TellWhichTokenIsWanted) {
  House house;
  house.routes.set_tokens({{.name = "ci", .role = Role::Viewer, .digest = digest_of("secret")}});
  http::Request stranger = request("GET", "/v1/status");
  stranger.peer = {.address = "192.0.2.1:1"};
  http::Response const unknown = co_await house.ask(stranger);
  EXPECT_EQ(unknown.status, 401);
  EXPECT_EQ(code_of(unknown), "unauthorized");
  EXPECT_EQ(unknown.headers.get("WWW-Authenticate"), R"(Bearer realm="aether")");
  stranger.headers.set("Authorization", "Bearer secret");
  http::Response const known = co_await house.ask(stranger);
  EXPECT_EQ(known.status, 200);
  stranger.method = "POST";
  stranger.path = "/v1/stop";
  http::Response const refused = co_await house.ask(stranger);
  EXPECT_EQ(refused.status, 403);
  EXPECT_TRUE(refused.body.contains("operator"));
  EXPECT_FALSE(house.control.stopped);
}

CORO_TEST(Routes, StopOnlyForWhoMayAsk) {
  House house;
  http::Request stranger = request("POST", "/v1/stop");
  stranger.peer = {.address = "192.0.2.1:1"};
  http::Response const refused = co_await house.ask(std::move(stranger));
  EXPECT_EQ(refused.status, 403);
  EXPECT_FALSE(house.control.stopped);
  http::Request friendly = request("POST", "/v1/stop");
  http::Response const accepted = co_await house.ask(std::move(friendly));
  EXPECT_EQ(accepted.status, 202);
  EXPECT_TRUE(house.control.stopped);
}

CORO_TEST(Reload, PassesOnWhatItWasToldAndAnswersAtOnce) {
  House house;
  http::Request asked =
      request("POST", "/v1/services/web/reload", R"({"reason": "new model", "force": true})");
  http::Response const response = co_await house.ask(std::move(asked));
  EXPECT_EQ(response.status, 202);
  EXPECT_EQ(response.body, R"({"swaps":[{"service":"web","swap":1}]})");
  CO_ASSERT_EQ(house.control.reloads.size(), 1U);
  ReloadCall const& call = house.control.reloads.front();
  EXPECT_EQ(call.service, "web");
  EXPECT_EQ(call.reason, "new model");
  EXPECT_TRUE(call.force);
}

CORO_TEST(Reload, WaitsForTheVerdictIfAsked) {
  House house;
  http::Request asked = request("POST", "/v1/reload");
  asked.query = {{"wait", "true"}};
  http::Response const response = co_await house.ask(std::move(asked));
  EXPECT_EQ(response.status, 200);
  json::value const body = json::parse(response.body);
  EXPECT_EQ(body.at("swaps").at(0).at("verdict").as_string(), "succeeded");
  CO_ASSERT_EQ(house.control.reloads.size(), 1U);
  EXPECT_FALSE(house.control.reloads.front().service);
}

CORO_TEST(Reload, OfABodyThatIsNoObjectIsRefused) {
  House house;
  for (std::string const body : {"{", "[]", "1", "null", "{}{}"}) {
    http::Request asked = request("POST", "/v1/reload", body);
    http::Response const response = co_await house.ask(std::move(asked));
    EXPECT_EQ(response.status, 400) << body;
  }
  EXPECT_TRUE(house.control.reloads.empty());
}

CORO_TEST(Reload, ThatIsRefusedTellsTheReasonAsAProblem) {
  House house;
  house.control.refusal = Error(ErrorCode::SwapRunning, "a swap is running (phase: soaking)");
  http::Request asked = request("POST", "/v1/reload");
  http::Response const response = co_await house.ask(std::move(asked));
  EXPECT_EQ(response.status, 409);
  EXPECT_EQ(code_of(response), "swap-running");
  EXPECT_TRUE(response.body.contains("phase: soaking"));
}

CORO_TEST(Health, NamesTheServicesThatDoNotServe) {
  House house;
  relay::ServiceStatus failed = testing::serving("store");
  failed.state = "FAILED";
  failed.pid = 0;
  failed.problem = "exited with code 1";
  house.control.all.push_back(failed);
  http::Request asked = request("GET", "/health");
  http::Response const response = co_await house.ask(std::move(asked));
  EXPECT_EQ(response.status, 503);
  EXPECT_TRUE(response.body.contains("store"));
  EXPECT_FALSE(response.body.contains("web"));
}

CORO_TEST(Health, IsGoodWhileASwapRuns) {
  House house;
  for (std::string const state : {"SOAKING", "DRAINING", "PRE_CHECKING", "HANDSHAKING"}) {
    house.control.all.front().state = state;
    http::Request asked = request("GET", "/health");
    http::Response const response = co_await house.ask(std::move(asked));
    EXPECT_EQ(response.status, 200) << state;
  }
}

CORO_TEST(Logs, GiveTheLastLinesAndRefuseWhatIsNoNumber) {
  House house;
  for (std::string const text : {"one", "two", "three"}) house.control.book.append({.text = text});
  http::Request asked = request("GET", "/v1/services/web/logs");
  asked.query = {{"tail", "2"}};
  http::Response const response = co_await house.ask(std::move(asked));
  EXPECT_EQ(response.status, 200);
  EXPECT_FALSE(response.body.contains("one"));
  EXPECT_TRUE(response.body.contains("two"));
  EXPECT_TRUE(response.body.ends_with("\"three\"}\n")) << response.body;
  for (std::string const tail : {"-1", "many", "1x", "99999999999999999999999"}) {
    http::Request wrong = request("GET", "/v1/services/web/logs");
    wrong.query = {{"tail", tail}};
    http::Response const refused = co_await house.ask(std::move(wrong));
    EXPECT_EQ(refused.status, 400) << tail;
  }
}

CORO_TEST(Logs, ThatAreFollowedEndWhenTheServiceIsGone) {
  House house;
  house.control.book.append({.text = "last words"});
  house.control.book.close();
  http::Request asked = request("GET", "/v1/services/web/logs");
  asked.query = {{"follow", "true"}};
  http::Response const response = co_await house.ask(std::move(asked));
  EXPECT_TRUE(response.endless);
  std::string const text = co_await collect(&response, 100);
  EXPECT_TRUE(text.contains("last words"));
}

CORO_TEST(Events, AreGivenFromTheIdOnThatTheClientSawLast) {
  House house;
  for (std::string const what : {"one", "two", "three"}) {
    house.feed.add("state", json::serialize(json::object{{"what", what}}));
  }
  http::Request asked = request("GET", "/v1/events");
  asked.headers.set("Last-Event-ID", "1");
  http::Response const response = co_await house.ask(std::move(asked));
  EXPECT_EQ(response.headers.get("Content-Type"), "text/event-stream");
  std::string const text = co_await collect(&response, 2);
  EXPECT_TRUE(
      text.ends_with("id: 2\nevent: state\ndata: {\"what\":\"two\"}\n\n"
                     "id: 3\nevent: state\ndata: {\"what\":\"three\"}\n\n"))
      << text;
}

CORO_TEST(Events, OfAnEarlierAetherDoNotHideThoseOfThisOne) {
  House house;
  house.feed.add("state", "{}");
  http::Request asked = request("GET", "/v1/events");
  asked.headers.set("Last-Event-ID", "500");
  http::Response const response = co_await house.ask(std::move(asked));
  std::string const text = co_await collect(&response, 2);
  EXPECT_TRUE(text.contains("id: 1\n")) << text;
}

TEST(EventFeed, KeepsTheNewestOnly) {
  EventFeed feed;
  for (std::size_t i = 0; i < kEventsKept + 10; ++i) feed.add("state", "{}");
  EXPECT_EQ(feed.last_id(), kEventsKept + 10);
  auto const kept = feed.after(0);
  EXPECT_EQ(kept.size(), kEventsKept);
  EXPECT_EQ(kept.front().id, 11U);
  EXPECT_TRUE(feed.after(feed.last_id()).empty());
}

}  // namespace
}  // namespace aether::api
