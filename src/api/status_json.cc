// SPDX-License-Identifier: Apache-2.0
#include "api/status_json.h"

#include <chrono>
#include <string>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"

namespace aether::api {
namespace {

namespace json = boost::json;

template <class T>
json::value optional_ms(std::optional<T> const& duration) {
  return duration ? json::value(milliseconds_of(*duration)) : json::value(nullptr);
}

json::value version_or_null(std::uint32_t version) {
  return version == 0 ? json::value(nullptr) : json::value(version);
}

json::value pid_or_null(pid_t pid) {
  return pid == 0 ? json::value(nullptr) : json::value(pid);
}

json::array instances_json(std::vector<relay::InstanceStatus> const& instances) {
  json::array all;
  for (relay::InstanceStatus const& one : instances) {
    all.push_back(json::object{{"revision", one.revision.value},
                               {"instance", one.instance.value},
                               {"pid", one.pid},
                               {"state", one.state},
                               {"status_text", one.status_text},
                               {"since", format_rfc3339(one.since)},
                               {"memory_bytes", one.memory_bytes}});
  }
  return all;
}

json::array draining_json(std::vector<relay::DrainStatus> const& draining) {
  json::array all;
  for (relay::DrainStatus const& one : draining) {
    all.push_back(json::object{
        {"revision", one.revision.value},
        {"pid", pid_or_null(one.pid)},
        {"stage", one.stage},
        {"since", format_rfc3339(one.since)},
        {"deadline", format_rfc3339(one.deadline)},
        {"connections", one.connections ? json::value(*one.connections) : json::value(nullptr)}});
  }
  return all;
}

/// Of one that programs bind themselves: who has which part, on which hidden ports.
json::array shares_json(std::vector<steer::RouteShareInfo> const& shares) {
  json::array all;
  for (steer::RouteShareInfo const& one : shares) {
    json::array ports;
    for (std::uint16_t const port : one.hidden_ports) ports.emplace_back(port);
    all.push_back(json::object{{"revision", one.revision.value},
                               {"percent", one.percent},
                               {"hidden_ports", std::move(ports)},
                               {"given", one.given}});
  }
  return all;
}

json::array listeners_json(std::vector<relay::ListenerStatus> const& listeners) {
  json::array all;
  for (relay::ListenerStatus const& one : listeners) {
    json::object listener{{"name", one.name},     {"address", one.address},
                          {"mode", one.mode},     {"steered_revision", one.steered.value},
                          {"queued", one.queued}, {"overflows", one.overflows}};
    if (one.mode == "bpf") {
      listener["waiting"] = one.waiting;
      listener["shares"] = shares_json(one.shares);
    }
    all.push_back(std::move(listener));
  }
  return all;
}

/// The seed's `last_handover`.
json::value last_handover_json(relay::ServiceStatus const& status) {
  if (!status.last_swap) return nullptr;
  relay::SwapReport const& swap = *status.last_swap;
  return json::object{{"status", relay::verdict_name(swap.verdict)},
                      {"timestamp", format_rfc3339(swap.began)},
                      {"size_bytes", swap.handoff ? swap.handoff->bytes : 0}};
}

json::object fd_store_json(relay::FdStoreStatus const& store) {
  json::array names;
  for (std::string const& name : store.names) names.emplace_back(name);
  return {{"count", store.count},
          {"max", store.max},
          {"refused", store.refused},
          {"names", std::move(names)}};
}

}  // namespace

json::object swap_json(std::string_view service, relay::SwapReport const& report) {
  json::array phases;
  double total = 0;
  for (relay::PhaseTime const& phase : report.phases) {
    total += milliseconds_of(phase.took);
    phases.push_back(json::object{{"name", phase.name}, {"ms", milliseconds_of(phase.took)}});
  }
  json::value handoff = nullptr;
  if (report.handoff) {
    handoff = json::object{{"bytes", report.handoff->bytes},
                           {"mechanism", report.handoff->mechanism},
                           {"quiesce_ms", optional_ms(report.handoff->quiesce_took)},
                           {"export_ms", optional_ms(report.handoff->export_took)},
                           {"state_version", version_or_null(report.handoff->state_version)},
                           {"taken_as_version", version_or_null(report.handoff->taken_as_version)}};
  }
  return {{"service", service},
          {"swap", report.id.value},
          {"verdict", relay::verdict_name(report.verdict)},
          {"why", report.why},
          {"from_revision", report.old.value},
          {"revision", report.next.value},
          {"old_pid", pid_or_null(report.old_pid)},
          {"pid", pid_or_null(report.next_pid)},
          {"serving_revision", report.serving == RevisionId{} ? json::value(nullptr)
                                                              : json::value(report.serving.value)},
          {"reason", report.reason},
          {"began", format_rfc3339(report.began)},
          {"phases", std::move(phases)},
          {"total_ms", total},
          {"blackout_ms", optional_ms(report.blackout)},
          {"rollback_ms", optional_ms(report.rollback_took)},
          {"handoff", std::move(handoff)}};
}

json::object service_json(relay::ServiceStatus const& status) {
  json::value swap = nullptr;
  if (status.last_swap) swap = swap_json(status.name, *status.last_swap);
  json::array command;
  for (std::string const& word : status.command) command.emplace_back(word);
  return {{"name", status.name},
          {"state", status.state},
          {"phase", status.phase},
          {"revision", status.revision.value},
          {"percent", status.percent},
          {"pid", pid_or_null(status.pid)},
          {"old_pid", pid_or_null(status.old_pid)},
          {"restarts", status.restarts},
          {"fd_store", fd_store_json(status.fd_store)},
          {"problem", status.problem ? json::value(*status.problem) : json::value(nullptr)},
          {"command", std::move(command)},
          {"instances", instances_json(status.instances)},
          {"draining", draining_json(status.draining)},
          {"listeners", listeners_json(status.listeners)},
          {"last_swap", std::move(swap)}};
}

json::object packets_json(PacketCounts const& counts) {
  json::array ports;
  for (PortPackets const& one : counts.ports) {
    json::array pids;
    for (pid_t const pid : one.pids) pids.emplace_back(pid);
    ports.push_back(json::object{{owner_name(one.kind), one.owner},
                                 {"protocol", one.protocol},
                                 {"port", one.port},
                                 {"pids", std::move(pids)},
                                 {"packets", one.packets},
                                 {"bytes", one.bytes},
                                 {"dropped", one.dropped}});
  }
  return {{"interface", counts.interface},
          {"mode", counts.mode},
          {"rate", counts.rate == 0 ? json::value(nullptr) : json::value(counts.rate)},
          {"burst", counts.burst == 0 ? json::value(nullptr) : json::value(counts.burst)},
          {"ports", std::move(ports)}};
}

json::object status_json(AetherInfo const& info,
                         std::vector<relay::ServiceStatus> const& services) {
  json::object all{{"version", info.version},
                   {"pid", info.pid},
                   {"config", info.config_path},
                   {"uptime", humanize(info.uptime)},
                   {"uptime_seconds", to_seconds(info.uptime)},
                   {"tcp_migrate_req", info.tcp_migrate_req ? json::value(*info.tcp_migrate_req)
                                                            : json::value(nullptr)}};
  if (info.packets) all["packets"] = packets_json(*info.packets);
  if (!services.empty()) {
    relay::ServiceStatus const& main = services.front();
    all["fsm_state"] = main.state;
    all["current_pid"] = pid_or_null(main.pid);
    all["old_pid"] = pid_or_null(main.old_pid);
    all["last_handover"] = last_handover_json(main);
  }
  json::array list;
  for (relay::ServiceStatus const& service : services) list.push_back(service_json(service));
  all["services"] = std::move(list);
  return all;
}

json::object log_line_json(std::string_view service, supervise::LogLine const& line) {
  return {{"sequence", line.sequence},
          {"time", format_rfc3339(line.time)},
          {"service", service},
          {"revision", line.revision.value},
          {"instance", line.instance.value},
          {"stream", supervise::log_stream_name(line.stream)},
          {"text", line.text}};
}

json::object problem_json(Error const& error, int status) {
  ErrorInfo const& known = info(error.code());
  return {{"type", fmt::format("urn:aether:error:{}", known.name)},
          {"title", known.meaning},
          {"status", status},
          {"code", known.name},
          {"detail", error.message()},
          {"cure", known.cure}};
}

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::SwapRunning:
    case ErrorCode::AlreadyRunning:
    case ErrorCode::StoreInUse:
    case ErrorCode::Conflict:
    case ErrorCode::EvidenceInvalid:  // Of a journal that is shorter than it was.
      return 409;
    case ErrorCode::ServiceUnknown:
    case ErrorCode::FunctionUnknown:
    case ErrorCode::NotFound:
      return 404;
    case ErrorCode::Unauthorized:
      return 401;
    case ErrorCode::Forbidden:
      return 403;
    case ErrorCode::RequestInvalid:
    case ErrorCode::UsageInvalid:
      return 400;
    case ErrorCode::ConfigNotFound:
    case ErrorCode::ConfigInvalid:
    case ErrorCode::Unsupported:
      return 422;
    case ErrorCode::StoreFull:
      return 507;
    case ErrorCode::LimitReached:
    case ErrorCode::NotRunning:
      return 503;
    default:
      return 500;
  }
}

}  // namespace aether::api
