// SPDX-License-Identifier: Apache-2.0
// Event: a flag that tasks can wait for. Loop thread only.
#pragma once
#include <memory>

#include "async/task.h"
#include "base/time.h"

namespace aether::async {

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

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace aether::async
