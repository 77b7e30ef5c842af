// SPDX-License-Identifier: Apache-2.0
#include "api/function_json.h"

#include <string>
#include <string_view>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "api/json_text.h"
#include "base/error.h"

namespace aether::api {
namespace {

namespace json = boost::json;
using functions::DurationHistogram;
using functions::FunctionInstanceStatus;
using functions::FunctionStatus;
using functions::RequestCounts;
using functions::StartTier;

json::array strings_json(std::vector<std::string> const& strings) {
  json::array all;
  for (std::string const& one : strings) all.emplace_back(one);
  return all;
}

json::value quantile_ms(DurationHistogram const& histogram, double share) {
  if (histogram.count() == 0) return nullptr;
  return milliseconds_of(histogram.quantile(share));
}

/// Up to the last count that is not zero: most histograms are short.
json::array counts_json(DurationHistogram const& histogram) {
  json::array all;
  std::size_t zeros = 0;
  for (std::uint64_t const count : histogram.counts()) {
    ++zeros;
    if (count == 0) continue;
    for (; zeros > 1; --zeros) all.emplace_back(0);
    zeros = 0;
    all.emplace_back(count);
  }
  return all;
}

json::object histogram_json(DurationHistogram const& histogram) {
  return {{"p50_ms", quantile_ms(histogram, 0.50)},
          {"p99_ms", quantile_ms(histogram, 0.99)},
          {"total_ms", milliseconds_of(histogram.sum())},
          {"counts", counts_json(histogram)}};
}

json::object starts_json(FunctionStatus const& status) {
  json::object all;
  for (std::size_t i = 0; i < status.starts.size(); ++i) {
    functions::StartCounts const& starts = status.starts[i];
    if (starts.count == 0 && starts.failed == 0) continue;
    json::object one = histogram_json(starts.took);
    one["count"] = starts.count;
    one["failed"] = starts.failed;
    all[tier_name(static_cast<StartTier>(i))] = std::move(one);
  }
  return all;
}

json::object requests_json(RequestCounts const& requests) {
  json::object by_status;
  for (auto const& [status, count] : requests.by_status) by_status[std::to_string(status)] = count;
  json::object refusals;
  for (auto const& [code, count] : requests.refusals) refusals[code] = count;
  return {{"count", requests.requests},      {"in_flight", requests.in_flight},
          {"queued", requests.queued},       {"by_status", std::move(by_status)},
          {"refusals", std::move(refusals)}, {"latency", histogram_json(requests.latency)}};
}

json::array instances_json(std::vector<FunctionInstanceStatus> const& instances) {
  json::array all;
  for (FunctionInstanceStatus const& one : instances) {
    all.push_back(json::object{{"instance", one.instance.value},
                               {"revision", one.revision.value},
                               {"pid", one.pid},
                               {"state", one.state},
                               {"tier", tier_name(one.tier)},
                               {"port", one.port},
                               {"since", format_rfc3339(one.since)},
                               {"memory_bytes", one.memory_bytes},
                               {"in_flight", one.in_flight}});
  }
  return all;
}

std::string_view launch_name(config::Launch launch) {
  switch (launch) {
    case config::Launch::Clone:
      return "clone";
    case config::Launch::Image:
      return "image";
    case config::Launch::Spawn:
      return "spawn";
    case config::Launch::Auto:
      break;
  }
  return "auto";
}

std::string_view sandbox_name(config::Sandbox sandbox) {
  switch (sandbox) {
    case config::Sandbox::None:
      return "none";
    case config::Sandbox::Strict:
      return "strict";
    case config::Sandbox::Basic:
      break;
  }
  return "basic";
}

}  // namespace

json::object function_json(FunctionStatus const& status) {
  return {{"id", status.id},
          {"state", status.state},
          {"revision", status.revision.value},
          {"pid", status.pid == 0 ? json::value(nullptr) : json::value(status.pid)},
          {"trigger_port", status.trigger_port},
          {"handler_path", status.handler_path},
          {"route", status.route},
          {"bind", status.bind},
          {"given", status.given ? json::value(*status.given) : json::value(nullptr)},
          {"launch", status.launch},
          {"not_cloneable", strings_json(status.not_cloneable)},
          {"notes", strings_json(status.notes)},
          {"sandbox", status.sandbox},
          {"memory_limit_mb", status.memory_limit_mb},
          {"min_instances", status.min_instances},
          {"max_instances", status.max_instances},
          {"instances", instances_json(status.instances)},
          {"starts", starts_json(status)},
          {"requests", requests_json(status.requests)},
          {"out_of_memory", status.out_of_memory},
          {"crashes", status.crashes},
          {"problem", status.problem ? json::value(*status.problem) : json::value(nullptr)}};
}

json::object configuration_json(config::Function const& function) {
  json::array environment;
  for (auto const& [name, value] : function.environment) environment.emplace_back(name);
  return {{"environment", std::move(environment)},
          {"timeout_ms", function.timeout_ms},
          {"concurrency", function.concurrency},
          {"idle_timeout_ms", milliseconds_of(function.idle_timeout)},
          {"warmup", strings_json(function.warmup)},
          {"launch", launch_name(function.launch)},
          {"on_restore_failure",
           function.on_restore_failure == config::RestoreFailure::Cold ? "cold" : "fail"},
          {"pid_namespace", function.pid_namespace},
          {"cpu", function.cpu ? json::value(*function.cpu) : json::value(nullptr)},
          {"processes", function.processes},
          {"sandbox", sandbox_name(function.sandbox)}};
}

json::object deploy_json(DeployReport const& report) {
  json::object answer{{"function", report.function},
                      {"verdict", report.failed ? "failed" : "succeeded"},
                      {"from_revision", report.from.value},
                      {"revision", report.revision.value},
                      {"took_ms", milliseconds_of(report.took)},
                      {"code", nullptr},
                      {"why", ""}};
  if (report.failed) {
    answer["code"] = info(report.failed->code()).name;
    answer["why"] = report.failed->message();
  }
  return answer;
}

}  // namespace aether::api
