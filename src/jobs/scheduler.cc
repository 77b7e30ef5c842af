// SPDX-License-Identifier: Apache-2.0
#include "jobs/scheduler.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace aether::jobs {
namespace {

/// What a queue of weight 1 pays for each run that it begins (stride scheduling: Waldspurger,
/// Weihl, 1995). Divisible by all weights.
constexpr std::uint64_t kStride = 16;
/// Of its time a lease is renewed when this share is left.
constexpr int kRenewalShare = 2;

}  // namespace

std::uint64_t queue_weight(std::string_view queue) {
  if (queue == "realtime") return 16;
  if (queue == "background") return 2;
  if (queue == "heavy") return 1;
  return 4;
}

bool Scheduler::Place::operator<(Place const& other) const {
  return std::tie(other.priority, since, run) < std::tie(priority, other.since, other.run);
}

Scheduler::Place Scheduler::place_of(ReadyRun const& run) {
  return {.priority = run.priority, .since = run.since, .run = run.run.text};
}

void Scheduler::offer(ReadyRun run) {
  if (leases_.contains(run.run.text)) return;
  if (auto const known = waiting_.find(run.run.text); known != waiting_.end()) {
    if (known->second.worker == run.worker) return;
    leave(known->second);
    waiting_.erase(known);
  }
  enqueue(run);
  std::string name = run.run.text;
  waiting_.emplace(std::move(name), std::move(run));
}

void Scheduler::enqueue(ReadyRun const& run) {
  Queue& queue = queues_[{run.worker, run.queue}];
  // Who had nothing to do for a while has not saved up turns by that.
  if (queue.spaces.empty()) queue.pass = std::max(queue.pass, pass_);
  auto const [space, is_new] = queue.spaces.try_emplace(run.space);
  if (is_new) space->second.pass = queue.space_pass;
  space->second.lane.insert(place_of(run));
}

void Scheduler::dequeue(ReadyRun const& run) {
  auto const queue = queues_.find({run.worker, run.queue});
  if (queue == queues_.end()) return;
  auto const space = queue->second.spaces.find(run.space);
  if (space == queue->second.spaces.end()) return;
  space->second.lane.erase(place_of(run));
  if (space->second.lane.empty()) queue->second.spaces.erase(space);
}

void Scheduler::forget(RunId const& run) {
  if (auto const timer = times_.find(run.text); timer != times_.end()) {
    timers_.erase({timer->second, run.text});
    times_.erase(timer);
  }
  auto const found = waiting_.find(run.text);
  if (found == waiting_.end()) return;
  leave(found->second);
  waiting_.erase(found);
}

/// From where it waits: its lane, or the key that it wants.
void Scheduler::leave(ReadyRun const& run) {
  dequeue(run);
  auto const key = keys_.find(run.concurrency_key);
  if (key == keys_.end()) return;
  key->second.waiting.erase(place_of(run));
  if (key->second.running == 0 && key->second.waiting.empty()) keys_.erase(key);
}

void Scheduler::wake_at(RunId const& run, WallTime at) {
  auto const [timer, is_new] = times_.try_emplace(run.text, at);
  if (!is_new) timers_.erase({timer->second, run.text});
  timer->second = at;
  timers_.emplace(at, run.text);
}

bool Scheduler::leased(RunId const& run, std::uint64_t fence) {
  auto const lease = leases_.find(run.text);
  if (lease == leases_.end() || fence <= lease->second.fence) return false;
  lease->second.fence = fence;
  return true;
}

bool Scheduler::renew(RunId const& run, std::uint64_t fence, WallTime until) {
  auto const lease = leases_.find(run.text);
  if (lease == leases_.end() || lease->second.fence != fence) return false;
  lease_times_.erase({lease->second.until, run.text});
  lease->second.until = until;
  lease->second.renewal_asked = false;
  lease_times_.emplace(until, run.text);
  return true;
}

void Scheduler::adopt(ReadyRun const& run, std::uint64_t fence, WallTime until) {
  if (leases_.contains(run.run.text)) return;
  bool const is_own = run.worker.empty();
  leases_.emplace(run.run.text, Lease{.fence = fence,
                                      .until = until,
                                      .is_own = is_own,
                                      .concurrency_key = run.concurrency_key});
  if (is_own) ++own_leases_;
  lease_times_.emplace(until, run.run.text);
  if (!run.concurrency_key.empty()) ++keys_[run.concurrency_key].running;
}

void Scheduler::release(RunId const& run) {
  auto const lease = leases_.find(run.text);
  if (lease == leases_.end()) return;
  lease_times_.erase({lease->second.until, run.text});
  std::string const key = std::move(lease->second.concurrency_key);
  if (lease->second.is_own) --own_leases_;
  leases_.erase(lease);
  if (!key.empty()) free_key(key);
}

void Scheduler::free_key(std::string const& key) {
  auto const found = keys_.find(key);
  --found->second.running;
  if (!found->second.waiting.empty()) {
    auto const first = found->second.waiting.begin();
    enqueue(waiting_.at(first->run));
    found->second.waiting.erase(first);
  }
  if (found->second.running == 0 && found->second.waiting.empty()) keys_.erase(found);
}

bool Scheduler::take_key(ReadyRun const& run) {
  if (run.concurrency_key.empty()) return true;
  Key& key = keys_[run.concurrency_key];
  if (key.running < std::max(run.concurrency_limit, 1)) {
    ++key.running;
    return true;
  }
  key.waiting.insert(place_of(run));
  return false;
}

std::optional<ReadyRun> Scheduler::pick(std::string_view worker,
                                        std::vector<std::string> const& spaces) {
  auto const is_meant = [&spaces](std::string const& space) {
    return spaces.empty() || std::ranges::find(spaces, space) != spaces.end();
  };
  while (true) {
    auto best = queues_.end();
    std::map<std::string, Space, std::less<>>::iterator best_space;
    for (auto at = queues_.lower_bound({std::string(worker), ""});
         at != queues_.end() && at->first.first == worker; ++at) {
      if (best != queues_.end() && at->second.pass >= best->second.pass) continue;
      auto& all = at->second.spaces;
      auto first = all.end();
      for (auto space = all.begin(); space != all.end(); ++space) {
        if (!is_meant(space->first)) continue;
        if (first == all.end() || space->second.pass < first->second.pass) first = space;
      }
      if (first == all.end()) continue;
      best = at;
      best_space = first;
    }
    if (best == queues_.end()) return std::nullopt;
    ReadyRun run = waiting_.at(best_space->second.lane.begin()->run);
    pass_ = best->second.pass;
    best->second.space_pass = best_space->second.pass;
    bool const begins = take_key(run);
    if (begins) {
      best->second.pass += kStride / queue_weight(best->first.second);
      ++best_space->second.pass;
    }
    dequeue(run);
    if (begins) return run;
  }
}

BeginRun Scheduler::lease(ReadyRun run, WallTime now) {
  waiting_.erase(run.run.text);
  WallTime const until = now + limits_.lease;
  bool const is_own = run.worker.empty();
  leases_.emplace(run.run.text,
                  Lease{.until = until, .is_own = is_own, .concurrency_key = run.concurrency_key});
  if (is_own) ++own_leases_;
  lease_times_.emplace(until, run.run.text);
  return {.run = std::move(run), .lease_until = until};
}

void Scheduler::begin_runs(WallTime now, std::vector<ScheduleAction>& actions) {
  while (!held_ && own_leases_ < static_cast<std::size_t>(std::max(limits_.concurrency, 1))) {
    std::optional<ReadyRun> run = pick({}, {});
    if (!run) return;
    actions.emplace_back(lease(std::move(*run), now));
  }
}

std::optional<BeginRun> Scheduler::claim(std::string_view worker,
                                         std::vector<std::string> const& spaces, WallTime now) {
  if (held_ || worker.empty()) return std::nullopt;
  std::optional<ReadyRun> run = pick(worker, spaces);
  if (!run) return std::nullopt;
  return lease(std::move(*run), now);
}

void Scheduler::watch_leases(WallTime now, std::vector<ScheduleAction>& actions) {
  std::vector<std::string> ended;
  for (auto const& [until, run] : lease_times_) {
    if (until > now + limits_.lease / kRenewalShare) break;
    Lease& lease = leases_.at(run);
    if (until <= now) {
      actions.emplace_back(ReclaimRun{.run = RunId{run}, .fence = lease.fence});
      ended.push_back(run);
    } else if (!std::exchange(lease.renewal_asked, true)) {
      actions.emplace_back(RenewLease{.run = RunId{run}, .until = now + limits_.lease});
    }
  }
  for (std::string const& run : ended) release(RunId{run});
}

std::vector<ScheduleAction> Scheduler::poll(WallTime now) {
  std::vector<ScheduleAction> actions;
  while (!timers_.empty() && timers_.begin()->first <= now) {
    auto const [at, run] = *timers_.begin();
    timers_.erase(timers_.begin());
    times_.erase(run);
    actions.emplace_back(WakeRun{.run = RunId{run}, .at = at});
  }
  watch_leases(now, actions);
  begin_runs(now, actions);
  return actions;
}

std::map<std::string, std::vector<RunId>> Scheduler::waiting_by_worker() const {
  std::map<std::string, std::vector<RunId>> found;
  for (auto const& [name, run] : waiting_) found[run.worker].push_back(run.run);
  return found;
}

std::optional<WallTime> Scheduler::next() const {
  std::optional<WallTime> earliest;
  if (!timers_.empty()) earliest = timers_.begin()->first;
  for (auto const& [until, run] : lease_times_) {
    Lease const& lease = leases_.at(run);
    WallTime const at = lease.renewal_asked ? until : until - limits_.lease / kRenewalShare;
    earliest = earliest ? std::min(*earliest, at) : at;
    if (!lease.renewal_asked) break;
  }
  return earliest;
}

}  // namespace aether::jobs
