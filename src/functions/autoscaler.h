// SPDX-License-Identifier: Apache-2.0
// Autoscaler: how many instances the load of the last while asks for, by the rules and the numbers
// of Knative's pod autoscaler (knative.dev/docs/serving/autoscaling; its scaler is
// serving/pkg/autoscaler/scaling/autoscaler.go). Pure.
//
// It does not start the first instance, nor answer a burst: who waits is told to the pool at once
// (pool::Wanted), which starts what they need. The autoscaler looks back. It starts more before
// anybody has to wait, once instances are used above their target; it keeps what a burst has
// started as long as bursts come again; and it lets go as the load of the stable window falls.
// Its wish counts while there is load; an instance is let go when it is above the wish and was idle
// for idle_timeout.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/time.h"

namespace aether::functions {

struct AutoscalerPolicy {
  static constexpr Duration kTick = std::chrono::milliseconds(100);
  std::uint32_t concurrency = 1;
  double target_utilisation = 0.7;  ///< Of the concurrency.
  Duration stable_window = std::chrono::seconds(60);
  double panic_window = 0.1;     ///< Of the stable window: 6 s of 60 s.
  double panic_threshold = 2.0;  ///< Times what the ready instances take.
  double max_up_rate = 1000;     ///< Times the ready ones, at once.
  double max_down_rate = 2;      ///< To one in so many of the ready ones, at once.
  bool operator==(AutoscalerPolicy const&) const = default;
};

/// For a function. The stable window is not longer than idle_timeout (but at least 1 s): who wants
/// idle instances to go after two seconds does not want a burst to be remembered for a minute.
[[nodiscard]] AutoscalerPolicy autoscaler_policy(std::uint32_t concurrency, Duration idle_timeout);

class Autoscaler {
 public:
  explicit Autoscaler(AutoscalerPolicy policy);

  /// Each kTick: the requests in flight and queued, and the instances that take requests. How many
  /// there should be. Ticks that were left out count as no load at all.
  [[nodiscard]] std::uint32_t sample(std::uint32_t load, std::uint32_t ready, Instant now);
  /// From the next sample on; what was sampled counts on.
  void change(AutoscalerPolicy policy);

  [[nodiscard]] bool panicking() const { return panic_since_.has_value(); }
  /// Nothing was in flight or queued for the whole stable window: samples may be left out.
  [[nodiscard]] bool at_rest() const { return !panicking() && sum(stable_buckets()) == 0; }

 private:
  /// A minute of ticks: the longest stable window.
  static constexpr std::size_t kBucketsMax = 600;

  [[nodiscard]] std::uint64_t sum(std::size_t newest) const;
  [[nodiscard]] double average(std::size_t window) const;
  [[nodiscard]] std::size_t stable_buckets() const;
  [[nodiscard]] std::size_t panic_buckets() const;
  void keep(std::uint32_t load, Instant now);

  AutoscalerPolicy policy_;
  std::array<std::uint32_t, kBucketsMax> loads_{};  ///< A ring; the newest is at `newest_`.
  std::size_t newest_ = 0;
  std::size_t filled_ = 0;
  Instant newest_at_{};
  std::optional<Instant> panic_since_;  ///< Last above the threshold.
  double panic_most_ = 0;
};

}  // namespace aether::functions
