// SPDX-License-Identifier: Apache-2.0
#include "async/task_group.h"

#include <algorithm>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <fmt/ranges.h>

#include "async/event.h"
#include "async/spawn.h"
#include "async/timers.h"
#include "base/check.h"
#include "base/error.h"
#include "base/log.h"

namespace aether::async {
namespace {

std::string describe(std::exception_ptr const& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (Error const& error) {
    return error.describe();
  } catch (std::exception const& other) {
    return other.what();
  } catch (...) {
    return "an exception of an unknown type";
  }
}

// A loop that has ended runs no task any more: what still sleeps in it is destroyed with it.
bool has_ended(Executor const& executor) {
  auto const* target = executor.target<boost::asio::io_context::executor_type>();
  return target != nullptr && target->context().stopped();
}

}  // namespace

// Shared with the members, because a task that missed its deadline may outlive the group.
struct TaskGroup::State {
  class Member;

  Executor executor;
  std::string name;
  std::size_t limit;
  bool stopping = false;
  bool limit_told = false;
  std::vector<Member*> members;  // each removes itself when it ends, or is destroyed with the loop
  Event empty;

  std::vector<std::string> names() const;
  void cancel() const;
};

class TaskGroup::State::Member final : public detail::Completion {
 public:
  Member(std::shared_ptr<State> state, std::string name)
      : state_(std::move(state)), name_(std::move(name)) {
    state_->members.push_back(this);
    state_->empty.reset();
  }
  ~Member() override { leave(); }
  Member(Member const&) = delete;
  Member& operator=(Member const&) = delete;

  [[nodiscard]] std::string const& name() const { return name_; }

  void ended(std::exception_ptr thrown) override {
    if (thrown && !is_cancelled(thrown)) {
      log::error("task {}/{} failed: {}", state_->name, name_, describe(thrown));
    }
    leave();
  }

 private:
  void leave() {
    if (std::erase(state_->members, this) > 0 && state_->members.empty()) state_->empty.set();
  }

  std::shared_ptr<State> state_;
  std::string name_;
};

std::vector<std::string> TaskGroup::State::names() const {
  std::vector<std::string> names;
  names.reserve(members.size());
  for (Member const* member : members) names.push_back(member->name());
  return names;
}

void TaskGroup::State::cancel() const {
  // A copy: the list changes under us if a task ends by its cancellation at once.
  std::vector<Member*> const cancelled = members;
  for (Member* member : cancelled) {
    if (std::ranges::find(members, member) == members.end()) continue;
    member->signal.emit(boost::asio::cancellation_type::terminal);
  }
}

TaskGroup::TaskGroup(Executor executor, std::string name, std::size_t limit)
    : state_(std::make_shared<State>()) {
  state_->executor = std::move(executor);
  state_->name = std::move(name);
  state_->limit = limit;
  state_->empty.set();
}

TaskGroup::~TaskGroup() {
  AETHER_CHECK(state_->members.empty() || has_ended(state_->executor),
               "the task group {} was destroyed with tasks still in it ({}): its owner must await "
               "stop() first",
               state_->name, fmt::join(state_->names(), ", "));
}

bool TaskGroup::spawn(std::string name, Task<void> task) {
  if (state_->stopping) return false;
  if (state_->members.size() >= state_->limit) {
    if (!std::exchange(state_->limit_told, true)) {
      log::warn("task {}/{} was not started: the group is at its limit of {} tasks", state_->name,
                name, state_->limit);
    }
    return false;
  }
  state_->limit_told = false;
  auto member = std::make_shared<State::Member>(state_, std::move(name));
  detail::spawn(state_->executor, std::move(task), std::move(member));
  return true;
}

void TaskGroup::cancel() {
  state_->cancel();
}

Task<void> TaskGroup::join() {
  return state_->empty.wait();
}

Task<std::vector<std::string>> TaskGroup::stop(Duration deadline) {
  state_->stopping = true;
  state_->cancel();
  return wait_until_empty(state_, deadline_in(deadline));
}

Task<std::vector<std::string>> TaskGroup::wait_until_empty(std::shared_ptr<State> state,
                                                           Instant deadline) {
  bool const throws = co_await boost::asio::this_coro::throw_if_cancelled();
  co_await ignore_cancellation();
  WaitOutcome outcome = WaitOutcome::Cancelled;
  while (outcome == WaitOutcome::Cancelled) {
    outcome = co_await state->empty.wait_outcome(deadline);
  }
  co_await boost::asio::this_coro::throw_if_cancelled(throws);
  for (std::string const& name : state->names()) {
    log::warn("task {}/{} did not end by the deadline of the stop", state->name, name);
  }
  co_return state->names();
}

std::size_t TaskGroup::size() const {
  return state_->members.size();
}

bool TaskGroup::stopping() const {
  return state_->stopping;
}

std::vector<std::string> TaskGroup::names() const {
  return state_->names();
}

Executor TaskGroup::executor() const {
  return state_->executor;
}

}  // namespace aether::async
