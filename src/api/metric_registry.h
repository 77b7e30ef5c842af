// SPDX-License-Identifier: Apache-2.0
// MetricRegistry: the metrics of the table, as Prometheus's library keeps them. For this room.
#pragma once
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "functions/function_status.h"

namespace aether::api {

using Labels = std::map<std::string, std::string>;
using Counters = prometheus::Family<prometheus::Counter>;
using Gauges = prometheus::Family<prometheus::Gauge>;
using Histograms = prometheus::Family<prometheus::Histogram>;

/// Loop thread only.
class MetricRegistry {
 public:
  /// The family of that row of the table (metric_table.h), which must be of that type.
  [[nodiscard]] Counters& counter(std::string_view name);
  [[nodiscard]] Gauges& gauge(std::string_view name);
  [[nodiscard]] Histograms& histogram(std::string_view name);

  /// A gauge of what may be gone at the next page: it is on this page only.
  void set(Gauges& family, Labels const& labels, double value);
  /// A counter that is counted elsewhere and stands there now. Should it begin anew, ours goes on.
  void raise(Counters& family, Labels const& labels, double to);
  /// The same for a histogram.
  void raise(Histograms& family, Labels const& labels, functions::DurationHistogram const& to);
  /// The page, in the text exposition format 0.0.4.
  [[nodiscard]] std::string page();

 private:
  prometheus::Registry registry_;
  std::set<std::pair<Gauges*, prometheus::Gauge*>> made_;  ///< For one page.
  std::map<prometheus::Counter const*, double> seen_;      ///< What raised counters stood at.
  std::map<prometheus::Histogram const*, functions::DurationHistogram> seen_histograms_;
};

}  // namespace aether::api
