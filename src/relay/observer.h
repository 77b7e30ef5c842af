// SPDX-License-Identifier: Apache-2.0
// Observer: told what happens to services, on the loop, in order. Metrics and event streams are
// built on it; relay itself knows neither.
#pragma once
#include <string_view>

#include "base/ids.h"
#include "base/time.h"
#include "relay/swap_report.h"

namespace aether::relay {

class Observer {
 public:
  virtual ~Observer() = default;
  /// A swap left `phase` after `took`.
  virtual void phase_ended(std::string_view service, std::string_view phase, Duration took) = 0;
  /// The verdict is out (the drain may still run).
  virtual void swap_ended(std::string_view service, SwapReport const& report) = 0;
  /// From now on `revision` gets that much of the new connections, in percent, and the one before
  /// it the rest. Told of canaries only; swap_ended tells who gets everything.
  virtual void part_given(std::string_view service, RevisionId revision, int percent) = 0;
  /// A process of the service was started again. `reason`: "crash", "watchdog", "reload",
  /// "rollback" (the old revision, which had to stop first).
  virtual void restarted(std::string_view service, std::string_view reason) = 0;
  /// Public phase name (PENDING, STARTING, ..., FAILED) of the service from now on.
  virtual void state_changed(std::string_view service, std::string_view state) = 0;
};

}  // namespace aether::relay
