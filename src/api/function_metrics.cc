// SPDX-License-Identifier: Apache-2.0
#include "api/function_metrics.h"

#include <cstdint>
#include <map>
#include <string>

#include "api/metrics.h"
#include "functions/handler_ring.h"

namespace aether::api {

using functions::FunctionStatus;
using functions::StartTier;

void FunctionMetrics::observe(FunctionStatus const& function) {
  Labels const labels{{"function", function.id}};
  registry_.set(up_, labels, serves(function) ? 1 : 0);
  registry_.set(revision_, labels, static_cast<double>(function.revision.value));
  registry_.raise(out_of_memory_, labels, static_cast<double>(function.out_of_memory));
  registry_.raise(crashes_, labels, static_cast<double>(function.crashes));
  observe_starts(function);
  observe_requests(function);
  observe_instances(function);
}

void FunctionMetrics::observe_starts(FunctionStatus const& function) {
  for (std::size_t i = 0; i < function.starts.size(); ++i) {
    auto const tier = static_cast<StartTier>(i);
    functions::StartCounts const& starts = function.starts[i];
    Labels const labels{{"function", function.id}, {"tier", std::string(tier_name(tier))}};
    if (starts.took.count() > 0) registry_.raise(start_time_, labels, starts.took);
    if (starts.failed > 0)
      registry_.raise(failed_starts_, labels, static_cast<double>(starts.failed));
    bool const restored =
        tier == StartTier::Parked || tier == StartTier::Clone || tier == StartTier::Image;
    if (!restored) continue;
    registry_.raise(restores_, labels, static_cast<double>(starts.count));
    if (starts.took.count() > 0) registry_.raise(restore_time_, labels, starts.took);
  }
  auto const cold = static_cast<std::size_t>(StartTier::Cold);
  registry_.raise(cold_starts_, {{"function", function.id}},
                  static_cast<double>(function.starts[cold].count));
}

void FunctionMetrics::observe_requests(FunctionStatus const& function) {
  Labels const labels{{"function", function.id}};
  functions::RequestCounts const& requests = function.requests;
  for (auto const& [status, count] : requests.by_status) {
    Labels const of{{"function", function.id}, {"status", std::to_string(status)}};
    registry_.raise(requests_, of, static_cast<double>(count));
  }
  for (auto const& [code, count] : requests.refusals) {
    registry_.raise(refusals_, {{"function", function.id}, {"code", code}},
                    static_cast<double>(count));
  }
  for (auto const& [reason, count] : requests.ring_faults) {
    registry_.raise(rings_poisoned_, {{"function", function.id}, {"reason", reason}},
                    static_cast<double>(count));
    if (reason == functions::name_of(functions::RingFault::Kind::Checksum))
      registry_.raise(ring_checksums_, labels, static_cast<double>(count));
  }
  registry_.raise(request_time_, labels, requests.latency);
  registry_.set(in_flight_, labels, requests.in_flight);
  registry_.set(queue_, labels, requests.queued);
}

void FunctionMetrics::observe_instances(FunctionStatus const& function) {
  std::map<std::string, std::uint32_t> by_state{{"warm", 0}, {"parked", 0}};
  std::uint64_t bytes = 0;
  for (functions::FunctionInstanceStatus const& one : function.instances) {
    ++by_state[one.state];
    bytes += one.memory_bytes;
  }
  for (auto const& [state, count] : by_state) {
    registry_.set(instances_, {{"function", function.id}, {"state", state}}, count);
  }
  registry_.set(warm_pool_, {{"function", function.id}}, by_state["parked"]);
  registry_.set(memory_, {{"function", function.id}}, static_cast<double>(bytes));
}

}  // namespace aether::api
