// SPDX-License-Identifier: Apache-2.0
#include "api/metrics.h"

#include <array>
#include <map>
#include <set>
#include <utility>

#include <boost/json.hpp>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "api/json_text.h"
#include "api/status_json.h"
#include "base/log.h"

namespace aether::api {
namespace {

using Labels = std::map<std::string, std::string>;

/// From a map update (microseconds) to a cold start or a long soak (a minute).
prometheus::Histogram::BucketBoundaries phase_buckets() {
  return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

constexpr std::array<std::string_view, 9> kStates{"RUNNING",      "SOAKING",  "DRAINING",
                                                  "PRE_CHECKING", "STARTING", "HANDSHAKING",
                                                  "PENDING",      "STOPPED",  "FAILED"};

}  // namespace

struct Metrics::Families {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Histogram>& phases = prometheus::BuildHistogram()
                                                          .Name("aeterna_handover_duration_seconds")
                                                          .Help("Time of each phase of a swap")
                                                          .Register(registry);
  prometheus::Family<prometheus::Counter>& restarts =
      prometheus::BuildCounter()
          .Name("aeterna_restarts_total")
          .Help("Processes started again, by reason")
          .Register(registry);
  prometheus::Family<prometheus::Gauge>& state =
      prometheus::BuildGauge()
          .Name("aeterna_process_state")
          .Help(
              "0 running, 1 soaking, 2 draining, 3 pre-checking, 4 starting, 5 handshaking, 6 "
              "pending, 7 stopped, 8 failed")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& swaps = prometheus::BuildCounter()
                                                       .Name("aether_swaps_total")
                                                       .Help("Swaps, by verdict")
                                                       .Register(registry);
  prometheus::Family<prometheus::Histogram>& blackout =
      prometheus::BuildHistogram()
          .Name("aether_blackout_seconds")
          .Help("Time in which no revision could accept, per successful swap")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& handoff_bytes =
      prometheus::BuildCounter()
          .Name("aether_handoff_bytes_total")
          .Help("Memory moved between revisions")
          .Register(registry);
  prometheus::Family<prometheus::Gauge>& revision = prometheus::BuildGauge()
                                                        .Name("aether_service_revision")
                                                        .Help("The revision that serves")
                                                        .Register(registry);
  prometheus::Family<prometheus::Gauge>& memory =
      prometheus::BuildGauge()
          .Name("aether_instance_memory_bytes")
          .Help("Resident memory of a revision's process tree")
          .Register(registry);
  prometheus::Family<prometheus::Gauge>& queue = prometheus::BuildGauge()
                                                     .Name("aether_accept_queue")
                                                     .Help("Connections that wait to be accepted")
                                                     .Register(registry);
  prometheus::Family<prometheus::Gauge>& overflows =
      prometheus::BuildGauge()
          .Name("aether_accept_overflows")
          .Help("Connections dropped because the accept queue was full")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& reaped =
      prometheus::BuildCounter()
          .Name("aether_reaped_total")
          .Help("Orphans reaped as PID 1 or subreaper")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& requests =
      prometheus::BuildCounter()
          .Name("aether_api_requests_total")
          .Help("Requests to the API, by route and status")
          .Register(registry);
  prometheus::Family<prometheus::Counter>& refusals =
      prometheus::BuildCounter()
          .Name("aether_api_refusals_total")
          .Help("Requests refused for want of a right, by code")
          .Register(registry);
};

Metrics::Metrics(EventFeed& feed) : families_(std::make_unique<Families>()), feed_(feed) {
  families_->reaped.Add({});
}
Metrics::~Metrics() = default;

void Metrics::phase_ended(std::string_view service, std::string_view phase, Duration took) {
  Labels const labels{{"service", std::string(service)}, {"phase", std::string(phase)}};
  families_->phases.Add(labels, phase_buckets()).Observe(to_seconds(took));
}

void Metrics::swap_ended(std::string_view service, relay::SwapReport const& report) {
  std::string const name(service);
  families_->swaps
      .Add({{"service", name}, {"verdict", std::string(relay::verdict_name(report.verdict))}})
      .Increment();
  bool const good = report.verdict == relay::Verdict::Succeeded;
  if (good && report.blackout) {
    families_->blackout.Add({{"service", name}}, phase_buckets())
        .Observe(to_seconds(*report.blackout));
  }
  if (report.handoff) {
    families_->handoff_bytes.Add({{"service", name}})
        .Increment(static_cast<double>(report.handoff->bytes));
  }
  feed_.add("swap", json_text(swap_json(service, report)));
}

void Metrics::restarted(std::string_view service, std::string_view reason) {
  families_->restarts.Add({{"service", std::string(service)}, {"reason", std::string(reason)}})
      .Increment();
  boost::json::object const event{{"service", service}, {"reason", reason}};
  feed_.add("restart", json_text(event));
}

void Metrics::state_changed(std::string_view service, std::string_view state) {
  families_->state.Add({{"service", std::string(service)}}).Set(state_number(state));
  boost::json::object const event{{"service", service}, {"state", state}};
  feed_.add("state", json_text(event));
}

void Metrics::answered(std::string_view route, int status) {
  families_->requests.Add({{"route", std::string(route)}, {"status", std::to_string(status)}})
      .Increment();
}

void Metrics::refused(std::string_view code) {
  families_->refusals.Add({{"code", std::string(code)}}).Increment();
}

void Metrics::reaped(std::size_t count) {
  families_->reaped.Add({}).Increment(static_cast<double>(count));
}

std::string Metrics::page(std::vector<relay::ServiceStatus> const& services) {
  // Which revisions and listeners exist changes: their gauges are made for each page.
  std::set<std::pair<prometheus::Family<prometheus::Gauge>*, prometheus::Gauge*>> made;
  auto const set = [&](prometheus::Family<prometheus::Gauge>& family, Labels const& labels,
                       double value) {
    prometheus::Gauge& gauge = family.Add(labels);
    gauge.Set(value);
    made.emplace(&family, &gauge);
  };
  for (relay::ServiceStatus const& service : services) {
    set(families_->revision, {{"service", service.name}},
        static_cast<double>(service.revision.value));
    for (relay::InstanceStatus const& one : service.instances) {
      set(families_->memory,
          {{"service", service.name}, {"revision", std::to_string(one.revision.value)}},
          static_cast<double>(one.memory_bytes));
    }
    for (relay::ListenerStatus const& one : service.listeners) {
      Labels const labels{{"service", service.name}, {"listener", one.name}};
      set(families_->queue, labels, one.queued);
      set(families_->overflows, labels, static_cast<double>(one.overflows));
    }
  }
  std::string page = prometheus::TextSerializer().Serialize(families_->registry.Collect());
  for (auto const& [family, gauge] : made) family->Remove(gauge);
  return page;
}

int state_number(std::string_view state) {
  for (std::size_t i = 0; i < kStates.size(); ++i) {
    if (kStates[i] == state) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace aether::api
