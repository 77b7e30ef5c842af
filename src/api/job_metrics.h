// SPDX-License-Identifier: Apache-2.0
// JobMetrics: what the page says of jobs and their journal.
#pragma once
#include "api/job_counts.h"
#include "api/metric_registry.h"

namespace aether::api {

/// Loop thread only. The registry outlives it.
class JobMetrics {
 public:
  explicit JobMetrics(MetricRegistry& registry) : registry_(registry) {}
  void observe(JobCounts const& counts);

 private:
  MetricRegistry& registry_;
  Counters& opened_ = registry_.counter("aether_jobs_opened_total");
  Counters& closed_ = registry_.counter("aether_jobs_closed_total");
  Counters& steps_ = registry_.counter("aether_job_steps_total");
  Counters& calls_ = registry_.counter("aether_job_calls_total");
  Counters& events_ = registry_.counter("aether_journal_events_total");
  Counters& failures_ = registry_.counter("aether_journal_failures_total");
  Histograms& append_time_ = registry_.histogram("aether_journal_append_seconds");
  Gauges& store_bytes_ = registry_.gauge("aether_journal_store_bytes");
};

}  // namespace aether::api
