// SPDX-License-Identifier: Apache-2.0
// Waiting for time to pass, and waiting no longer than that.
#pragma once
#include <optional>
#include <utility>

#include "async/event.h"
#include "async/task.h"
#include "base/time.h"

namespace aether::async {

/// Now plus the duration; the end of time at most.
[[nodiscard]] Instant deadline_in(Duration duration);

[[nodiscard]] Task<void> sleep_for(Duration duration);
/// At an instant that has passed it returns on a later turn of the loop.
[[nodiscard]] Task<void> sleep_until(Instant instant);
/// Lets everything else that is ready run first.
[[nodiscard]] Task<void> yield();

/// Runs the task; false if it did not end within `duration`, when it is cancelled, and waited for
/// (so that nothing of it is left running; a task that ignores its cancellation makes this wait
/// on). What the task throws is thrown on. A cancellation of the caller cancels the task.
[[nodiscard]] Task<bool> with_deadline(Duration duration, Task<void> task);

/// As above: the task's value, or nothing if it did not end in time.
template <class T>
[[nodiscard]] Task<std::optional<T>> with_deadline(Duration duration, Task<T> task);

/// Runs the task until it ends (true) or the event is set, when it is cancelled and waited for
/// (false). The event must outlive the call.
[[nodiscard]] Task<bool> until(Event& event, Task<void> task);

namespace detail {
template <class T>
Task<void> keep(Task<T> task, std::optional<T>* value) {
  T result = co_await std::move(task);
  value->emplace(std::move(result));
}
}  // namespace detail

template <class T>
Task<std::optional<T>> with_deadline(Duration duration, Task<T> task) {
  std::optional<T> value;
  Task<void> kept = detail::keep(std::move(task), &value);
  co_await with_deadline(duration, std::move(kept));
  co_return value;
}

}  // namespace aether::async
