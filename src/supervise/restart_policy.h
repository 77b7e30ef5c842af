// SPDX-License-Identifier: Apache-2.0
// RestartPolicy: whether and when a service that ended is started again. Pure: the caller brings
// the time, and the jitter comes from a seed.
#pragma once
#include <cstdint>
#include <deque>
#include <random>
#include <variant>

#include "base/time.h"
#include "config/config.h"

namespace aether::supervise {

/// An instance that was ready for so long clears the past: the next wait is the shortest again.
inline constexpr Duration kStableAfter = std::chrono::seconds(10);

/// How an instance ended that nobody had asked to stop.
struct ServiceEnd {
  enum class Outcome : std::uint8_t { Success, Failure };
  Outcome outcome = Outcome::Failure;  ///< Success: exit code 0.
  /// How long it had been ready when it ended; zero if it never was.
  Duration ready_for = Duration::zero();
};

struct RestartAfter {
  Duration wait;     ///< From now. With jitter: between 75 % and 125 % of the backoff.
  unsigned attempt;  ///< From 1, since the service was last stable.
};
/// `restart.policy` says that it stays down.
struct StayDown {};
/// Too many ends in the window: it stays down until somebody reloads or restarts it.
struct CrashLoop {
  unsigned ends;
  Duration within;
};
using RestartVerdict = std::variant<RestartAfter, StayDown, CrashLoop>;

class RestartPolicy {
 public:
  RestartPolicy(config::Restart rules, std::uint64_t seed);

  /// The service ended by itself at `now`.
  [[nodiscard]] RestartVerdict ended(ServiceEnd end, Instant now);
  /// Somebody asked for a start (reload, restart): the past is cleared.
  void clear();
  void set_rules(config::Restart rules) { rules_ = rules; }
  [[nodiscard]] config::Restart const& rules() const { return rules_; }

 private:
  Duration next_wait();

  config::Restart rules_;
  std::minstd_rand random_;
  unsigned attempt_ = 0;
  std::deque<Instant> recent_ends_;  ///< At most crash_loop_count of them.
};

}  // namespace aether::supervise
