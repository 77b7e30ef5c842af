// SPDX-License-Identifier: Apache-2.0
// StatsSnapshot: what /v1/status says at one moment, as values, for `stats` and its dashboard.
// Pure.
#pragma once
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/json/fwd.hpp>

#include "base/time.h"
#include "functions/function_status.h"

namespace aether::cli {

/// A histogram that was told over the API: counts by bucket, as DurationHistogram has them.
struct BucketCounts {
  std::array<std::uint64_t, functions::DurationHistogram::kBuckets> counts{};

  [[nodiscard]] std::uint64_t total() const;
  /// The bound under which that share (0 to 1) of the values lies; nothing if there are none.
  [[nodiscard]] std::optional<Duration> quantile(double share) const;
  /// What came since `before`. If that is no earlier state of this one: all of it.
  [[nodiscard]] BucketCounts since(BucketCounts const& before) const;
  BucketCounts& operator+=(BucketCounts const& other);
};

struct TierCounts {
  std::uint64_t count = 0;
  std::uint64_t failed = 0;
  BucketCounts took;
};
using Tiers = std::array<TierCounts, 5>;  ///< By functions::StartTier.

/// A function or a service.
struct StatsRow {
  enum class Kind : std::uint8_t { Function, Service } kind = Kind::Function;
  std::string name;
  std::string state;
  bool serves = false;
  std::uint64_t revision = 0;
  std::uint16_t port = 0;                          ///< 0: it is a service.
  std::map<std::string, std::uint32_t> instances;  ///< Counted by state.
  std::uint64_t memory_bytes = 0;
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;  ///< Of these, answered with 500 or more.
  std::uint32_t in_flight = 0;
  std::uint32_t queued = 0;
  BucketCounts latency;
  Tiers starts;
  std::string problem;
  /// For people who look closer: name and value, in the order in which they are shown.
  std::vector<std::pair<std::string, std::string>> facts;
  std::vector<std::string> instance_lines;
};

/// What came to one port at the network interface.
struct PacketRow {
  std::string owner;
  std::string port;  ///< "8080/tcp"
  std::string pids;  ///< "12, 13", or "-".
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
  std::uint64_t dropped = 0;
};

/// None: nothing is counted there.
struct PacketTable {
  std::string interface;
  std::string mode;
  std::uint64_t rate = 0;
  std::uint64_t burst = 0;
  std::vector<PacketRow> rows;
};

struct StatsSnapshot {
  std::string version;
  pid_t pid = 0;
  std::string uptime;
  std::vector<StatsRow> rows;  ///< Functions, then services.
  std::optional<PacketTable> packets = {};
};

/// @param status What /v1/status answered.
[[nodiscard]] StatsSnapshot read_snapshot(boost::json::value const& status);

/// "w2 p3 t1": how many instances are in which state; "-" if there is none.
[[nodiscard]] std::string instances_text(std::map<std::string, std::uint32_t> const& instances);
/// "1.23ms", or "-".
[[nodiscard]] std::string duration_text(std::optional<Duration> const& duration);

}  // namespace aether::cli
