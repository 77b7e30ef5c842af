// SPDX-License-Identifier: Apache-2.0
#include "api/job_metrics.h"

#include <map>
#include <string>

namespace aether::api {

void JobMetrics::observe(JobCounts const& counts) {
  auto const by_outcome = [this](Counters& family, OutcomeCounts const& all) {
    for (auto const& [outcome, count] : all)
      registry_.raise(family, {{"outcome", outcome}}, static_cast<double>(count));
  };
  registry_.raise(opened_, {}, static_cast<double>(counts.opened));
  by_outcome(closed_, counts.closed);
  by_outcome(steps_, counts.steps);
  by_outcome(calls_, counts.calls);
  registry_.raise(events_, {}, static_cast<double>(counts.events));
  registry_.raise(failures_, {}, static_cast<double>(counts.failures));
  registry_.raise(append_time_, {}, counts.appends);
  if (counts.store_bytes) registry_.set(store_bytes_, {}, static_cast<double>(*counts.store_bytes));
}

}  // namespace aether::api
