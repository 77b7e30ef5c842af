// SPDX-License-Identifier: Apache-2.0
#include "api/metrics.h"

#include <chrono>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "api/fake_control_plane.h"
#include "api/metric_table.h"

namespace aether::api {
namespace {

using std::chrono::milliseconds;

/// A service of which everything can be told.
relay::ServiceStatus busy() {
  relay::ServiceStatus status = testing::serving("web");
  status.instances = {{.revision = RevisionId{2}, .memory_bytes = 1000},
                      {.revision = RevisionId{1}, .memory_bytes = 500}};
  status.draining = {
      {.revision = RevisionId{1}, .deadline = WallTime(std::chrono::hours(2)), .connections = 7}};
  status.percent = 25;
  status.listeners = {
      {.name = "http",
       .queued = 3,
       .overflows = 11,
       .shares = {{.revision = RevisionId{2}, .percent = 25, .hidden_ports = {}, .given = 40}}}};
  status.fd_store = {.count = 4, .max = 128, .refused = 2};
  status.rescued = 9;
  status.log_lines = 100;
  return status;
}

relay::SwapReport rolled_back() {
  relay::SwapReport report;
  report.verdict = relay::Verdict::RolledBack;
  report.phases = {{"preflight", milliseconds(1)},
                   {"soaking", milliseconds(5)},
                   {"rolling-back", milliseconds(2)}};
  report.rollback_took = milliseconds(2);
  return report;
}

relay::SwapReport succeeded() {
  relay::SwapReport report;
  report.verdict = relay::Verdict::Succeeded;
  report.blackout = milliseconds(3);
  report.handoff = relay::HandoffReport{.bytes = 4096, .mechanism = "pipe"};
  return report;
}

JobCounts busy_jobs() {
  JobCounts counts{.opened = 3, .events = 40, .failures = 1, .store_bytes = 65536};
  counts.closed["succeeded"] = 2;
  counts.steps["committed"] = 5;
  counts.calls["unknown"] = 1;
  counts.appends.add(milliseconds(4));
  return counts;
}

/// Metrics to which everything has happened.
struct BusyAether {
  EventFeed feed;
  Metrics metrics{feed};
  AetherInfo info{.version = "1.2.3",
                  .uptime = std::chrono::seconds(10),
                  .now = WallTime(std::chrono::hours(1)),
                  .control = {.connections = 5, .turned_away = 6},
                  .packets = PacketCounts{.interface = "lo",
                                          .mode = "generic",
                                          .ports = {{.owner = "hello",
                                                     .protocol = "tcp",
                                                     .port = 8080,
                                                     .packets = 12,
                                                     .bytes = 1300,
                                                     .dropped = 2}}}};

  BusyAether() {
    metrics.phase_ended("web", "launching", milliseconds(100));
    metrics.swap_ended("web", succeeded());
    metrics.swap_ended("web", rolled_back());
    metrics.restarted("web", "crash");
    metrics.part_given("web", RevisionId{2}, 25);
    metrics.state_changed("web", "RUNNING");
    metrics.answered("/v1/status", 200);
    metrics.refused("forbidden");
    metrics.reaped(3);
  }
  std::string page() {
    JobCounts const jobs = busy_jobs();
    return metrics.page(info, {busy()}, {testing::answering("hello")}, &jobs);
  }
};

std::set<std::string> names_of(std::string const& page) {
  std::set<std::string> names;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) names.insert(line.substr(7));
  }
  return names;
}

// Edge: H3
TEST(Metrics, OfTheTableAreAllOnThePageAndNoOthers) {
  BusyAether busy_aether;
  std::set<std::string> wanted;
  for (MetricInfo const& one : kMetrics) {
    wanted.insert(std::string(one.name) + " " + std::string(one.type));
    EXPECT_EQ(one.name.ends_with("_total"), one.type == "counter") << one.name;
    EXPECT_FALSE(one.meaning.ends_with(".")) << one.name;
  }
  EXPECT_EQ(wanted.size(), kMetrics.size());
  EXPECT_EQ(names_of(busy_aether.page()), wanted);
}

TEST(Metrics, SayWhatWasObserved) {
  BusyAether busy_aether;
  std::string const page = busy_aether.page();
  for (std::string const line :
       {R"(aeterna_process_state{service="web"} 0)",
        R"(aether_service_up{service="web"} 1)",
        R"(aether_instance_memory_bytes{revision="1",service="web"} 500)",
        R"(aether_fd_store_fds{service="web"} 4)",
        R"(aether_fd_store_refused_total{service="web"} 2)",
        R"(aether_log_lines_total{service="web"} 100)",
        R"(aether_accept_queue{listener="http",service="web"} 3)",
        R"(aether_accept_overflows_total{listener="http",service="web"} 11)",
        R"(aether_connections_given_total{listener="http",revision="2",service="web"} 40)",
        R"(aether_canary_percent{service="web"} 25)",
        R"(aether_rescued_connections_total{service="web"} 9)",
        R"(aether_rollbacks_total{phase="soaking",service="web"} 1)",
        R"(aether_rollback_seconds_count{service="web"} 1)",
        R"(aether_revisions{service="web"} 2)",
        R"(aether_drain_remaining_seconds{revision="1",service="web"} 3600)",
        "process_start_time_seconds 3590",
        R"(aether_drain_connections{revision="1",service="web"} 7)",
        R"(aether_api_refusals_total{code="forbidden"} 1)",
        R"(aether_api_requests_total{route="/v1/status",status="200"} 1)",
        R"(aether_api_turned_away_total{server="control"} 6)",
        R"(aether_build_info{version="1.2.3"} 1)",
        "aether_config_last_reload_successful 1",
        "aether_reaped_total 3"}) {
    EXPECT_TRUE(page.contains(line + "\n")) << line;
  }
}

TEST(Metrics, SayWhatWasObservedOfFunctions) {
  BusyAether busy_aether;
  std::string const page = busy_aether.page();
  for (std::string const line :
       {R"(function_restores_total{function="hello",tier="clone"} 2)",
        R"(function_restores_total{function="hello",tier="parked"} 0)",
        R"(function_restore_duration_seconds_count{function="hello",tier="clone"} 2)",
        R"(function_cold_starts_total{function="hello"} 1)",
        R"(warm_pool_size{function="hello"} 1)",
        R"(aether_function_up{function="hello"} 1)",
        R"(aether_function_revision{function="hello"} 3)",
        R"(aether_function_requests_total{function="hello",status="429"} 1)",
        R"(aether_function_request_duration_seconds_count{function="hello"} 3)",
        R"(aether_function_request_duration_seconds_sum{function="hello"} 0.006)",
        R"(aether_function_refusals_total{code="too_many",function="hello"} 1)",
        R"(aether_shm_crc_errors_total{function="hello"} 1)",
        R"(aether_shm_poisoned_total{function="hello",reason="checksum"} 1)",
        R"(aether_function_in_flight{function="hello"} 1)",
        R"(aether_function_queue_depth{function="hello"} 5)",
        R"(aether_function_instances{function="hello",state="template"} 1)",
        R"(aether_function_memory_bytes{function="hello"} 2500)",
        R"(aether_start_duration_seconds_count{function="hello",tier="cold"} 1)",
        R"(aether_function_start_failures_total{function="hello",tier="clone"} 1)",
        R"(aether_function_out_of_memory_total{function="hello"} 2)",
        R"(aether_function_crashes_total{function="hello"} 6)"}) {
    EXPECT_TRUE(page.contains(line + "\n")) << line << "\n" << page;
  }
}

TEST(Metrics, SayWhatWasObservedOfJobs) {
  BusyAether busy_aether;
  std::string const page = busy_aether.page();
  for (std::string const line :
       {R"(aether_jobs_opened_total 3)", R"(aether_jobs_closed_total{outcome="succeeded"} 2)",
        R"(aether_job_steps_total{outcome="committed"} 5)",
        R"(aether_job_calls_total{outcome="unknown"} 1)", R"(aether_journal_events_total 40)",
        R"(aether_journal_failures_total 1)", R"(aether_journal_append_seconds_count 1)",
        R"(aether_journal_store_bytes 65536)"}) {
    EXPECT_TRUE(page.contains(line + "\n")) << line << "\n" << page;
  }
}

TEST(Metrics, OfAHistogramGoOnWhenItBeginsAnew) {
  BusyAether busy_aether;
  functions::FunctionStatus function = testing::answering("hello");
  (void)busy_aether.metrics.page(busy_aether.info, {}, {function});
  function.requests.latency.add(milliseconds(1));
  (void)busy_aether.metrics.page(busy_aether.info, {}, {function});
  function.requests.latency = {};  // As of a function that was removed and deployed again.
  function.requests.latency.add(milliseconds(7));
  std::string const page = busy_aether.metrics.page(busy_aether.info, {}, {function});
  EXPECT_TRUE(
      page.contains("aether_function_request_duration_seconds_count{function=\"hello\"} 5\n"))
      << page;
}

TEST(Metrics, OfAHistogramCountEachValueUnderABoundThatIsNotBelowIt) {
  BusyAether busy_aether;
  functions::FunctionStatus function = testing::answering("hello");
  function.requests.latency = {};
  function.requests.latency.add(std::chrono::microseconds(14));
  function.requests.latency.add(std::chrono::hours(1));
  std::string const page = busy_aether.metrics.page(busy_aether.info, {}, {function});
  std::string const bucket = "aether_function_request_duration_seconds_bucket{function=\"hello\",";
  EXPECT_TRUE(page.contains(bucket + "le=\"1.5e-05\"} 1\n")) << page;
  EXPECT_TRUE(page.contains(bucket + "le=\"+Inf\"} 2\n")) << page;
}

TEST(Metrics, OfWhatIsGoneAreGone) {
  BusyAether busy_aether;
  EXPECT_TRUE(busy_aether.page().contains("aether_drain_connections{"));
  std::string const later = busy_aether.metrics.page(busy_aether.info, {});
  for (std::string const name :
       {"aeterna_process_state", "aether_service_up", "aether_drain_connections",
        "aether_instance_memory_bytes", "aether_accept_queue", "warm_pool_size",
        "aether_function_up", "aether_function_instances"}) {
    EXPECT_FALSE(later.contains(name + "{")) << name;
  }
  EXPECT_TRUE(later.contains("aether_swaps_total{")) << "counters stay";
}

// Edge: H3
TEST(Metrics, OfCountersNeverGoBack) {
  BusyAether busy_aether;
  EXPECT_TRUE(busy_aether.page().contains(R"(aether_log_lines_total{service="web"} 100)"));
  relay::ServiceStatus fewer = busy();
  fewer.log_lines = 3;
  std::string const later = busy_aether.metrics.page(busy_aether.info, {fewer});
  EXPECT_TRUE(later.contains(R"(aether_log_lines_total{service="web"} 103)"));
}

TEST(Metrics, TellAConfigurationThatCouldNotBeRead) {
  BusyAether busy_aether;
  busy_aether.metrics.config_read(false);
  EXPECT_TRUE(busy_aether.page().contains("aether_config_last_reload_successful 0\n"));
  busy_aether.metrics.config_read(true);
  EXPECT_TRUE(busy_aether.page().contains("aether_config_last_reload_successful 1\n"));
}

}  // namespace
}  // namespace aether::api
