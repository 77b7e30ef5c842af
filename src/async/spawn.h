// SPDX-License-Identifier: Apache-2.0
// Inside of this room: how a task gets a life of its own.
#pragma once
#include <exception>
#include <memory>

#include <boost/asio/cancellation_signal.hpp>

#include "async/task.h"
#include "base/time.h"

namespace aether::async::detail {

/// The completion of a task that was spawned. Called once, on the loop, unless the loop is
/// destroyed.
class Completion {
 public:
  virtual ~Completion() = default;
  virtual void ended(std::exception_ptr thrown) = 0;
  boost::asio::cancellation_signal signal;
};

/// Starts the task on a later turn of the loop. `completion` lives at least until the task's frames
/// are gone.
void spawn(Executor const& executor, Task<void> task, std::shared_ptr<Completion> completion);

/// A task run beside the one that owns this object, which must join it.
class Child {
 public:
  Child(Executor const& executor, Task<void> task);

  void cancel();
  /// Waits for the child to end. At the deadline, and when the caller is cancelled, cancels it, and
  /// waits on. False if it ended because of the deadline; throws what the child threw otherwise.
  [[nodiscard]] Task<bool> join(Instant deadline);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace aether::async::detail
