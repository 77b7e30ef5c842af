// SPDX-License-Identifier: Apache-2.0
#include "functions/pool_step.h"

#include <algorithm>

#include <fmt/format.h>

namespace aether::functions {

namespace {

/// A streak that was not added to for so long after its wait is forgotten.
constexpr Duration kForgotten = std::chrono::seconds(60);

void add(Streak& streak, std::string const& why, Instant begun, Instant now,
         PoolPolicy const& policy) {
  if (streak.until == Instant::max()) return;
  bool const old = streak.count > 0 && now >= streak.until + kForgotten;
  if (old) streak = {};
  streak.why = why;
  // Begun before the last one failed: it tells nothing new.
  if (streak.count > 0 && begun < streak.last) return;
  Duration wait = policy.retry_first;
  for (std::uint32_t i = 0; i < streak.count && wait < policy.retry_most; ++i) wait *= 2;
  if (streak.count == 0) streak.first = now;
  ++streak.count;
  streak.last = now;
  streak.until = now + std::min(wait, policy.retry_most);
}

}  // namespace

// ---- What was heard -----------------------------------------------------------------------------

template <class Input>
Member* PoolMachine::Step::moved(Input const& input) {
  auto const found = m_.members_.find(input.instance);
  if (found == m_.members_.end()) return nullptr;
  return meaning(found->second.state, input) == Meaning::Moves ? &found->second : nullptr;
}

void PoolMachine::Step::note(pool::Wanted const& input) {
  m_.waiting_ = input.waiting;
}

void PoolMachine::Step::note(pool::Started const& input) {
  if (Member* const member = moved(input)) decide(input.instance, *member, member->tier);
}

void PoolMachine::Step::note(pool::StartFailed const& input) {
  if (Member* const member = moved(input)) start_failed(input.instance, *member, input.why);
}

void PoolMachine::Step::note(pool::Frozen const& input) {
  Member* const member = moved(input);
  if (member == nullptr) return;
  enter(*member, MemberState::Parked);
  member->for_demand = false;
  proven_by(*member);
}

void PoolMachine::Step::note(pool::Thawed const& input) {
  if (Member* const member = moved(input)) decide(input.instance, *member, StartTier::Parked);
}

void PoolMachine::Step::note(pool::Busy const& input) {
  Member* const member = moved(input);
  if (member == nullptr) return;
  member->in_flight = input.in_flight;
  member->served = true;
  member->fresh = false;
  proven_by(*member);
  if (input.in_flight > 0) return;
  member->idle_since = now_;
  // Who waits would have it.
  if (member->state == MemberState::Warm) m_.waiting_ = 0;
}

void PoolMachine::Step::note(pool::Drained const& input) {
  Member* const member = moved(input);
  if (member == nullptr) return;
  member->in_flight = 0;
  member->asked = now_;
  if (serving(*member) && !m_.stopping())
    decide(input.instance, *member, StartTier::Warm);
  else
    end(input.instance, *member, {});
}

void PoolMachine::Step::note(pool::Occupied const& input) {
  Member* const member = moved(input);
  if (member == nullptr) return;
  offer(input.instance, *member, StartTier::Warm);
  member->in_flight = input.in_flight;
  member->served = true;
  member->fresh = false;
  proven_by(*member);
}

void PoolMachine::Step::note(pool::Broken const& input) {
  Member* const member = moved(input);
  if (member == nullptr) return;
  if (member->state == MemberState::Starting)
    return start_failed(input.instance, *member, input.why);
  if (input.unreachable) member->served = false;
  blame(*member, input.why);
  end(input.instance, *member, input.why);
}

void PoolMachine::Step::note(pool::Gone const& input) {
  Member* const member = moved(input);
  if (member == nullptr) return;
  std::string const why = input.why.empty() ? "it ended" : input.why;
  if (member->state == MemberState::Starting) {
    start_failed(input.instance, *member, why);
    // Nothing is left of it to end.
    std::erase_if(actions_, [&](PoolAction const& action) {
      auto const* const asked = std::get_if<pool::End>(&action);
      return asked != nullptr && asked->instance == input.instance;
    });
  } else if (member->state != MemberState::Ending) {
    blame(*member, why);
  }
  m_.members_.erase(input.instance);
}

void PoolMachine::Step::note(pool::Deployed const& input) {
  if (!m_.stopping()) {
    m_.policy_ = input.policy;
    m_.kept_.insert(input.revision);
    if (input.revision != m_.serving_) {
      m_.previous_ = m_.serving_;
      m_.serving_ = input.revision;
      m_.failures_ = {};
      m_.deaths_ = {};
      m_.hold_ = std::min(m_.busy_of_any(), policy().max_instances);
    }
  }
  if (!input.first || m_.members_.contains(*input.first)) return;
  Member& member = m_.members_[*input.first];
  member = Member{.revision = input.revision, .begun = now_, .asked = now_};
  if (m_.stopping())
    end(*input.first, member, {});
  else
    decide(*input.first, member, StartTier::Cold);
}

void PoolMachine::Step::note(pool::Scale const& input) {
  m_.wish_ = input.instances;
}

void PoolMachine::Step::note(pool::Tick const& /*input*/) {
  for (auto& [instance, member] : m_.members_) {
    if (member.due && now_ >= *member.due) overdue(instance, member);
    if (member.state != MemberState::Warm || now_ < member.since + kProven) continue;
    member.fresh = false;
    proven_by(member);
    // Who waited would be with it by now: the word that nobody waits any more was overtaken.
    if (member.in_flight == 0 && now_ >= member.idle_since + kProven) m_.waiting_ = 0;
  }
}

void PoolMachine::Step::note(pool::StopAsked const& /*input*/) {
  m_.stop_ = m_.stopping() ? Stop::AtOnce : Stop::Drain;
  asked_to_stop_ = true;
}

// ---- What becomes of one member -----------------------------------------------------------------

void PoolMachine::Step::enter(Member& member, MemberState state) {
  member.state = state;
  member.since = now_;
  member.due.reset();
  if (state == MemberState::Parking || state == MemberState::Thawing)
    member.due = now_ + policy().freeze_limit;
  if (state == MemberState::Draining) member.due = now_ + policy().drain_limit;
}

void PoolMachine::Step::start(Making making, bool for_demand) {
  InstanceId const instance = next_();
  bool const copy = making == Making::Copy;
  // Copies that are made ahead wait for each other, and nobody for them.
  Duration const of_copy =
      for_demand ? policy().start_limit : std::max(policy().start_limit, policy().freeze_limit);
  Duration const limit = copy                               ? of_copy
                         : policy().making == Making::Spawn ? policy().start_limit
                                                            : policy().spawn_limit;
  Member& member = m_.members_[instance];
  member.revision = m_.serving_;
  member.tier = copy ? StartTier::Clone : StartTier::Cold;
  member.for_demand = for_demand;
  member.begun = member.asked = now_;
  enter(member, MemberState::Starting);
  member.due = now_ + limit * (copy && for_demand ? 1 + copies_before() : 1);
  actions_.emplace_back(pool::Start{instance, m_.serving_, making, limit});
}

std::uint32_t PoolMachine::Step::copies_before() const {
  return static_cast<std::uint32_t>(std::ranges::count_if(m_.members_, [](auto const& entry) {
    Member const& member = entry.second;
    return member.state == MemberState::Starting && member.tier == StartTier::Clone && member.due;
  }));
}

void PoolMachine::Step::offer(InstanceId instance, Member& member, StartTier tier) {
  StartTier const told = m_.waiting_ > 0 ? tier : StartTier::Warm;
  enter(member, MemberState::Warm);
  member.for_demand = false;
  member.in_flight = 0;
  member.fresh = m_.waiting_ > 0;
  member.idle_since = now_;
  m_.waiting_ -= std::min(m_.waiting_, policy().concurrency);
  actions_.emplace_back(pool::Offer{instance, told, now_ - member.asked});
}

void PoolMachine::Step::withdraw(InstanceId instance, Member& member) {
  enter(member, MemberState::Draining);
  actions_.emplace_back(pool::Withdraw{instance});
}

void PoolMachine::Step::thaw(InstanceId instance, Member& member) {
  enter(member, MemberState::Thawing);
  member.begun = member.asked = now_;
  actions_.emplace_back(pool::Thaw{instance});
}

void PoolMachine::Step::end(InstanceId instance, Member& member, std::string why) {
  if (member.state == MemberState::Ending) return;
  enter(member, MemberState::Ending);
  actions_.emplace_back(pool::End{instance, std::move(why)});
}

void PoolMachine::Step::decide(InstanceId instance, Member& member, StartTier tier) {
  // Without itself.
  MemberState const was = member.state;
  member.state = MemberState::Ending;
  Census const others = m_.census();
  bool const needed = m_.needed() > others.warm + others.coming;
  bool const room = others.ahead() < parked_target(others);
  member.state = was;
  if (needed) return offer(instance, member, tier);
  if (!room) return end(instance, member, {});
  enter(member, MemberState::Parking);
  member.for_demand = false;
  actions_.emplace_back(pool::Freeze{instance});
}

void PoolMachine::Step::proven_by(Member const& member) {
  if (m_.would_prove(member)) m_.failures_ = {};
}

void PoolMachine::Step::blame(Member const& member, std::string const& why) {
  if (!serving(member)) return;
  bool const young = member.state == MemberState::Starting ||
                     member.state == MemberState::Parking || member.state == MemberState::Thawing ||
                     member.state == MemberState::Warm;
  if (!young || member.served) return add(m_.deaths_, why, member.begun, now_, policy());
  Streak& streak = m_.failures_;
  add(streak, why, member.begun, now_, policy());
  failed_ = true;
  bool const loops = policy().crash_loop > 0 && streak.count >= policy().crash_loop;
  if (loops && streak.last - streak.first <= policy().crash_loop_window)
    streak.until = Instant::max();
}

void PoolMachine::Step::start_failed(InstanceId instance, Member& member, std::string const& why) {
  bool const again = member.for_demand && member.tier == StartTier::Clone && serving(member) &&
                     policy().cold_when_copy_fails && !m_.stopping();
  Instant const asked = member.asked;
  if (!again) blame(member, why);
  end(instance, member, why);
  if (!again) return;
  start(Making::Spawn, true);
  m_.members_[std::get<pool::Start>(actions_.back()).instance].asked = asked;
}

void PoolMachine::Step::overdue(InstanceId instance, Member& member) {
  switch (member.state) {
    case MemberState::Starting:
      return start_failed(instance, member,
                          fmt::format("it was not ready within {}{}",
                                      member.tier == StartTier::Clone ? "restore_timeout_ms, " : "",
                                      humanize(*member.due - member.since)));
    case MemberState::Parking:
    case MemberState::Thawing: {
      std::string const why =
          fmt::format("it could not be {} within {}",
                      member.state == MemberState::Parking ? "frozen" : "thawed",
                      humanize(*member.due - member.since));
      blame(member, why);
      return end(instance, member, why);
    }
    case MemberState::Draining:
      return end(
          instance, member,
          fmt::format("its requests did not end within {}", humanize(*member.due - member.since)));
    case MemberState::Parked:
    case MemberState::Warm:
    case MemberState::Ending:
      return;  // May last.
  }
}

}  // namespace aether::functions
