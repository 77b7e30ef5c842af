// SPDX-License-Identifier: Apache-2.0
// FunctionStatus: all that is known of one function at one moment. Plain values, for the API, the
// command line and the metrics.
#pragma once
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"

namespace aether::functions {

/// How an instance came to answer: in the order of what it costs.
enum class StartTier : std::uint8_t { Warm, Parked, Clone, Image, Cold };
[[nodiscard]] constexpr std::string_view tier_name(StartTier tier) {
  constexpr std::array<std::string_view, 5> names{"warm", "parked", "clone", "image", "cold"};
  return names[static_cast<std::size_t>(tier)];
}

/// Counts of values by size: the n-th bucket holds those up to bound(n), the last one all others.
class DurationHistogram {
 public:
  static constexpr std::size_t kBuckets = 40;
  /// 10 us, and half as much again each time.
  [[nodiscard]] static Duration bound(std::size_t bucket) {
    double us = 10;
    for (std::size_t i = 0; i < bucket; ++i) us *= 1.5;
    return std::chrono::nanoseconds(static_cast<std::int64_t>(us * 1000));
  }
  void add(Duration value) {
    std::size_t bucket = 0;
    while (bucket + 1 < kBuckets && value > bound(bucket)) ++bucket;
    ++counts_[bucket];
    ++count_;
    sum_ += value;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] Duration sum() const { return sum_; }
  [[nodiscard]] std::array<std::uint64_t, kBuckets> const& counts() const { return counts_; }
  /// The bound under which that share (0 to 1) of the values lies; zero if there are none.
  [[nodiscard]] Duration quantile(double share) const {
    auto const wanted = static_cast<std::uint64_t>(share * static_cast<double>(count_));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += counts_[i];
      if (count_ > 0 && seen > wanted) return bound(i);
    }
    return count_ == 0 ? Duration::zero() : bound(kBuckets - 1);
  }

 private:
  std::array<std::uint64_t, kBuckets> counts_{};
  std::uint64_t count_ = 0;
  Duration sum_{};
};

/// What the gateway counts of one function, ever.
struct RequestCounts {
  std::uint64_t requests = 0;
  std::map<int, std::uint64_t> by_status;            ///< As the client saw it.
  std::map<std::string, std::uint64_t> refusals;     ///< By code: "timeout", "too_many", ...
  std::map<std::string, std::uint64_t> ring_faults;  ///< Poisoned rings, by kind: "crc", ...
  DurationHistogram latency;  ///< First byte of the request to last of the answer.
  /// By StartTier: from the head of a request until it was given the instance made for it.
  std::array<DurationHistogram, 5> starts;
  std::uint32_t in_flight = 0;
  std::uint32_t queued = 0;  ///< Waiting for an instance.
};

struct FunctionInstanceStatus {
  InstanceId instance;
  RevisionId revision;
  pid_t pid = 0;
  std::string state;  ///< "starting", "template", "warm", "parked", "draining", "ending".
  StartTier tier = StartTier::Cold;  ///< How it was made.
  std::uint16_t port = 0;            ///< Where it listens on 127.0.0.1.
  WallTime since{};
  std::uint64_t memory_bytes = 0;  ///< Private to it, and its share of what is shared (PSS).
  std::uint32_t in_flight = 0;
};

struct StartCounts {
  std::uint64_t count = 0;
  std::uint64_t failed = 0;
  /// From a request until it was given the instance made for it (`route: direct`: from when it was
  /// seen that somebody waits). What the instance then takes to answer is not in it.
  DurationHistogram took;
};

struct FunctionStatus {
  std::string id;
  std::string state;  ///< "STARTING", "RUNNING" (it can answer, from zero instances too), "FAILED".
  RevisionId revision;
  pid_t pid = 0;  ///< Of the template, or of the oldest instance; 0: nothing lives.
  std::uint16_t trigger_port = 0;
  std::string handler_path;
  std::string route;  ///< "gateway" or "direct".
  /// The port that instances bind: "documented", "internal", or "inherited" (they bind none).
  std::string bind;
  std::optional<std::uint64_t> given;      ///< Connections that the kernel gave to instances.
  std::string launch;                      ///< What is used: "clone", "image", "spawn".
  std::vector<std::string> not_cloneable;  ///< Why "spawn" although "auto" was asked; empty: it is.
  std::vector<std::string>
      notes;  ///< What to know: "no reseeding hook: clones share random numbers".
  std::string sandbox;
  int memory_limit_mb = 0;
  std::uint32_t min_instances = 0;
  std::uint32_t max_instances = 0;
  std::vector<FunctionInstanceStatus> instances;
  std::array<StartCounts, 5> starts;  ///< By StartTier.
  RequestCounts requests;
  std::uint64_t out_of_memory = 0;
  std::uint64_t crashes = 0;
  std::optional<std::string> problem;  ///< Why it is FAILED, or why the last deploy did not take.
};

}  // namespace aether::functions
