// SPDX-License-Identifier: Apache-2.0
// Task<T>: a coroutine on the loop, begun when it is awaited or given to a TaskGroup.
#pragma once
#include <exception>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/this_coro.hpp>

namespace aether::async {

/// Lazy: nothing runs before `co_await` or TaskGroup::spawn. Faults travel as thrown `Error`s.
template <class T = void>
using Task = boost::asio::awaitable<T>;

/// Where tasks run. Cheap to copy; all executors of one Loop are the same loop.
using Executor = boost::asio::any_io_executor;

/// Inside a coroutine: `Executor executor = co_await async::this_executor;`
inline constexpr auto this_executor = boost::asio::this_coro::executor;

/// Cancellation is an outcome, not an error: a cancelled task ends by an exception that is not an
/// `Error`, and that only a task's root catches. True for that exception.
[[nodiscard]] bool is_cancelled(std::exception_ptr const& exception) noexcept;
[[noreturn]] void throw_cancelled();

/// `co_await async::ignore_cancellation();` From here on this task (with all that it awaits) is no
/// longer ended by a cancellation that has come already, so that it can clean up by awaiting.
/// Without it each co_await of a cancelled task throws. A cancellation that comes later still ends
/// the wait it meets.
[[nodiscard]] inline auto ignore_cancellation() noexcept {
  return boost::asio::this_coro::throw_if_cancelled(false);
}
/// `co_await async::heed_cancellation();` The usual state again, once the cleaning up is done.
[[nodiscard]] inline auto heed_cancellation() noexcept {
  return boost::asio::this_coro::throw_if_cancelled(true);
}

}  // namespace aether::async
