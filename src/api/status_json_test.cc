// SPDX-License-Identifier: Apache-2.0
#include "api/status_json.h"

#include <chrono>
#include <set>
#include <string>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "api/fake_control_plane.h"
#include "api/metrics.h"

namespace aether::api {
namespace {

namespace json = boost::json;
using std::chrono::milliseconds;

relay::SwapReport report() {
  relay::SwapReport swap;
  swap.id = SwapId{7};
  swap.old = RevisionId{1};
  swap.next = RevisionId{2};
  swap.old_pid = 100;
  swap.next_pid = 200;
  swap.reason = "SIGHUP";
  swap.verdict = relay::Verdict::Succeeded;
  swap.phases = {{"preflight", milliseconds(2)}, {"launching", milliseconds(40)}};
  swap.blackout = std::chrono::microseconds(500);
  swap.handoff = relay::HandoffReport{
      .bytes = 51200, .mechanism = "pipe", .quiesce_took = milliseconds(1), .export_took = {}};
  return swap;
}

TEST(SwapJson, HasThePhasesInOrderAndTheirSum) {
  json::object const swap = swap_json("web", report());
  EXPECT_EQ(swap.at("service").as_string(), "web");
  EXPECT_EQ(swap.at("verdict").as_string(), "succeeded");
  EXPECT_EQ(swap.at("phases").at(1).at("name").as_string(), "launching");
  EXPECT_DOUBLE_EQ(swap.at("total_ms").as_double(), 42.0);
  EXPECT_DOUBLE_EQ(swap.at("blackout_ms").as_double(), 0.5);
  EXPECT_EQ(swap.at("handoff").at("bytes").to_number<int>(), 51200);
  EXPECT_TRUE(swap.at("handoff").at("export_ms").is_null()) << "what was not told is null, not 0";
}

TEST(SwapJson, SaysNullForWhatThereWasNot) {
  relay::SwapReport swap;
  json::object const said = swap_json("web", swap);
  for (char const* const key :
       {"old_pid", "pid", "blackout_ms", "rollback_ms", "serving_revision", "handoff"}) {
    EXPECT_TRUE(said.at(key).is_null()) << key;
  }
  EXPECT_TRUE(said.at("phases").as_array().empty());
}

TEST(StatusJson, HasTheFieldsOfTheSeedForTheFirstService) {
  relay::ServiceStatus web = testing::serving("web");
  web.old_pid = 99;
  web.last_swap = report();
  json::object const status =
      status_json({.version = "1.2.3", .pid = 1, .config_path = "a.yaml", .uptime = Duration{}},
                  {web, testing::serving("store")});
  EXPECT_EQ(status.at("fsm_state").as_string(), "RUNNING");
  EXPECT_EQ(status.at("current_pid").as_int64(), 4711);
  EXPECT_EQ(status.at("old_pid").as_int64(), 99);
  EXPECT_EQ(status.at("last_handover").at("status").as_string(), "succeeded");
  EXPECT_EQ(status.at("last_handover").at("size_bytes").to_number<int>(), 51200);
  EXPECT_EQ(status.at("services").as_array().size(), 2U);
}

TEST(ServiceJson, ListsRevisionsThatStillDrain) {
  relay::ServiceStatus web = testing::serving("web");
  web.draining = {{.revision = RevisionId{2}, .pid = 77, .stage = "waiting", .connections = 5},
                  {.revision = RevisionId{3}, .stage = "killing"}};
  json::array const draining = service_json(web).at("draining").as_array();
  EXPECT_EQ(draining.at(0).at("pid").as_int64(), 77);
  EXPECT_EQ(draining.at(0).at("stage").as_string(), "waiting");
  EXPECT_EQ(draining.at(0).at("connections").to_number<int>(), 5);
  EXPECT_TRUE(draining.at(1).at("connections").is_null()) << "what is not known is null, not 0";
}

TEST(StatusJson, HasThePacketsOfEachPortOnlyWhereTheyAreCounted) {
  EXPECT_FALSE(status_json({}, {}).contains("packets"));
  PortPackets const port{.kind = PortPackets::Owner::Service,
                         .owner = "web",
                         .protocol = "udp",
                         .port = 53,
                         .pids = {7, 8},
                         .packets = 3,
                         .bytes = 200,
                         .dropped = 1};
  json::object const status = status_json(
      {.packets = PacketCounts{.interface = "lo", .mode = "native", .ports = {port}}}, {});
  EXPECT_EQ(json::serialize(status.at("packets")),
            R"({"interface":"lo","mode":"native","rate":null,"burst":null,"ports":[)"
            R"({"service":"web","protocol":"udp","port":53,"pids":[7,8],)"
            R"("packets":3,"bytes":200,"dropped":1}]})");
}

TEST(StatusJson, WithoutServicesIsStillAnAnswer) {
  json::object const status = status_json({}, {});
  EXPECT_TRUE(status.at("services").as_array().empty());
  EXPECT_FALSE(status.contains("fsm_state"));
}

TEST(ServiceJson, SurvivesTextWithQuotesAndControls) {
  relay::ServiceStatus web = testing::serving("web");
  web.problem = "it said \"no\"\n\x01 and went";
  std::string const text = json::serialize(service_json(web));
  EXPECT_EQ(json::parse(text).at("problem").as_string(), *web.problem);
}

TEST(ProblemJson, HasTheStableCodeAndTheCure) {
  json::object const problem =
      problem_json(Error(ErrorCode::SwapRunning, "a swap is running"), 409);
  EXPECT_EQ(problem.at("type").as_string(), "urn:aether:error:swap-running");
  EXPECT_EQ(problem.at("code").as_string(), "swap-running");
  EXPECT_EQ(problem.at("status").as_int64(), 409);
  EXPECT_EQ(problem.at("detail").as_string(), "a swap is running");
  EXPECT_FALSE(problem.at("title").as_string().empty());
  EXPECT_FALSE(problem.at("cure").as_string().empty());
}

TEST(HttpStatus, TellsWhoseFaultItIs) {
  EXPECT_EQ(http_status(ErrorCode::SwapRunning), 409);
  EXPECT_EQ(http_status(ErrorCode::ServiceUnknown), 404);
  EXPECT_EQ(http_status(ErrorCode::Forbidden), 403);
  EXPECT_EQ(http_status(ErrorCode::RequestInvalid), 400);
  EXPECT_EQ(http_status(ErrorCode::ConfigInvalid), 422);
  EXPECT_EQ(http_status(ErrorCode::NotRunning), 503);
  EXPECT_EQ(http_status(ErrorCode::Internal), 500);
}

TEST(StateNumber, IsDifferentForEachStateOfTheSeed) {
  std::set<int> numbers;
  for (char const* const state : {"RUNNING", "SOAKING", "DRAINING", "PRE_CHECKING", "STARTING",
                                  "HANDSHAKING", "PENDING", "STOPPED", "FAILED"}) {
    numbers.insert(state_number(state));
  }
  EXPECT_EQ(numbers.size(), 9U);
  EXPECT_EQ(state_number("RUNNING"), 0);
  EXPECT_EQ(state_number("NO SUCH STATE"), -1);
}

TEST(Metrics, PageForgetsRevisionsThatAreGone) {
  EventFeed feed;
  Metrics metrics(feed);
  relay::ServiceStatus web = testing::serving("web");
  web.instances = {{.revision = RevisionId{1}, .memory_bytes = 10}};
  EXPECT_TRUE(metrics.page({}, {web}).contains(R"(revision="1")"));
  web.instances = {{.revision = RevisionId{2}, .memory_bytes = 10}};
  std::string const page = metrics.page({}, {web});
  EXPECT_FALSE(page.contains(R"(revision="1")"));
  EXPECT_TRUE(page.contains(R"(revision="2")"));
}

TEST(Metrics, SeesEachSwapAndTellsTheFeed) {
  EventFeed feed;
  Metrics metrics(feed);
  metrics.phase_ended("web", "launching", milliseconds(40));
  metrics.swap_ended("web", report());
  metrics.restarted("web", "crash");
  metrics.state_changed("web", "SOAKING");
  metrics.reaped(3);
  std::string const page = metrics.page({}, {});
  EXPECT_TRUE(page.contains("aeterna_handover_duration_seconds_count{phase=\"launching\""));
  EXPECT_TRUE(page.contains("aeterna_restarts_total{reason=\"crash\",service=\"web\"} 1"));
  EXPECT_TRUE(page.contains("aether_handoff_bytes_total{service=\"web\"} 51200"));
  EXPECT_TRUE(page.contains("aether_reaped_total 3"));
  auto const events = feed.after(0);
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].type, "swap");
  EXPECT_EQ(events[1].type, "restart");
  EXPECT_EQ(events[2].type, "state");
}

}  // namespace
}  // namespace aether::api
