// SPDX-License-Identifier: Apache-2.0
// When a call may be made, and what becomes of one whose end nobody knows. The whole of "at most
// once, by default" is this file. Pure.
#pragma once
#include <cstdint>

#include "jobs/policy.h"

namespace aether::jobs {

/// What is known of the latest turn of an effect.
enum class TurnKnown : std::uint8_t {
  None,         ///< There is none.
  InFlight,     ///< Its call is under way in this process.
  Lost,         ///< Open, and nobody is calling: the process that did died.
  Ok,           ///< Settled.
  Error,        ///< It answered no, and will again.
  ErrorToPass,  ///< It answered no, and says that this may go away (429, 503).
  NotExecuted,  ///< Proved: nothing was sent, or nothing was done.
  Unknown,      ///< Settled, and nobody knows.
};
inline constexpr int kTurnKnownCount = 8;

/// Why is asked.
enum class AskedBy : std::uint8_t {
  Driver,    ///< The driver wants the call (again).
  Recovery,  ///< A process begins and looks at what it found.
};

enum class EffectMove : std::uint8_t {
  Call,            ///< Intend turn n+1, make it durable, call.
  Wait,            ///< Nothing: it is under way.
  SettleUnknown,   ///< Settle the lost turn as unknown, then ask again.
  LookUp,          ///< Ask the other side by key what happened.
  AskPerson,       ///< Park on a wait for a person that names the effect.
  GiveBack,        ///< The outcome stands in the state: the driver goes on from it.
  RefuseToDriver,  ///< May not be called again: the step fails with the reason.
};

/// Calling it twice does no harm.
[[nodiscard]] bool is_harmless_twice(Policy policy);

/// Whether a turn n+1 may be intended after turn n was settled like this. A driver that retries
/// asks it first.
[[nodiscard]] bool may_repeat(Policy policy, TurnKnown latest);

/// @param can_look_up The tool has a companion query for these arguments. A lookup policy without
/// one is `once`.
/// @param looked_up The other side was asked about this turn already, and did not know.
[[nodiscard]] EffectMove next_move(Policy policy, TurnKnown latest, AskedBy by, bool can_look_up,
                                   bool looked_up);

[[nodiscard]] TurnKnown known_of(EffectOutcome outcome, bool retryable);

}  // namespace aether::jobs
