// SPDX-License-Identifier: Apache-2.0
// Performs what retirement machines decide: how revisions that no longer serve drain and end.
#include <algorithm>
#include <chrono>
#include <utility>

#include "async/offload.h"
#include "async/timers.h"
#include "base/fault.h"
#include "base/log.h"
#include "relay/service_impl.h"
#include "relay/swap_policy.h"

namespace aether::relay {
namespace {

/// The machine ends a drain by itself; the instance's own deadline only backs it up.
constexpr Duration kStopBackstop = std::chrono::seconds(10);

/// Between counts of connections: a count costs what it costs, so the pauses grow with it, and
/// counting takes a hundredth of one processor at most.
constexpr Duration kCountFirst = std::chrono::milliseconds(50);
constexpr Duration kCountLast = std::chrono::seconds(1);
constexpr int kPauseOfCount = 100;

}  // namespace

void Service::Impl::perform(action::Retire action) {
  RevisionId const revision = action.revision;
  auto const own = specs_.find(revision);
  if (own == specs_.end()) return;
  config::Service const& newest = current_ ? specs_.at(current_->report.next) : own->second;
  RetirementActions begun;
  Retiree retiree{
      .state = begin_retirement(action.farewell, deps_.clock.now(),
                                retirement_policy(newest.orchestration.drain, own->second), begun)};
  bool const drains = action.farewell == Farewell::Drain;
  if (drains) log::info("{}: revision {} drains", name_, revision);
  Instant const deadline = retiree.state.deadline;
  tasks_.spawn("count connections", until_over(retiree.over, count_use(revision, retiree.over)));
  retirees_.insert_or_assign(revision, std::move(retiree));
  carry_out(revision, begun);
  if (drains) announce_drain(revision, deadline - deps_.clock.now());
  if (find(revision) == nullptr) tell_retiree(revision, RetirementEvent::Exited);
  deadline_changed_.set();
}

void Service::Impl::tell_retiree(RevisionId revision, RetirementEvent event) {
  if (stopping_) return;
  auto found = retirees_.find(revision);
  if (found == retirees_.end()) return;
  RetirementActions const actions = step(found->second.state, event, deps_.clock.now());
  carry_out(revision, actions);
  found = retirees_.find(revision);
  if (found != retirees_.end() && is_over(found->second.state)) {
    found->second.over->set();
    retirees_.erase(found);
    forget_revisions();
    tell_state();
  }
  if (!actions.empty()) close_unused_listeners();
  deadline_changed_.set();
}

void Service::Impl::carry_out(RevisionId revision, RetirementActions const& actions) {
  for (RetirementAction const action : actions) {
    switch (action) {
      case RetirementAction::WatchQueue:
        tasks_.spawn("accept queue of a retiree", watch_retiree_queue(revision));
        break;
      case RetirementAction::WatchUse:
        retirees_.at(revision).watched = true;
        break;
      case RetirementAction::Stop:
        stop_retiree(revision);
        break;
      case RetirementAction::Kill:
        kill_retiree(revision);
        break;
      case RetirementAction::RetireLane:
        tasks_.spawn("close lane", close_lane(revision));
        break;
    }
  }
}

void Service::Impl::stop_retiree(RevisionId revision) {
  supervise::Instance* const instance = find(revision);
  if (instance == nullptr) return;
  if (auto passed = fault::pass(fault::Point::SwapDrain); !passed) {
    // As if the signal were lost: the deadline of the drain ends it.
    log::error("{}: revision {}: {}", name_, revision, passed.error().describe());
    return;
  }
  stop_instance(*instance, retirees_.at(revision).state.due - deps_.clock.now());
}

void Service::Impl::stop_instance(supervise::Instance& instance, Duration limit) {
  instance.begin_stop(specs_.at(instance.revision()).stop_signal,
                      std::max(limit, Duration::zero()) + kStopBackstop);
}

void Service::Impl::kill_retiree(RevisionId revision) {
  supervise::Instance* const instance = find(revision);
  if (instance == nullptr) return;
  Retiree const& retiree = retirees_.at(revision);
  bool const drained = retiree.state.stopped_at != Instant();
  if (drained) {
    log::warn("{}: revision {} (pid {}) did not end in time and is killed; it had {} connections",
              name_, revision, instance->pid(),
              retiree.connections ? std::to_string(*retiree.connections) : "an unknown number of");
  }
  instance->kill_tree();
}

void Service::Impl::tick_retirees() {
  std::vector<RevisionId> late;
  for (auto const& [revision, retiree] : retirees_)
    if (deps_.clock.now() >= retiree.state.due) late.push_back(revision);
  for (RevisionId const revision : late) tell_retiree(revision, RetirementEvent::Tick);
}

async::Task<void> Service::Impl::watch_retiree_queue(RevisionId revision) {
  auto const found = retirees_.find(revision);
  if (found == retirees_.end()) co_return;
  // The machine's own limit ends the watch, too.
  std::shared_ptr<async::Event> const over = found->second.over;
  co_await until_over(over, listeners_.until_queues_empty(revision));
  // Before it is told to stop: from the signal on it may be busy with nothing but its own end.
  if (!over->is_set()) co_await until_over(over, count_once(revision, over));
  if (!over->is_set()) tell_retiree(revision, RetirementEvent::QueueEmpty);
}

async::Task<void> Service::Impl::count_use(RevisionId revision,
                                           std::shared_ptr<async::Event> over) {
  Duration pause = kCountFirst;
  while (!over->is_set()) {
    Instant const began = deps_.clock.now();
    co_await count_once(revision, over);
    Duration const took = deps_.clock.now() - began;
    auto const found = retirees_.find(revision);
    if (found == retirees_.end() || found->second.over != over) co_return;
    bool const unused = found->second.connections == 0U && listeners_.queues_empty(revision);
    if (unused && found->second.watched) tell_retiree(revision, RetirementEvent::Unused);
    pause = std::max(std::min(2 * pause, kCountLast), kPauseOfCount * took);
    co_await async::sleep_for(pause);
  }
}

async::Task<void> Service::Impl::count_once(RevisionId revision,
                                            std::shared_ptr<async::Event> over) {
  supervise::Instance const* const instance = find(revision);
  if (instance == nullptr) co_return;
  steer::AcceptedFrom from = listeners_.accepted_from(revision);
  std::vector<pid_t> tree = instance->tree();
  auto count = [from = std::move(from), tree = std::move(tree)] {
    return steer::count_connections(from, tree);
  };
  async::Task<Result<std::size_t>> counting = async::offload(counting_.get(), std::move(count));
  Result<std::size_t> const counted = co_await std::move(counting);
  auto const found = retirees_.find(revision);
  if (found == retirees_.end() || found->second.over != over) co_return;
  found->second.connections = counted ? std::optional(*counted) : std::nullopt;
  // Who still answers somebody does not give way; it could be kept from it for long.
  bool const unused = found->second.connections == 0U && listeners_.queues_empty(revision);
  if (supervise::Instance* const idle = find(revision); unused && idle != nullptr) idle->give_way();
}

// ---- The cap ------------------------------------------------------------------------------------

bool Service::Impl::drains() const {
  return std::ranges::any_of(retirees_, [](auto const& entry) {
    return entry.second.state.stage != Retirement::Stage::Killing;
  });
}

void Service::Impl::make_room(int max) {
  std::size_t excess =
      in_the_way(instances_.size(), retirees_.size(), static_cast<std::size_t>(max));
  std::vector<RevisionId> oldest;
  for (auto const& [revision, retiree] : retirees_)
    if (oldest.size() < excess) oldest.push_back(revision);
  for (RevisionId const revision : oldest) {
    log::info(
        "{}: revision {} still drains and is ended now: {} revisions may live at a time "
        "(max_revisions)",
        name_, revision, max);
    tell_retiree(revision, RetirementEvent::Hurry);
    auto const found = retirees_.find(revision);
    if (found != retirees_.end()) {
      announce_drain(revision, found->second.state.due - deps_.clock.now());
    }
  }
}

async::Task<void> Service::Impl::until_there_is_room(int max) {
  while (in_the_way(instances_.size(), retirees_.size(), static_cast<std::size_t>(max)) > 0) {
    buried_.reset();
    co_await buried_.wait();
  }
}

}  // namespace aether::relay
