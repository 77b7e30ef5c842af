// SPDX-License-Identifier: Apache-2.0
#include "api/metric_registry.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <prometheus/text_serializer.h>

#include "api/metric_table.h"
#include "base/check.h"

namespace aether::api {
namespace {

using functions::DurationHistogram;

/// Buckets of a DurationHistogram that become one of the page's: half of them draw the same graph.
constexpr std::size_t kMerged = 2;
static_assert(DurationHistogram::kBuckets % kMerged == 0);

MetricInfo const& row(std::string_view name, std::string_view type) {
  auto const found = std::ranges::find(kMetrics, name, &MetricInfo::name);
  AETHER_CHECK(found != kMetrics.end() && found->type == type, "{} is no {} of the table", name,
               type);
  return *found;
}

template <class Builder>
auto& build(prometheus::Registry& registry, Builder builder, MetricInfo const& info) {
  return builder.Name(std::string(info.name)).Help(std::string(info.meaning)).Register(registry);
}

/// The last bucket has no bound: it takes all others.
prometheus::Histogram::BucketBoundaries merged_bounds() {
  prometheus::Histogram::BucketBoundaries bounds;
  for (std::size_t i = kMerged - 1; i + 1 < DurationHistogram::kBuckets; i += kMerged) {
    bounds.push_back(to_seconds(DurationHistogram::bound(i)));
  }
  return bounds;
}

/// Whether none of its counts is below what it was.
bool goes_on(DurationHistogram const& before, DurationHistogram const& now) {
  return std::ranges::equal(before.counts(), now.counts(), std::ranges::less_equal());
}

}  // namespace

Counters& MetricRegistry::counter(std::string_view name) {
  return build(registry_, prometheus::BuildCounter(), row(name, "counter"));
}

Gauges& MetricRegistry::gauge(std::string_view name) {
  return build(registry_, prometheus::BuildGauge(), row(name, "gauge"));
}

Histograms& MetricRegistry::histogram(std::string_view name) {
  return build(registry_, prometheus::BuildHistogram(), row(name, "histogram"));
}

void MetricRegistry::set(Gauges& family, Labels const& labels, double value) {
  prometheus::Gauge& gauge = family.Add(labels);
  gauge.Set(value);
  made_.emplace(&family, &gauge);
}

void MetricRegistry::raise(Counters& family, Labels const& labels, double to) {
  prometheus::Counter& counter = family.Add(labels);
  double const before = std::exchange(seen_[&counter], to);
  counter.Increment(to >= before ? to - before : to);
}

void MetricRegistry::raise(Histograms& family, Labels const& labels, DurationHistogram const& to) {
  prometheus::Histogram& histogram = family.Add(labels, merged_bounds());
  DurationHistogram const last = std::exchange(seen_histograms_[&histogram], to);
  DurationHistogram const before = goes_on(last, to) ? last : DurationHistogram();
  std::vector<double> more(DurationHistogram::kBuckets / kMerged);
  for (std::size_t i = 0; i < DurationHistogram::kBuckets; ++i) {
    more[i / kMerged] += static_cast<double>(to.counts()[i] - before.counts()[i]);
  }
  histogram.ObserveMultiple(more, to_seconds(to.sum() - before.sum()));
}

std::string MetricRegistry::page() {
  std::string page = prometheus::TextSerializer().Serialize(registry_.Collect());
  for (auto const& [family, gauge] : std::exchange(made_, {})) family->Remove(gauge);
  return page;
}

}  // namespace aether::api
