// SPDX-License-Identifier: Apache-2.0
// How requests reach the instances: through the gateway, or straight to the listener that they
// inherit. Nobody gives connections to an instance of a direct route, so that only the kernel knows
// who has some: it is counted from outside. One that shall go is frozen before it is counted for
// the last time: then it cannot accept another one in between.
#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "base/log.h"
#include "functions/direct_route.h"
#include "functions/function_impl.h"
#include "functions/lookup_route.h"
#include "os/proc.h"

namespace aether::functions {
namespace {

/// Between two counts of an instance's connections: an eighth of idle_timeout within these bounds.
constexpr Duration kUseLookFirst = std::chrono::milliseconds(10);
constexpr Duration kUseLookLast = std::chrono::milliseconds(500);
/// For an instance to take the first who waits.
constexpr Duration kFirstUse = std::chrono::seconds(1);
constexpr Duration kFirstUseLook = std::chrono::milliseconds(1);
/// A count of many takes time, of which this is a small part.
constexpr int kPauseOfCount = 20;
/// For a frozen tree to stand still: as long as its longest system call that cannot be interrupted.
constexpr Duration kStillLimit = std::chrono::milliseconds(500);
constexpr Duration kStillPoll = std::chrono::microseconds(200);
/// Until an old instance, or one that is still in use, is looked at again.
constexpr Duration kDrainLook = std::chrono::milliseconds(20);

}  // namespace

Status Function::Impl::open_way() {
  config::Function const& function = spec_.function;
  if (function.route != config::Route::Direct) return deps_.gateway.open(route());
  DirectWay::Wanted const wanted = [this] { this->wanted(1); };
  if (function.bind != config::Bind::Documented) {
    TRY_ASSIGN(direct_, DirectRoute::open(deps_.executor, function.trigger_port, wanted));
    return {};
  }
  TRY_ASSIGN(steer::LookupRouter* const router, deps_.router());
  TRY_ASSIGN(direct_, LookupRoute::open(deps_.executor, *router, function.trigger_port, wanted));
  return {};
}

Status Function::Impl::check_way(config::Function const& next) const {
  config::Function const& now = spec_.function;
  if (next.trigger_port != now.trigger_port)
    return fail(ErrorCode::Unsupported,
                fmt::format("{}: its trigger_port cannot change from {} to {} while it runs; "
                            "remove it first, or restart Aether",
                            id_, now.trigger_port, next.trigger_port));
  bool const ways_differ =
      now.route == config::Route::Direct &&
      (now.bind == config::Bind::Documented) != (next.bind == config::Bind::Documented);
  if (next.route != now.route || ways_differ)
    return fail(ErrorCode::Unsupported,
                fmt::format("{}: its route cannot change while it runs; remove it first, or "
                            "restart Aether",
                            id_));
  return {};
}

async::Task<void> Function::Impl::close_way(Duration limit) {
  async::Task<void> closing = is_direct() ? direct_->close(limit) : deps_.gateway.close(id_, limit);
  co_await std::move(closing);
}

Status Function::Impl::steer_way(RevisionId revision) {
  if (!is_direct()) return {};
  // Where it was spawned from; a revision that is gone back to has it still.
  if (auto lane = direct_->lane(revision); !lane) return fail(std::move(lane).error());
  return direct_->steer_to(revision);
}

void Function::Impl::refuse_waiting(std::string const& why) {
  if (!is_direct()) return deps_.gateway.fail_waiting(id_, why);
  log::warn("{}: connections are refused: {}", id_, why);
  direct_->refuse_waiting();
}

void Function::Impl::offer_way(InstanceId instance, Live& live, StartTier tier) {
  live.offered = true;
  if (!is_direct())
    return deps_.gateway.add(
        id_, {.instance = instance, .port = live.port, .tier = tier, .ring = live.ring});
  // It may have been frozen to be counted.
  (void)live.instance->thaw();
  std::vector<os::UniqueFd> listeners;
  for (os::UniqueFd const& one : live.listeners)
    listeners.emplace_back(::fcntl(one.get(), F_DUPFD_CLOEXEC, 0));
  direct_->add(instance, live.revision->id, std::move(listeners));
  if (!live.watched) live.watched = tasks_.spawn("watch use", watch_use(instance));
}

void Function::Impl::withdraw_way(InstanceId instance, BackendEnd why) {
  if (Live* const live = find(instance)) live->offered = false;
  if (is_direct())
    direct_->remove(instance);
  else
    deps_.gateway.remove(id_, instance, std::move(why));
}

RequestCounts Function::Impl::request_counts() const {
  if (!is_direct()) return deps_.gateway.counts(id_);
  RequestCounts counts;
  counts.queued = direct_->queued();
  for (auto const& [instance, live] : lives_) counts.in_flight += live->in_flight;
  return counts;
}

bool Function::Impl::heeds_term(Live const& live) {
  // The first process of a pid namespace sees only what it has a handler for.
  return os::read_disposition(live.instance->pid(), SIGTERM) == os::Disposition::Handled;
}

// ---- Instances of a direct route ----------------------------------------------------------------

async::Task<std::optional<std::uint32_t>> Function::Impl::count_use(InstanceId instance) {
  Live const* const live = find(instance);
  if (live == nullptr || live->exited) co_return std::nullopt;
  async::Task<std::optional<std::uint32_t>> counting = direct_->connections(live->instance->tree());
  auto const counted = co_await std::move(counting);
  if (find(instance) == nullptr) co_return std::nullopt;
  // What cannot be counted is taken for one: who is in use is not ended. Who waits for it is its
  // own: nobody else takes them.
  co_return counted.value_or(1) + direct_->queued_at(instance);
}

async::Task<std::optional<std::uint32_t>> Function::Impl::hold(InstanceId instance) {
  if (Live* const live = find(instance); live != nullptr && !live->exited) {
    async::Task<void> grouping = live->instance->grouped();
    co_await std::move(grouping);
  }
  Instant const deadline = deps_.clock.now() + kStillLimit;
  Live* live = find(instance);
  if (live == nullptr || live->exited || live->ending) co_return std::nullopt;
  direct_->pause(instance);
  (void)live->instance->freeze();
  while (live != nullptr && !live->exited && !live->instance->is_still()) {
    if (deps_.clock.now() >= deadline) break;
    co_await async::sleep_for(kStillPoll);
    live = find(instance);
  }
  async::Task<std::optional<std::uint32_t>> counting = count_use(instance);
  auto counted = co_await std::move(counting);
  live = find(instance);
  // It may accept one still: it is left in peace.
  if (live != nullptr && !live->instance->is_still()) counted = std::max(counted.value_or(0), 1U);
  if (live == nullptr || live->exited || live->ending) co_return std::nullopt;
  if (counted.value_or(0) == 0) co_return counted;
  (void)live->instance->thaw();
  direct_->resume(instance);
  co_return counted;
}

/// It serves no longer: it is left its connections, and those that wait in the lane of a revision
/// that gets no more.
async::Task<void> Function::Impl::drain_direct(InstanceId instance) {
  while (true) {
    Live const* const live = find(instance);
    if (live == nullptr || live->exited || live->ending) co_return;
    RevisionId const revision = live->revision->id;
    bool const stays = revision == pool_.serving() && !pool_.stopping();
    bool const all_taken = stays || direct_->queue_empty(revision, instance);
    // Asked to end, it lets idle clients go, whom we cannot tell from others.
    if (pool_.stopping() && all_taken && heeds_term(*live)) break;
    async::Task<std::optional<std::uint32_t>> holding = hold(instance);
    auto const held = co_await std::move(holding);
    if (!held) co_return;
    if (*held == 0 && all_taken) break;
    if (Live* const used = find(instance)) {
      (void)used->instance->thaw();
      used->in_flight = *held;
    }
    co_await async::sleep_for(kDrainLook);
    if (!stays) continue;
    happen(pool::Occupied{.instance = instance, .in_flight = *held});
    co_return;
  }
  if (Live* const live = find(instance)) live->in_flight = 0;
  withdraw_way(instance, {});
  happen(pool::Drained{instance});
}

/// It is not needed; a client may have found it all the same.
async::Task<void> Function::Impl::end_unused(InstanceId instance) {
  Instant const deadline = deps_.clock.now() + pool_.policy().drain_limit;
  while (deps_.clock.now() < deadline) {
    async::Task<std::optional<std::uint32_t>> holding = hold(instance);
    auto const held = co_await std::move(holding);
    if (held.value_or(0) == 0) break;
    co_await async::sleep_for(kDrainLook);
  }
  withdraw_way(instance, {});
  if (Live* const live = find(instance); live != nullptr && !live->ending) end(*live);
}

/// That it takes who waited is seen by what is left in the queue: a short request may be over
/// before its connection could be counted.
async::Task<void> Function::Impl::watch_first_use(InstanceId instance) {
  Instant const deadline = deps_.clock.now() + kFirstUse;
  while (deps_.clock.now() < deadline) {
    Live const* const live = find(instance);
    if (live == nullptr || live->exited || !live->offered) co_return;
    if (direct_->queue_empty(live->revision->id, instance)) {
      busy(instance, 1);
      co_return;
    }
    co_await async::sleep_for(kFirstUseLook);
  }
}

async::Task<void> Function::Impl::watch_use(InstanceId instance) {
  async::Task<void> watching = watch_first_use(instance);
  co_await std::move(watching);
  Duration const pause = std::clamp(spec_.function.idle_timeout / 8, kUseLookFirst, kUseLookLast);
  while (true) {
    Instant const began = deps_.clock.now();
    async::Task<std::optional<std::uint32_t>> counting = count_use(instance);
    auto const counted = co_await std::move(counting);
    Live* const live = find(instance);
    if (live == nullptr || live->exited) co_return;
    if (!live->offered || !counted) {
      live->watched = false;
      co_return;
    }
    if (*counted != live->in_flight) busy(instance, *counted);
    Duration const took = deps_.clock.now() - began;
    co_await async::sleep_for(std::max(pause, took * kPauseOfCount));
  }
}

}  // namespace aether::functions
