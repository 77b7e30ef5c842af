// SPDX-License-Identifier: Apache-2.0
#include "async/event.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "async/timers.h"

namespace aether::async {

// A waiter is a timer that set() cuts short: so a wait has a deadline and a cancellation for free.
namespace {
struct Waiter {
  boost::asio::steady_timer timer;
  bool woken = false;
};
}  // namespace

struct Event::State {
  bool set = false;
  bool gone = false;  // the Event was destroyed
  std::vector<Waiter*> waiters;

  void wake_all() {
    std::vector<Waiter*> const waking = std::exchange(waiters, {});
    for (Waiter* waiter : waking) {
      waiter->woken = true;
      waiter->timer.cancel();
    }
  }
};

namespace {

// Keeps the list right however the waiting frame ends.
class Enlisted {
 public:
  Enlisted(std::vector<Waiter*>& list, Waiter& waiter) : list_(list), waiter_(waiter) {
    list_.push_back(&waiter_);
  }
  ~Enlisted() { std::erase(list_, &waiter_); }
  Enlisted(Enlisted const&) = delete;
  Enlisted& operator=(Enlisted const&) = delete;

 private:
  std::vector<Waiter*>& list_;
  Waiter& waiter_;
};

// The state is held here: the Event may go while the wait goes on.
template <class State>
Task<WaitOutcome> wait_on(std::shared_ptr<State> state, Instant deadline) {
  if (state->set) co_return WaitOutcome::Set;
  Executor const executor = co_await this_executor;
  Waiter waiter{.timer = boost::asio::steady_timer(executor, deadline)};
  Enlisted const enlisted(state->waiters, waiter);
  boost::system::error_code ec;
  co_await waiter.timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  if (waiter.woken) co_return state->gone ? WaitOutcome::Cancelled : WaitOutcome::Set;
  co_return ec ? WaitOutcome::Cancelled : WaitOutcome::TimedOut;
}

}  // namespace

Event::Event() : state_(std::make_shared<State>()) {}

Event::~Event() {
  state_->gone = true;
  state_->wake_all();
}

void Event::set() {
  state_->set = true;
  state_->wake_all();
}

void Event::reset() {
  state_->set = false;
}

bool Event::is_set() const {
  return state_->set;
}

Task<WaitOutcome> Event::wait_outcome(Instant deadline) {
  return wait_on(state_, deadline);
}

Task<void> Event::wait() {
  WaitOutcome const outcome = co_await wait_outcome(Instant::max());
  if (outcome == WaitOutcome::Cancelled) throw_cancelled();
}

Task<bool> Event::wait_for(Duration duration) {
  return wait_until(deadline_in(duration));
}

Task<bool> Event::wait_until(Instant deadline) {
  WaitOutcome const outcome = co_await wait_outcome(deadline);
  if (outcome == WaitOutcome::Cancelled) throw_cancelled();
  co_return outcome == WaitOutcome::Set;
}

}  // namespace aether::async
