// SPDX-License-Identifier: Apache-2.0
// What is wanted now, after whatever was heard.
#include <algorithm>

#include <fmt/format.h>

#include "functions/pool_step.h"

namespace aether::functions {

void PoolMachine::Step::settle() {
  if (m_.stopping()) {
    stop_members();
  } else if (m_.serving_ != RevisionId{}) {
    retire_old();
    give_way();
    meet_demand();
    let_idle_go();
    keep_parked();
  }
  drop_revisions();
}

void PoolMachine::Step::stop_members() {
  if (m_.waiting_ > 0 || asked_to_stop_)
    actions_.emplace_back(pool::FailWaiting{"the function is being stopped"});
  m_.waiting_ = 0;
  for (auto& [instance, member] : m_.members_) {
    bool const may_finish = m_.stop_ == Stop::Drain;
    if (member.state == MemberState::Warm && may_finish)
      withdraw(instance, member);
    else if (member.state != MemberState::Draining || !may_finish)
      end(instance, member, {});
  }
}

void PoolMachine::Step::retire_old() {
  std::uint32_t const warm = m_.census().warm;
  bool const replaced =
      warm >= std::min(std::max(policy().min_instances, m_.hold_), policy().max_instances);
  bool old_serves = false;
  for (auto& [instance, member] : m_.members_) {
    if (serving(member)) continue;
    if (member.state == MemberState::Warm) {
      old_serves = true;
      if (replaced) withdraw(instance, member);
    } else if (member.state != MemberState::Draining) {
      end(instance, member, {});
    }
  }
  if (replaced || !old_serves) m_.hold_ = 0;
}

void PoolMachine::Step::give_way() {
  for (int turn = 0; turn < 3; ++turn) {
    for (auto& [instance, member] : m_.members_) {
      Census const now = m_.census();
      if (now.warm + now.coming <= policy().max_instances) return;
      if (!serving(member)) continue;
      bool const warm = member.state == MemberState::Warm;
      // Who is not there yet, then who is idle, then the others when their requests have ended.
      if (turn == 0) member.for_demand = false;
      if (turn == 0 && member.state == MemberState::Thawing) end(instance, member, {});
      if (warm && (turn == 2 || (turn == 1 && member.in_flight == 0))) withdraw(instance, member);
    }
  }
}

void PoolMachine::Step::meet_demand() {
  auto const missing = [&] {
    Census const now = m_.census();
    return m_.needed() > now.warm + now.coming;
  };
  while (missing() && promote()) {
  }
  refuse_hopeless();
  while (missing()) {
    Census const now = m_.census();
    std::uint32_t const free = now.warm - std::min(now.warm, m_.busy_of_any());
    bool const for_waiting = m_.waiting_ > (free + now.coming) * policy().concurrency;
    if (now.all() >= policy().max_instances || !may_start(for_waiting, now)) return;
    start(policy().making, true);
  }
}

bool PoolMachine::Step::promote() {
  // The one frozen last has most of its memory at hand; of those under way, the first is nearest.
  using Entry = std::pair<InstanceId const, Member>;
  Entry* best = nullptr;
  auto const rank = [](Entry const& entry) {
    switch (entry.second.state) {
      case MemberState::Parked:
        return 3;
      case MemberState::Parking:
        return entry.second.for_demand ? 0 : 2;
      case MemberState::Starting:
        return entry.second.for_demand ? 0 : 1;
      case MemberState::Thawing:
      case MemberState::Warm:
      case MemberState::Draining:
      case MemberState::Ending:
        return 0;
    }
    return 0;
  };
  for (Entry& entry : m_.members_) {
    if (!serving(entry.second) || rank(entry) == 0) continue;
    bool const better =
        best == nullptr || rank(entry) > rank(*best) ||
        (rank(entry) == 3 && rank(*best) == 3 && entry.second.since > best->second.since);
    if (better) best = &entry;
  }
  if (best == nullptr) return false;
  auto& [instance, member] = *best;
  if (member.state == MemberState::Parked) {
    thaw(instance, member);
  } else {
    member.for_demand = true;
    member.asked = now_;
  }
  return true;
}

bool PoolMachine::Step::may_start(bool for_waiting, Census const& now) const {
  if (gave_up()) return false;
  bool const failing = m_.failures_.count > 0;
  // One at a time finds out whether it works again.
  bool const finding_out = std::ranges::any_of(m_.members_, [&](auto const& entry) {
    Member const& member = entry.second;
    return m_.would_prove(member) && member.state == MemberState::Warm && !member.served;
  });
  if (failing && (finding_out || now.coming + now.making > 0)) return false;
  if (for_waiting && m_.failures_.count <= kFreeFailures) return true;
  Instant until{};
  if (failing) until = m_.failures_.until;
  if (!for_waiting && m_.deaths_.count > 0) until = std::max(until, m_.deaths_.until);
  if (now_ >= until) return true;
  m_.retry_ = m_.retry_ ? std::min(*m_.retry_, until) : until;
  return false;
}

void PoolMachine::Step::refuse_hopeless() {
  Census const now = m_.census();
  if (m_.waiting_ == 0 || m_.warm_of_any() > 0 || now.coming + now.draining > 0) return;
  bool const must_wait =
      gave_up() || (m_.failures_.count > kFreeFailures && now_ < m_.failures_.until);
  bool const at_once = failed_ && !policy().refuses_late;
  if (!at_once && !must_wait) return;
  std::string why = m_.failures_.why;
  if (gave_up()) {
    why += fmt::format(
        "; {} starts failed in a row (restart.crash_loop): none is tried before a deploy",
        m_.failures_.count);
  } else if (m_.failures_.count > 1) {
    why += fmt::format("; {} starts failed in a row, the next is tried in {}", m_.failures_.count,
                       humanize(std::max(m_.failures_.until - now_, Duration::zero())));
  }
  m_.waiting_ = 0;
  actions_.emplace_back(pool::FailWaiting{std::move(why)});
}

void PoolMachine::Step::let_idle_go() {
  while (true) {
    Census const now = m_.census();
    if (!m_.may_idle_go(now)) return;
    std::pair<InstanceId const, Member>* longest = nullptr;
    for (auto& entry : m_.members_) {
      Member const& member = entry.second;
      if (!serving(member) || member.state != MemberState::Warm || member.in_flight > 0) continue;
      if (longest == nullptr || member.idle_since < longest->second.idle_since) longest = &entry;
    }
    if (longest == nullptr) return;
    auto& [instance, member] = *longest;
    if (now_ < member.idle_since + policy().idle_timeout) return;
    withdraw(instance, member);
  }
}

std::uint32_t PoolMachine::Step::parked_target(Census const& now) const {
  std::uint32_t const taken = std::min(now.warm + now.coming, policy().max_instances);
  return std::min(policy().parked, policy().max_instances - taken);
}

void PoolMachine::Step::keep_parked() {
  for (auto& [instance, member] : m_.members_) {
    Census const now = m_.census();
    if (now.ahead() <= parked_target(now)) break;
    bool const making = member.state == MemberState::Starting && !member.for_demand;
    if (serving(member) && (making || member.state == MemberState::Parked))
      end(instance, member, {});
  }
  while (true) {
    Census const now = m_.census();
    bool const demand = m_.waiting_ > 0 || now.coming > 0;
    if (demand || now.making >= kRefillsAtOnce || now.ahead() >= parked_target(now)) return;
    if (!may_start(false, now)) return;
    start(policy().making, false);
  }
}

void PoolMachine::Step::drop_revisions() {
  auto const lives = [&](RevisionId revision) {
    return std::ranges::any_of(
        m_.members_, [&](auto const& entry) { return entry.second.revision == revision; });
  };
  for (auto it = m_.kept_.begin(); it != m_.kept_.end();) {
    bool const wanted = !m_.stopping() && (*it == m_.serving_ || *it == m_.previous_);
    if (wanted || lives(*it)) {
      ++it;
      continue;
    }
    actions_.emplace_back(pool::DropRevision{*it});
    it = m_.kept_.erase(it);
  }
}

}  // namespace aether::functions
