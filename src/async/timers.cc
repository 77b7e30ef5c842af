// SPDX-License-Identifier: Apache-2.0
#include "async/timers.h"

#include <chrono>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "async/spawn.h"

namespace aether::async {
namespace {

// Ends when the event is set, by cancelling the child: run beside it.
Task<void> cancel_when(Event& event, detail::Child& child, bool& cut) {
  co_await event.wait();
  cut = true;
  child.cancel();
}

}  // namespace

Instant deadline_in(Duration duration) {
  Instant const now = std::chrono::steady_clock::now();
  return duration > Instant::max() - now ? Instant::max() : now + duration;
}

Task<void> sleep_for(Duration duration) {
  return sleep_until(deadline_in(duration));
}

Task<void> sleep_until(Instant instant) {
  Executor const executor = co_await this_executor;
  boost::asio::steady_timer timer(executor, instant);
  co_await timer.async_wait(boost::asio::use_awaitable);
}

Task<void> yield() {
  co_await boost::asio::post(boost::asio::use_awaitable);
}

Task<bool> with_deadline(Duration duration, Task<void> task) {
  Executor const executor = co_await this_executor;
  detail::Child child(executor, std::move(task));
  co_return co_await child.join(deadline_in(duration));
}

Task<bool> until(Event& event, Task<void> task) {
  Executor const executor = co_await this_executor;
  bool const throws = co_await boost::asio::this_coro::throw_if_cancelled();
  bool cut = false;
  detail::Child child(executor, std::move(task));
  detail::Child watch(executor, cancel_when(event, child, cut));
  std::exception_ptr thrown;
  try {
    co_await child.join(Instant::max());
  } catch (...) {
    thrown = std::current_exception();
  }
  // The watch refers to this frame: it has to be gone, even if this task is being cancelled.
  watch.cancel();
  co_await ignore_cancellation();
  try {
    co_await watch.join(Instant::max());
  } catch (...) {
    // It was cancelled above, or its event is gone: either is its end.
  }
  co_await boost::asio::this_coro::throw_if_cancelled(throws);
  if (!thrown) co_return true;
  if ((cut || event.is_set()) && is_cancelled(thrown)) co_return false;
  std::rethrow_exception(thrown);
}

}  // namespace aether::async
