// SPDX-License-Identifier: Apache-2.0
// Internal to the pool machine: one step of it. First the input is noted, which moves at most one
// member; then settle() begins whatever is wanted now and not on its way.
#pragma once
#include <cstdint>
#include <string>
#include <utility>

#include "functions/pool_machine.h"

namespace aether::functions {

class PoolMachine::Step {
 public:
  Step(PoolMachine& machine, Instant now, NextInstance const& next)
      : m_(machine), now_(now), next_(next) {}

  void note(pool::Wanted const& input);
  void note(pool::Started const& input);
  void note(pool::StartFailed const& input);
  void note(pool::Frozen const& input);
  void note(pool::Thawed const& input);
  void note(pool::Busy const& input);
  void note(pool::Drained const& input);
  void note(pool::Occupied const& input);
  void note(pool::Broken const& input);
  void note(pool::Gone const& input);
  void note(pool::Deployed const& input);
  void note(pool::Scale const& input);
  void note(pool::Tick const& input);
  void note(pool::StopAsked const& input);
  void settle();

  [[nodiscard]] PoolActions take() { return std::move(actions_); }

 private:
  [[nodiscard]] bool serving(Member const& member) const { return member.revision == m_.serving_; }
  [[nodiscard]] PoolPolicy const& policy() const { return m_.policy_; }
  /// So many starts failed so fast that nothing is started before a deploy.
  [[nodiscard]] bool gave_up() const { return m_.failures_.until == Instant::max(); }
  /// Copies are made one after another: each has its time when those before it had theirs.
  [[nodiscard]] std::uint32_t copies_before() const;

  /// Nothing if it is unknown, or the input means nothing to it now.
  template <class Input>
  [[nodiscard]] Member* moved(Input const& input);
  void enter(Member& member, MemberState state);
  void start(Making making, bool for_demand);
  void offer(InstanceId instance, Member& member, StartTier tier);
  void withdraw(InstanceId instance, Member& member);
  void thaw(InstanceId instance, Member& member);
  void end(InstanceId instance, Member& member, std::string why);
  /// It runs, and the gateway does not have it: what is it good for?
  void decide(InstanceId instance, Member& member, StartTier tier);

  /// It works.
  void proven_by(Member const& member);
  /// It ended, or has to: which of the two streaks is that one more of?
  void blame(Member const& member, std::string const& why);
  void start_failed(InstanceId instance, Member& member, std::string const& why);
  void overdue(InstanceId instance, Member& member);

  void stop_members();
  void retire_old();
  /// A new policy may have fewer places than the old one.
  void give_way();
  void meet_demand();
  /// A member that is on its way to be parked, or is: is to be warm. False: there is none.
  bool promote();
  [[nodiscard]] bool may_start(bool for_waiting, Census const& now) const;
  void refuse_hopeless();
  void let_idle_go();
  void keep_parked();
  [[nodiscard]] std::uint32_t parked_target(Census const& now) const;
  void drop_revisions();

  PoolMachine& m_;
  Instant now_;
  NextInstance const& next_;
  PoolActions actions_;
  bool failed_ = false;         ///< A start failed in this step.
  bool asked_to_stop_ = false;  ///< In this step: also who waits and was not told of yet goes.
};

}  // namespace aether::functions
