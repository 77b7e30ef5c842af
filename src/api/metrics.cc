// SPDX-License-Identifier: Apache-2.0
#include "api/metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/function_metrics.h"
#include "api/job_metrics.h"
#include "api/json_text.h"
#include "api/metric_registry.h"
#include "api/metric_table.h"
#include "api/status_json.h"
#include "os/proc.h"

namespace aether::api {
namespace {

/// From a map update (microseconds) to a cold start or a long soak (a minute).
prometheus::Histogram::BucketBoundaries phase_buckets() {
  return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

constexpr std::array<std::string_view, 9> kStates{"RUNNING",      "SOAKING",  "DRAINING",
                                                  "PRE_CHECKING", "STARTING", "HANDSHAKING",
                                                  "PENDING",      "STOPPED",  "FAILED"};

double unix_time(WallTime time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  auto const seconds = [](timeval const& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// The phase in which the reason for a rollback showed: the last one before taking it back.
std::string last_phase(relay::SwapReport const& report) {
  for (auto phase = report.phases.rbegin(); phase != report.phases.rend(); ++phase) {
    if (phase->name != "rolling-back" && phase->name != "draining") return phase->name;
  }
  return "waiting";
}

}  // namespace

struct Metrics::Families : MetricRegistry {
  Histograms& phases = histogram("aeterna_handover_duration_seconds");
  Gauges& state = gauge("aeterna_process_state");
  Counters& restarts = counter("aeterna_restarts_total");
  Gauges& up = gauge("aether_service_up");
  Gauges& revision = gauge("aether_service_revision");
  Gauges& memory = gauge("aether_instance_memory_bytes");
  Gauges& stored = gauge("aether_fd_store_fds");
  Counters& stored_refused = counter("aether_fd_store_refused_total");
  Counters& log_lines = counter("aether_log_lines_total");
  Gauges& queue = gauge("aether_accept_queue");
  Counters& overflows = counter("aether_accept_overflows_total");
  Counters& given = counter("aether_connections_given_total");
  Gauges& percent = gauge("aether_canary_percent");
  Counters& rescued = counter("aether_rescued_connections_total");
  Counters& swaps = counter("aether_swaps_total");
  Counters& rollbacks = counter("aether_rollbacks_total");
  Histograms& rollback_time = histogram("aether_rollback_seconds");
  Histograms& blackout = histogram("aether_blackout_seconds");
  Counters& handoff_bytes = counter("aether_handoff_bytes_total");
  Gauges& revisions = gauge("aether_revisions");
  Gauges& drain_connections = gauge("aether_drain_connections");
  Gauges& drain_remaining = gauge("aether_drain_remaining_seconds");
  Gauges& config_read = gauge("aether_config_last_reload_successful");
  Counters& reaped = counter("aether_reaped_total");
  Counters& requests = counter("aether_api_requests_total");
  Counters& refusals = counter("aether_api_refusals_total");
  Gauges& connections = gauge("aether_api_connections");
  Counters& turned_away = counter("aether_api_turned_away_total");
  Counters& xdp_packets = counter("aether_xdp_packets_total");
  Counters& xdp_bytes = counter("aether_xdp_bytes_total");
  Counters& xdp_dropped = counter("aether_xdp_dropped_total");
  Gauges& xdp_attached = gauge("aether_xdp_attached");
  Gauges& build_info = gauge("aether_build_info");
  Gauges& start_time = gauge("process_start_time_seconds");
  Counters& cpu = counter("process_cpu_seconds_total");
  Gauges& resident = gauge("process_resident_memory_bytes");
  Gauges& open_fds = gauge("process_open_fds");
  Gauges& max_fds = gauge("process_max_fds");

  FunctionMetrics of_functions{*this};
  JobMetrics of_jobs{*this};

  void observe(relay::ServiceStatus const& service, WallTime now);
  void observe(AetherInfo const& info);
  void observe(PacketCounts const& counts);
};

Metrics::Metrics(EventFeed& feed) : families_(std::make_unique<Families>()), feed_(feed) {
  families_->reaped.Add({});
  families_->config_read.Add({}).Set(1);
}
Metrics::~Metrics() = default;

void Metrics::phase_ended(std::string_view service, std::string_view phase, Duration took) {
  Labels const labels{{"service", std::string(service)}, {"phase", std::string(phase)}};
  families_->phases.Add(labels, phase_buckets()).Observe(to_seconds(took));
}

void Metrics::swap_ended(std::string_view service, relay::SwapReport const& report) {
  Labels const labels{{"service", std::string(service)}};
  auto const with = [&](std::string const& name, std::string value) {
    Labels more = labels;
    more[name] = std::move(value);
    return more;
  };
  families_->swaps.Add(with("verdict", std::string(relay::verdict_name(report.verdict))))
      .Increment();
  bool const good = report.verdict == relay::Verdict::Succeeded;
  if (!good) families_->rollbacks.Add(with("phase", last_phase(report))).Increment();
  if (report.rollback_took) {
    families_->rollback_time.Add(labels, phase_buckets())
        .Observe(to_seconds(*report.rollback_took));
  }
  if (good && report.blackout) {
    families_->blackout.Add(labels, phase_buckets()).Observe(to_seconds(*report.blackout));
  }
  if (report.handoff) {
    families_->handoff_bytes.Add(labels).Increment(static_cast<double>(report.handoff->bytes));
  }
  feed_.add("swap", json_text(swap_json(service, report)));
}

void Metrics::part_given(std::string_view service, RevisionId revision, int percent) {
  boost::json::object const event{
      {"service", service}, {"revision", revision.value}, {"percent", percent}};
  feed_.add("canary", json_text(event));
}

void Metrics::restarted(std::string_view service, std::string_view reason) {
  families_->restarts.Add({{"service", std::string(service)}, {"reason", std::string(reason)}})
      .Increment();
  boost::json::object const event{{"service", service}, {"reason", reason}};
  feed_.add("restart", json_text(event));
}

void Metrics::state_changed(std::string_view service, std::string_view state) {
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

void Metrics::config_read(bool successful) {
  families_->config_read.Add({}).Set(successful ? 1 : 0);
}

void Metrics::reaped(std::size_t count) {
  families_->reaped.Add({}).Increment(static_cast<double>(count));
}

void Metrics::Families::observe(relay::ServiceStatus const& service, WallTime now) {
  Labels const labels{{"service", service.name}};
  auto const with = [&](std::string const& name, std::string value) {
    Labels more = labels;
    more[name] = std::move(value);
    return more;
  };
  set(state, labels, state_number(service.state));
  set(up, labels, serves(service) ? 1 : 0);
  set(revision, labels, static_cast<double>(service.revision.value));
  set(percent, labels, service.percent);
  set(stored, labels, static_cast<double>(service.fd_store.count));
  raise(stored_refused, labels, static_cast<double>(service.fd_store.refused));
  raise(log_lines, labels, static_cast<double>(service.log_lines));
  raise(rescued, labels, static_cast<double>(service.rescued));
  std::map<RevisionId, std::uint64_t> bytes;  // A revision may have several instances for a while.
  for (relay::InstanceStatus const& one : service.instances)
    bytes[one.revision] += one.memory_bytes;
  for (auto const& [number, resident_bytes] : bytes) {
    set(memory, with("revision", std::to_string(number.value)),
        static_cast<double>(resident_bytes));
  }
  set(revisions, labels, static_cast<double>(bytes.size()));
  for (relay::DrainStatus const& one : service.draining) {
    Labels const of = with("revision", std::to_string(one.revision.value));
    if (one.connections) set(drain_connections, of, static_cast<double>(*one.connections));
    set(drain_remaining, of, std::max(0.0, unix_time(one.deadline) - unix_time(now)));
  }
  for (relay::ListenerStatus const& one : service.listeners) {
    set(queue, with("listener", one.name), one.queued);
    raise(overflows, with("listener", one.name), static_cast<double>(one.overflows));
    for (steer::RouteShareInfo const& share : one.shares) {
      Labels of_revision = with("listener", one.name);
      of_revision["revision"] = std::to_string(share.revision.value);
      raise(given, of_revision, static_cast<double>(share.given));
    }
  }
}

void Metrics::Families::observe(PacketCounts const& counts) {
  set(xdp_attached, {{"interface", counts.interface}, {"mode", counts.mode}}, 1);
  for (PortPackets const& one : counts.ports) {
    Labels const labels{{"owner", fmt::format("{}/{}", owner_name(one.kind), one.owner)},
                        {"port", std::to_string(one.port)},
                        {"protocol", one.protocol}};
    raise(xdp_packets, labels, static_cast<double>(one.packets));
    raise(xdp_bytes, labels, static_cast<double>(one.bytes));
    raise(xdp_dropped, labels, static_cast<double>(one.dropped));
  }
}

void Metrics::Families::observe(AetherInfo const& info) {
  if (info.packets) observe(*info.packets);
  for (auto const& [name, load] :
       {std::pair{"control", info.control}, std::pair{"public", info.public_port}}) {
    connections.Add({{"server", name}}).Set(static_cast<double>(load.connections));
    raise(turned_away, {{"server", name}}, static_cast<double>(load.turned_away));
  }
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  build_info.Add({{"version", info.version}}).Set(1);
  start_time.Add({}).Set(unix_time(info.now) - to_seconds(info.uptime));
  raise(cpu, {}, cpu_seconds());
  resident.Add({}).Set(static_cast<double>(os::read_rss_bytes(::getpid())));
  open_fds.Add({}).Set(static_cast<double>(os::count_own_fds()));
  max_fds.Add({}).Set(static_cast<double>(files.rlim_cur));
}

std::string Metrics::page(AetherInfo const& info, std::vector<relay::ServiceStatus> const& services,
                          std::vector<functions::FunctionStatus> const& all,
                          JobCounts const* jobs) {
  for (relay::ServiceStatus const& service : services) families_->observe(service, info.now);
  for (functions::FunctionStatus const& one : all) families_->of_functions.observe(one);
  if (jobs != nullptr) families_->of_jobs.observe(*jobs);
  families_->observe(info);
  return families_->page();
}

int state_number(std::string_view state) {
  for (std::size_t i = 0; i < kStates.size(); ++i) {
    if (kStates[i] == state) return static_cast<int>(i);
  }
  return -1;
}

bool serves(relay::ServiceStatus const& service) {
  return service.pid != 0 && service.state != "STARTING" && service.state != "PENDING";
}

bool serves(functions::FunctionStatus const& function) {
  return function.state == "RUNNING";
}

std::string metrics_markdown() {
  std::string page =
      "# Metrics\n\n`GET /metrics` has these, on `observability.metrics_port` and on the control "
      "socket. Counters never go back while Aether runs. What to be woken for is also in "
      "[alerts.yaml](../deploy/prometheus/alerts.yaml), ready for Prometheus.\n\n"
      "| name | type | labels | meaning | alert on |\n|---|---|---|---|---|\n";
  for (MetricInfo const& one : kMetrics) {
    page += fmt::format("| `{}` | {} | {} | {} | {} |\n", one.name, one.type, one.labels,
                        one.meaning, one.alert);
  }
  return page;
}

}  // namespace aether::api
