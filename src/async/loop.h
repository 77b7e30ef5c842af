// SPDX-License-Identifier: Apache-2.0
// Loop: the one thread's event loop. All state of the control plane is touched from it only.
#pragma once
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "async/task.h"
#include "base/time.h"

namespace aether::async {

/// Owns the io_context. Must outlive everything that was given its executor, except tasks that
/// still sleep in it: their frames are destroyed with it.
class Loop {
 public:
  /// @param clock Told to those who ask clock(); must outlive the loop.
  explicit Loop(Clock const& clock);
  ~Loop();
  Loop(Loop const&) = delete;
  Loop& operator=(Loop const&) = delete;

  [[nodiscard]] Executor executor() const;
  [[nodiscard]] Clock const& clock() const { return clock_; }

  /// Runs until stop() or until nothing is left to wait for. May be called again.
  void run();
  /// Ends run() after the handler that runs now. Thread-safe.
  void stop();
  /// Runs what is ready and what becomes ready within `duration`. For tests and benchmarks.
  void run_for(Duration duration);

  /// Runs the loop until the task has ended; its value, or what it threw. Other tasks run meanwhile
  /// and stay where they are afterwards. Throws Error(Internal) if the loop ran dry, or was
  /// stopped, before.
  template <class T>
  T run_task(Task<T> task);

 private:
  struct Context;
  void run_until_end(Task<void> task);
  template <class T>
  static Task<void> keep(Task<T> task, std::optional<T>* value);

  std::unique_ptr<Context> context_;
  Clock const& clock_;
};

template <class T>
Task<void> Loop::keep(Task<T> task, std::optional<T>* value) {
  T result = co_await std::move(task);
  value->emplace(std::move(result));
}

template <class T>
T Loop::run_task(Task<T> task) {
  if constexpr (std::is_void_v<T>) {
    run_until_end(std::move(task));
  } else {
    std::optional<T> value;
    run_until_end(keep(std::move(task), &value));
    return std::move(*value);
  }
}

}  // namespace aether::async
