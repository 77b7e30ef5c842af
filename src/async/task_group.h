// SPDX-License-Identifier: Apache-2.0
// TaskGroup: the only place where concurrent work starts. It has a name, an owner, a limit and a
// stop.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "async/limits.h"
#include "async/task.h"
#include "base/time.h"

namespace aether::async {

/// A member of the object whose state its tasks touch. The owner must `co_await stop()` before it
/// goes: the destructor checks that no task is left (unless the loop itself has ended, which ends
/// all tasks).
class TaskGroup {
 public:
  TaskGroup(Executor executor, std::string name, std::size_t limit = kTasksPerGroupMax);
  ~TaskGroup();
  TaskGroup(TaskGroup const&) = delete;
  TaskGroup& operator=(TaskGroup const&) = delete;

  /// Starts a task. It begins on a later turn of the loop, never inside this call. An exception at
  /// its root is logged as an error with the names of the group and the task; cancellation is
  /// silent. False: not started, because the group is stopping, or is at its limit (which is
  /// logged).
  bool spawn(std::string name, Task<void> task);

  /// Asks every task to end. Does not wait; the group can be used on.
  void cancel();
  /// Waits until every task has ended by itself.
  [[nodiscard]] Task<void> join();
  /// Closes the gate and cancels at once (when called), then waits (when awaited) until the tasks
  /// have ended. Names those that had not by the deadline, which are also logged; they must be
  /// waited for by another stop(). A cancellation of the caller does not cut the wait short. A
  /// caller that may have been cancelled already must `co_await ignore_cancellation()` first.
  Task<std::vector<std::string>> stop(Duration deadline);

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] bool stopping() const;
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] Executor executor() const;

 private:
  struct State;
  static Task<std::vector<std::string>> wait_until_empty(std::shared_ptr<State> state,
                                                         Instant deadline);
  std::shared_ptr<State> state_;
};

}  // namespace aether::async
