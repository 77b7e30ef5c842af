// SPDX-License-Identifier: Apache-2.0
#include "functions/pool_machine.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "base/check.h"
#include "functions/pool_step.h"

namespace aether::functions {

namespace {

constexpr std::size_t kStates = 7;
using Row = std::array<Meaning, kStates>;
constexpr Meaning M = Meaning::Moves;
constexpr Meaning L = Meaning::Late;
constexpr Meaning x = Meaning::Illegal;

/// Every pair of a state and an input about a member.
template <class Input>
struct Meanings;
//                          Starting, Parking, Parked, Thawing, Warm, Draining, Ending
template <>
struct Meanings<pool::Started> {
  static constexpr Row row{M, x, x, x, x, x, L};
};
template <>
struct Meanings<pool::StartFailed> {
  static constexpr Row row{M, x, x, x, x, x, L};
};
template <>
struct Meanings<pool::Frozen> {
  static constexpr Row row{x, M, x, x, x, x, L};
};
template <>
struct Meanings<pool::Thawed> {
  static constexpr Row row{x, x, x, M, x, x, L};
};
// The gateway's words travel: what it said of a member before it gave it back may come later.
template <>
struct Meanings<pool::Busy> {
  static constexpr Row row{x, L, L, L, M, M, L};
};
// Twice when a Withdraw was performed twice.
template <>
struct Meanings<pool::Drained> {
  static constexpr Row row{x, L, L, L, L, M, L};
};
template <>
struct Meanings<pool::Occupied> {
  static constexpr Row row{x, M, x, x, L, M, L};
};
template <>
struct Meanings<pool::Broken> {
  static constexpr Row row{M, M, M, M, M, M, L};
};
template <>
struct Meanings<pool::Gone> {
  static constexpr Row row{M, M, M, M, M, M, M};
};

std::uint32_t shares(std::uint32_t what, std::uint32_t of) {
  return (what + of - 1) / of;
}

}  // namespace

std::string_view member_state_name(MemberState state) {
  constexpr std::array<std::string_view, kStates> names{"starting", "parking",  "parked", "thawing",
                                                        "warm",     "draining", "ending"};
  return names.at(static_cast<std::size_t>(state));
}

Meaning PoolMachine::meaning(MemberState state, PoolInput const& input) {
  return std::visit(
      [&](auto const& i) {
        using Input = std::remove_cvref_t<decltype(i)>;
        if constexpr (requires { Meanings<Input>::row; })
          return Meanings<Input>::row.at(static_cast<std::size_t>(state));
        else
          return Meaning::Moves;  // Not about a member.
      },
      input);
}

PoolActions PoolMachine::step(PoolInput const& input, Instant now, NextInstance const& next) {
  Step step(*this, now, next);
  retry_.reset();
  std::visit([&](auto const& i) { step.note(i); }, input);
  step.settle();
  return step.take();
}

std::optional<Instant> PoolMachine::next_due() const {
  std::optional<Instant> due = retry_;
  auto const sooner = [&](Instant at) { due = due ? std::min(*due, at) : at; };
  bool const idle_go = !stopping() && may_idle_go(census());
  for (auto const& [instance, member] : members_) {
    if (member.due) sooner(*member.due);
    if (member.state != MemberState::Warm || stopping()) continue;
    if (idle_go && member.revision == serving_ && member.in_flight == 0)
      sooner(member.idle_since + policy_.idle_timeout);
    if (member.fresh || would_prove(member)) sooner(member.since + kProven);
    if (waiting_ > 0 && member.in_flight == 0)
      sooner(std::max(member.since, member.idle_since) + kProven);
  }
  return due;
}

std::uint32_t PoolMachine::count(MemberState state) const {
  return static_cast<std::uint32_t>(std::ranges::count_if(
      members_, [&](auto const& entry) { return entry.second.state == state; }));
}

PoolMachine::Census PoolMachine::census() const {
  Census now;
  for (auto const& [instance, member] : members_) {
    if (member.revision != serving_) continue;
    switch (member.state) {
      case MemberState::Starting:
        ++(member.for_demand ? now.coming : now.making);
        break;
      case MemberState::Parking:
        ++(member.for_demand ? now.coming : now.parking);
        break;
      case MemberState::Parked:
        ++now.parked;
        break;
      case MemberState::Thawing:
        ++now.coming;
        break;
      case MemberState::Warm:
        ++now.warm;
        break;
      case MemberState::Draining:
        ++now.draining;
        break;
      case MemberState::Ending:
        break;
    }
  }
  return now;
}

std::uint32_t PoolMachine::warm_of_any() const {
  return count(MemberState::Warm);
}

std::uint32_t PoolMachine::busy_of_any() const {
  return static_cast<std::uint32_t>(std::ranges::count_if(members_, [](auto const& entry) {
    Member const& member = entry.second;
    return member.state == MemberState::Warm && (member.in_flight > 0 || member.fresh);
  }));
}

std::uint32_t PoolMachine::floor() const {
  bool const load = waiting_ > 0 || busy_of_any() > 0;
  std::uint32_t const wanted = std::max({policy_.min_instances, hold_, load ? wish_ : 0});
  return std::min(wanted, policy_.max_instances);
}

std::uint32_t PoolMachine::needed() const {
  std::uint32_t const load = busy_of_any() + shares(waiting_, policy_.concurrency);
  return std::min(std::max(floor(), load), policy_.max_instances);
}

bool PoolMachine::would_prove(Member const& member) const {
  return failures_.count > 0 && member.revision == serving_ && member.begun >= failures_.last;
}

bool PoolMachine::may_idle_go(Census const& now) const {
  return waiting_ == 0 && now.warm > floor();
}

}  // namespace aether::functions
