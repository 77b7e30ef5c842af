// SPDX-License-Identifier: Apache-2.0
// Event: a flag that tasks can wait for. Loop thread only.
#pragma once
#include <cstdint>
#include <memory>

#include "async/task.h"
#include "base/time.h"

namespace aether::async {

/// What a wait came to.
enum class WaitOutcome : std::uint8_t { Set, TimedOut, Cancelled };

/// Stays set until reset(). Any number of tasks may wait. If it is destroyed, its waiters are
/// cancelled.
class Event {
 public:
  Event();
  ~Event();
  Event(Event const&) = delete;
  Event& operator=(Event const&) = delete;

  /// Wakes all that wait now, even if reset() follows at once.
  void set();
  void reset();
  [[nodiscard]] bool is_set() const;

  [[nodiscard]] Task<void> wait();
  /// True when set, false when the time was over first.
  [[nodiscard]] Task<bool> wait_for(Duration duration);
  [[nodiscard]] Task<bool> wait_until(Instant deadline);
  /// As wait_until, with the caller's cancellation as a value: for those who clean up.
  [[nodiscard]] Task<WaitOutcome> wait_outcome(Instant deadline);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace aether::async
