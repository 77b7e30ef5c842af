// SPDX-License-Identifier: Apache-2.0
#include "async/spawn.h"

#include <utility>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "async/event.h"

namespace aether::async::detail {
namespace {

// co_spawn would run the task up to its first wait before it returns: the caller's object may be
// half built.
Task<void> begin_later(Task<void> task) {
  co_await boost::asio::post(boost::asio::use_awaitable);
  co_await std::move(task);
}

}  // namespace

void spawn(Executor const& executor, Task<void> task, std::shared_ptr<Completion> completion) {
  boost::asio::cancellation_slot const slot = completion->signal.slot();
  auto ended = [completion = std::move(completion)](std::exception_ptr thrown) {
    completion->ended(std::move(thrown));
  };
  boost::asio::co_spawn(executor, begin_later(std::move(task)),
                        boost::asio::bind_cancellation_slot(slot, std::move(ended)));
}

struct Child::State final : Completion {
  Event done;
  std::exception_ptr thrown;

  void ended(std::exception_ptr exception) override {
    thrown = std::move(exception);
    done.set();
  }
};

Child::Child(Executor const& executor, Task<void> task) : state_(std::make_shared<State>()) {
  spawn(executor, std::move(task), state_);
}

void Child::cancel() {
  state_->signal.emit(boost::asio::cancellation_type::terminal);
}

Task<bool> Child::join(Instant deadline) {
  bool const throws = co_await boost::asio::this_coro::throw_if_cancelled();
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  WaitOutcome const first = co_await state_->done.wait_outcome(deadline);
  WaitOutcome last = first;
  while (last != WaitOutcome::Set) {
    cancel();
    last = co_await state_->done.wait_outcome(Instant::max());
  }
  co_await boost::asio::this_coro::throw_if_cancelled(throws);
  if (!state_->thrown) co_return true;
  if (first == WaitOutcome::TimedOut && is_cancelled(state_->thrown)) co_return false;
  std::rethrow_exception(state_->thrown);
}

}  // namespace aether::async::detail
