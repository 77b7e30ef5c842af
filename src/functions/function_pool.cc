// SPDX-License-Identifier: Apache-2.0
// Asks the pool machine, and performs what it decides.
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/log.h"
#include "functions/function_impl.h"

namespace aether::functions {

Function::Impl::RevisionPtr Function::Impl::revision_of(RevisionId revision) const {
  auto const found = revisions_.find(revision);
  return found == revisions_.end() ? nullptr : found->second;
}

void Function::Impl::happen(PoolInput input) {
  inputs_.push_back(std::move(input));
  if (performing_) return;
  performing_ = true;
  while (!inputs_.empty()) {
    PoolInput const next = std::move(inputs_.front());
    inputs_.pop_front();
    PoolActions const actions = pool_.step(next, deps_.clock.now(), deps_.next_instance);
    for (PoolAction const& action : actions)
      std::visit([this](auto const& what) { perform(what); }, action);
  }
  performing_ = false;
  moved_.set();
  moved_.reset();
}

async::Task<void> Function::Impl::tick() {
  while (true) {
    auto const due = pool_.next_due();
    Instant const at = due.value_or(Instant::max());
    if (due && deps_.clock.now() >= at) {
      happen(pool::Tick{});
      co_await async::yield();
    } else if (due) {
      async::Task<bool> waiting = moved_.wait_until(at);
      co_await std::move(waiting);
    } else {
      co_await moved_.wait();
    }
  }
}

std::uint32_t Function::Impl::load() const {
  std::uint32_t all = pool_.waiting();
  for (auto const& [instance, member] : pool_.members()) all += member.in_flight;
  return all;
}

async::Task<void> Function::Impl::scale() {
  std::uint32_t wish = 0;
  while (true) {
    if (autoscaler_.at_rest() && load() == 0) {
      co_await moved_.wait();
      continue;
    }
    co_await async::sleep_for(AutoscalerPolicy::kTick);
    std::uint32_t const ready = pool_.count(MemberState::Warm);
    std::uint32_t const wanted = autoscaler_.sample(load(), ready, deps_.clock.now());
    if (wanted == wish) continue;
    wish = wanted;
    happen(pool::Scale{wish});
  }
}

// ---- What the gateway says ----------------------------------------------------------------------

void Function::Impl::busy(InstanceId instance, std::uint32_t in_flight) {
  if (Live* const live = find(instance)) live->in_flight = in_flight;
  happen(pool::Busy{.instance = instance, .in_flight = in_flight});
}

void Function::Impl::timed_out(InstanceId instance) {
  happen(pool::Broken{
      .instance = instance,
      .why = fmt::format("a request took longer than timeout_ms, {}", spec_.function.timeout_ms)});
}

void Function::Impl::unreachable(InstanceId instance, std::string why) {
  happen(pool::Broken{.instance = instance, .why = std::move(why), .unreachable = true});
}

// ---- What the pool wants ------------------------------------------------------------------------

void Function::Impl::perform(pool::Start const& start) {
  tasks_.spawn("start", this->start(start));
}

async::Task<void> Function::Impl::start(pool::Start order) {
  RevisionPtr const revision = revision_of(order.revision);
  bool const copies = order.making == Making::Copy && revision && is_copied(*revision);
  std::optional<Error> fault;
  if (!revision || stopping_) {
    fault.emplace(ErrorCode::NotRunning, fmt::format("{} has no such revision any more", id_));
  } else if (copies) {
    async::Task<Result<Live*>> copying = revision->image
                                             ? restore(revision, order.instance, order.limit)
                                             : copy(revision, order.instance, order.limit);
    auto const copied = co_await std::move(copying);
    if (!copied) fault = copied.error();
    judge_template(revision, fault);
  } else {
    auto const spawned = spawn(revision, order.instance);
    if (!spawned) fault = spawned.error();
    if (spawned) {
      async::Task<Status> starting = until_serving(order.instance, order.limit);
      Status const ready = co_await std::move(starting);
      if (!ready) fault = ready.error();
    }
  }
  Live* const live = find(order.instance);
  if (!fault && (live == nullptr || live->exited))
    fault.emplace(ErrorCode::ExitedEarly, fmt::format("{} ended as soon as it ran", id_));
  if (!fault && pool_.members().contains(order.instance)) {
    happen(pool::Started{order.instance});
    co_return;
  }
  if (!fault) {
    // It was given up meanwhile, when there was nothing to end yet.
    end(*live);
    co_return;
  }
  auto const tier = copies ? shown_tier(StartTier::Clone, *revision) : StartTier::Cold;
  bool const is_asked = stopping_ || (live != nullptr && live->ending);
  if (!is_asked) ++starts_.at(static_cast<std::size_t>(tier)).failed;
  if (!is_asked) log::warn("{}: instance {}: {}", id_, order.instance, fault->describe());
  // Else its burial is the answer.
  if (live != nullptr) end(*live);
  happen(pool::StartFailed{.instance = order.instance, .why = fault->message()});
}

void Function::Impl::perform(pool::Freeze freeze) {
  tasks_.spawn("park", park(freeze.instance));
}

async::Task<void> Function::Impl::park(InstanceId instance) {
  if (Live* const live = find(instance); live != nullptr && !live->exited) {
    async::Task<void> grouping = live->instance->grouped();
    co_await std::move(grouping);
  }
  Live* const live = find(instance);
  if (live == nullptr || live->exited || live->ending) co_return;
  Status const frozen = live->instance->freeze();
  if (!frozen) {
    happen(pool::Broken{.instance = instance, .why = frozen.error().describe()});
    co_return;
  }
  if (is_direct()) {
    // Clients may have found it before it was frozen.
    async::Task<std::optional<std::uint32_t>> holding = hold(instance);
    auto const held = co_await std::move(holding);
    if (!held) co_return;
    if (*held > 0) {
      happen(pool::Occupied{.instance = instance, .in_flight = *held});
      co_return;
    }
  }
  happen(pool::Frozen{instance});
}

void Function::Impl::perform(pool::Thaw thaw) {
  Live* const live = find(thaw.instance);
  if (live == nullptr) return;
  Status const thawed = live->instance->thaw();
  if (thawed)
    happen(pool::Thawed{thaw.instance});
  else
    happen(pool::Broken{.instance = thaw.instance, .why = thawed.error().describe()});
}

void Function::Impl::perform(pool::Offer offer) {
  Live* const live = find(offer.instance);
  if (live == nullptr) return;
  StartTier const tier = shown_tier(offer.tier, *live->revision);
  if (tier != StartTier::Warm) {
    StartCounts& counts = starts_.at(static_cast<std::size_t>(tier));
    ++counts.count;
    counts.took.add(offer.took);
  }
  offer_way(offer.instance, *live, tier);
}

void Function::Impl::perform(pool::Withdraw withdraw) {
  if (is_direct()) {
    tasks_.spawn("drain", drain_direct(withdraw.instance));
    return;
  }
  withdraw_way(withdraw.instance, {.message = "it is not needed any more"});
  tasks_.spawn("drain", drain(withdraw.instance));
}

async::Task<void> Function::Impl::drain(InstanceId instance) {
  async::Task<void> draining = deps_.gateway.drained(id_, instance, pool_.policy().drain_limit);
  co_await std::move(draining);
  if (Live* const live = find(instance)) live->in_flight = 0;
  happen(pool::Drained{instance});
}

void Function::Impl::perform(pool::End const& end) {
  Live* const live = find(end.instance);
  if (live == nullptr) {
    // A start that is on its way still: its own task finds out, and answers.
    happen(pool::Gone{.instance = end.instance});
    return;
  }
  live->reason = end.why;
  auto const kind = end.why.empty() ? BackendEnd::Kind::Retired : BackendEnd::Kind::Died;
  if (is_direct() && end.why.empty() && !stopping_) {
    tasks_.spawn("end unused", end_unused(end.instance));
    return;
  }
  withdraw_way(end.instance, {.kind = kind, .message = end.why});
  if (!end.why.empty()) log::warn("{}: instance {} is ended: {}", id_, end.instance, end.why);
  this->end(*live);
}

void Function::Impl::perform(pool::FailWaiting const& fail) {
  refuse_waiting(fail.why);
}

void Function::Impl::perform(pool::DropRevision drop) {
  drop_revision(drop.revision);
}

}  // namespace aether::functions
