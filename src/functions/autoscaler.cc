// SPDX-License-Identifier: Apache-2.0
#include "functions/autoscaler.h"

#include <algorithm>
#include <cmath>

namespace aether::functions {

namespace {

constexpr Duration kTick = AutoscalerPolicy::kTick;

std::size_t ticks(Duration time) {
  return static_cast<std::size_t>(std::max<std::int64_t>(1, time / kTick));
}

}  // namespace

AutoscalerPolicy autoscaler_policy(std::uint32_t concurrency, Duration idle_timeout) {
  AutoscalerPolicy policy;
  policy.concurrency = concurrency;
  policy.stable_window =
      std::clamp<Duration>(idle_timeout, std::chrono::seconds(1), policy.stable_window);
  return policy;
}

Autoscaler::Autoscaler(AutoscalerPolicy policy) : policy_(policy) {}

void Autoscaler::change(AutoscalerPolicy policy) {
  policy_ = policy;
}

std::size_t Autoscaler::stable_buckets() const {
  return std::min(ticks(policy_.stable_window), kBucketsMax);
}

std::size_t Autoscaler::panic_buckets() const {
  double const share = policy_.panic_window * static_cast<double>(stable_buckets());
  return std::max<std::size_t>(1, static_cast<std::size_t>(share));
}

void Autoscaler::keep(std::uint32_t load, Instant now) {
  std::size_t step = 1;
  if (filled_ > 0)
    step =
        static_cast<std::size_t>(std::max<std::int64_t>(0, (now - newest_at_ + kTick / 2) / kTick));
  if (step == 0) {
    // Within the same tick: the greater one counts.
    loads_.at(newest_) = std::max(loads_.at(newest_), load);
    return;
  }
  // After a whole window without a word, it begins anew.
  if (step >= kBucketsMax) {
    loads_.fill(0);
    filled_ = 0;
    step = 1;
  }
  for (std::size_t i = 0; i < step; ++i) {
    newest_ = (newest_ + 1) % kBucketsMax;
    loads_.at(newest_) = 0;
  }
  loads_.at(newest_) = load;
  filled_ = std::min(filled_ + step, kBucketsMax);
  newest_at_ = now;
}

std::uint64_t Autoscaler::sum(std::size_t newest) const {
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < std::min(newest, filled_); ++i)
    total += loads_.at((newest_ + kBucketsMax - i) % kBucketsMax);
  return total;
}

double Autoscaler::average(std::size_t window) const {
  std::size_t const over = std::min(window, filled_);
  return over == 0 ? 0 : static_cast<double>(sum(over)) / static_cast<double>(over);
}

std::uint32_t Autoscaler::sample(std::uint32_t load, std::uint32_t ready, Instant now) {
  keep(load, now);
  double const target = policy_.target_utilisation * policy_.concurrency;
  double const ready_ones = std::max(1.0, static_cast<double>(ready));
  double const most = std::ceil(policy_.max_up_rate * ready_ones);
  double const least = std::floor(static_cast<double>(ready) / policy_.max_down_rate);
  double const stable_asks = std::ceil(average(stable_buckets()) / target);
  double const panic_asks = std::ceil(average(panic_buckets()) / target);
  double const stable = std::min(std::max(stable_asks, least), most);
  double const panic = std::min(std::max(panic_asks, least), most);

  bool const over = panic_asks / ready_ones >= policy_.panic_threshold;
  if (over) {
    if (!panicking()) panic_most_ = 0;
    panic_since_ = now;
  } else if (panicking() && now >= *panic_since_ + policy_.stable_window) {
    panic_since_.reset();
    panic_most_ = 0;
  }
  if (!panicking()) return static_cast<std::uint32_t>(stable);
  // In a panic, nothing is taken away.
  panic_most_ = std::max({panic_most_, panic, stable});
  return static_cast<std::uint32_t>(panic_most_);
}

}  // namespace aether::functions
