// SPDX-License-Identifier: Apache-2.0
#include "jobs/effect_rules.h"

namespace aether::jobs {
namespace {

/// Nobody knows how the turn ended: who is asked?
EffectMove move_of_unknown(Policy policy, bool can_look_up, bool looked_up) {
  if (is_harmless_twice(policy)) return EffectMove::Call;
  bool const looks_up = policy == Policy::Lookup && can_look_up && !looked_up;
  return looks_up ? EffectMove::LookUp : EffectMove::AskPerson;
}

EffectMove move_of_settled(Policy policy, TurnKnown latest, AskedBy by) {
  if (by == AskedBy::Recovery) return EffectMove::GiveBack;
  return may_repeat(policy, latest) ? EffectMove::Call : EffectMove::RefuseToDriver;
}

}  // namespace

bool is_harmless_twice(Policy policy) {
  return policy == Policy::Read || policy == Policy::Keyed;
}

bool may_repeat(Policy policy, TurnKnown latest) {
  switch (latest) {
    case TurnKnown::None:
    case TurnKnown::NotExecuted:
      return true;
    case TurnKnown::ErrorToPass:
    case TurnKnown::Unknown:
      return is_harmless_twice(policy);
    case TurnKnown::InFlight:
    case TurnKnown::Lost:
    case TurnKnown::Ok:
    case TurnKnown::Error:
      return false;
  }
  return false;
}

EffectMove next_move(Policy policy, TurnKnown latest, AskedBy by, bool can_look_up,
                     bool looked_up) {
  switch (latest) {
    case TurnKnown::None:
      return by == AskedBy::Driver ? EffectMove::Call : EffectMove::GiveBack;
    case TurnKnown::InFlight:
      return EffectMove::Wait;
    case TurnKnown::Lost:
      return EffectMove::SettleUnknown;
    case TurnKnown::Unknown:
      return move_of_unknown(policy, can_look_up, looked_up);
    case TurnKnown::NotExecuted:
    case TurnKnown::ErrorToPass:
    case TurnKnown::Ok:
    case TurnKnown::Error:
      return move_of_settled(policy, latest, by);
  }
  return EffectMove::Wait;
}

TurnKnown known_of(EffectOutcome outcome, bool retryable) {
  switch (outcome) {
    case EffectOutcome::Ok:
      return TurnKnown::Ok;
    case EffectOutcome::Error:
      return retryable ? TurnKnown::ErrorToPass : TurnKnown::Error;
    case EffectOutcome::NotExecuted:
      return TurnKnown::NotExecuted;
    case EffectOutcome::Unknown:
      return TurnKnown::Unknown;
  }
  return TurnKnown::Unknown;
}

}  // namespace aether::jobs
