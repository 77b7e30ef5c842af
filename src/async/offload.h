// SPDX-License-Identifier: Apache-2.0
// offload: work that blocks or computes for long runs on another thread; the loop goes on.
#pragma once
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "async/limits.h"
#include "async/task.h"

namespace aether::async {

/// A few threads and a bounded queue. Must end before the Loop whose tasks use it. The destructor
/// finishes what was queued, then joins.
class ThreadPool {
 public:
  using Work = std::move_only_function<void()>;

  explicit ThreadPool(std::size_t threads, std::size_t queue_max = kOffloadQueueMax);
  ~ThreadPool();
  ThreadPool(ThreadPool const&) = delete;
  ThreadPool& operator=(ThreadPool const&) = delete;

  /// False: the queue is full. Thread-safe. Work must not throw.
  [[nodiscard]] bool post(Work work);
  [[nodiscard]] std::size_t threads() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

namespace detail {
Task<void> run_on(ThreadPool& pool, ThreadPool::Work work);
}

/// Runs fn on a thread of the pool; its value, or what it threw. Values in, values out: fn owns all
/// it touches, because a cancelled caller goes on while fn still runs. Throws Error(LimitReached)
/// if the queue is full.
template <class Fn>
[[nodiscard]] Task<std::invoke_result_t<Fn&>> offload(ThreadPool& pool, Fn fn) {
  using Value = std::invoke_result_t<Fn&>;
  struct Shared {
    std::exception_ptr thrown;
    std::conditional_t<std::is_void_v<Value>, std::optional<bool>, std::optional<Value>> value;
  };
  auto shared = std::make_shared<Shared>();
  ThreadPool::Work work = [shared, fn = std::move(fn)]() mutable {
    try {
      if constexpr (std::is_void_v<Value>) {
        fn();
      } else {
        shared->value.emplace(fn());
      }
    } catch (...) {
      shared->thrown = std::current_exception();
    }
  };
  co_await detail::run_on(pool, std::move(work));
  if (shared->thrown) std::rethrow_exception(shared->thrown);
  if constexpr (!std::is_void_v<Value>) co_return std::move(*shared->value);
}

}  // namespace aether::async
