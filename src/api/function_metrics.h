// SPDX-License-Identifier: Apache-2.0
// FunctionMetrics: what the page says of functions. The seeds' names and ours.
#pragma once
#include "api/metric_registry.h"
#include "functions/function_status.h"

namespace aether::api {

/// Loop thread only. The registry outlives it.
class FunctionMetrics {
 public:
  explicit FunctionMetrics(MetricRegistry& registry) : registry_(registry) {}
  void observe(functions::FunctionStatus const& function);

 private:
  void observe_starts(functions::FunctionStatus const& function);
  void observe_requests(functions::FunctionStatus const& function);
  void observe_instances(functions::FunctionStatus const& function);

  MetricRegistry& registry_;
  // The seeds' names.
  Counters& restores_ = registry_.counter("function_restores_total");
  Histograms& restore_time_ = registry_.histogram("function_restore_duration_seconds");
  Counters& cold_starts_ = registry_.counter("function_cold_starts_total");
  Gauges& warm_pool_ = registry_.gauge("warm_pool_size");
  // Ours.
  Gauges& up_ = registry_.gauge("aether_function_up");
  Gauges& revision_ = registry_.gauge("aether_function_revision");
  Counters& requests_ = registry_.counter("aether_function_requests_total");
  Histograms& request_time_ = registry_.histogram("aether_function_request_duration_seconds");
  Counters& refusals_ = registry_.counter("aether_function_refusals_total");
  Counters& ring_checksums_ = registry_.counter("aether_shm_crc_errors_total");
  Counters& rings_poisoned_ = registry_.counter("aether_shm_poisoned_total");
  Gauges& in_flight_ = registry_.gauge("aether_function_in_flight");
  Gauges& queue_ = registry_.gauge("aether_function_queue_depth");
  Gauges& instances_ = registry_.gauge("aether_function_instances");
  Gauges& memory_ = registry_.gauge("aether_function_memory_bytes");
  Histograms& start_time_ = registry_.histogram("aether_start_duration_seconds");
  Counters& failed_starts_ = registry_.counter("aether_function_start_failures_total");
  Counters& out_of_memory_ = registry_.counter("aether_function_out_of_memory_total");
  Counters& crashes_ = registry_.counter("aether_function_crashes_total");
};

}  // namespace aether::api
