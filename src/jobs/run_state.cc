// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_state.h"

#include <algorithm>

#include <fmt/format.h>

#include "jobs/run_event_codec.h"

namespace aether::jobs {
namespace {

using Law = std::optional<RunLaw>;

Law unless(bool good, RunLaw law) {
  return good ? Law() : Law(law);
}

/// What an event breaks, if it comes after these.
class LawsOfNext {
 public:
  explicit LawsOfNext(RunState const& state) : state_(state) {}

  Law operator()(RunOpened const& /*opened*/) const {
    return unless(state_.sequence == 0, RunLaw::BeginsOnce);
  }
  Law operator()(RunClosed const& /*closed*/) const {
    return unless(state_.open_steps.empty() && state_.open_waits.empty(), RunLaw::EndsWhole);
  }
  Law operator()(StepOpened const& step) const {
    auto const found = state_.steps.find(step.path);
    if (found == state_.steps.end()) return unless(step.attempt == 1, RunLaw::StepOpensOnce);
    StepState const& last = found->second;
    bool const again = !last.open && last.outcome == StepOutcome::Retryable;
    return unless(again && step.attempt == last.attempt + 1, RunLaw::StepOpensOnce);
  }
  Law operator()(StepClosed const& step) const {
    auto const found = state_.steps.find(step.path);
    bool const open = found != state_.steps.end() && found->second.open;
    return unless(open && found->second.attempt == step.attempt, RunLaw::StepClosesOnce);
  }
  Law operator()(EffectIntended const& effect) const {
    if (!state_.open_steps.contains(effect.path)) return RunLaw::EffectInStep;
    auto const found = state_.effects.find(effect.effect);
    if (found == state_.effects.end()) return unless(effect.turn == 1, RunLaw::EffectTurns);
    EffectIntended const& last = found->second.intent;
    if (found->second.open || effect.turn != last.turn + 1) return RunLaw::EffectTurns;
    return unless(
        effect.path == last.path && effect.tool == last.tool && effect.args_hash == last.args_hash,
        RunLaw::EffectSame);
  }
  Law operator()(EffectSettled const& settled) const {
    auto const found = state_.effects.find(settled.effect);
    if (found == state_.effects.end()) return RunLaw::EffectSettles;
    EffectState const& effect = found->second;
    bool const was_unknown = !effect.open && effect.settled.outcome == EffectOutcome::Unknown;
    bool const amends = was_unknown && settled.outcome != EffectOutcome::Unknown;
    return unless(effect.intent.turn == settled.turn && (settled.amends ? amends : effect.open),
                  RunLaw::EffectSettles);
  }
  Law operator()(WaitOpened const& wait) const {
    if (state_.waits.contains(wait.path)) return RunLaw::WaitOpensOnce;
    if (wait.effect.empty()) return {};
    auto const found = state_.effects.find(wait.effect);
    bool const known = found != state_.effects.end() && !found->second.open;
    return unless(known && found->second.settled.outcome == EffectOutcome::Unknown,
                  RunLaw::WaitNamesEffect);
  }
  Law operator()(WaitClosed const& wait) const {
    auto const found = state_.waits.find(wait.path);
    if (found == state_.waits.end() || !found->second.open) return RunLaw::WaitClosesOnce;
    WaitOpened const& opening = found->second.opening;
    bool const takes_signal = opening.kind == WaitKind::Signal && wait.end == WaitEnd::Answered;
    return unless(!takes_signal || state_.pending_signal(opening.name) != nullptr,
                  RunLaw::SignalCameBefore);
  }
  Law operator()(SignalReceived const& /*signal*/) const { return {}; }
  Law operator()(RunControlled const& /*control*/) const { return {}; }
  Law operator()(AuditNoted const& /*note*/) const { return {}; }

 private:
  RunState const& state_;
};

bool may_follow_the_end(RunEventBody const& body) {
  if (std::holds_alternative<EffectSettled>(body)) return true;
  auto const* const control = std::get_if<RunControlled>(&body);
  return control != nullptr && control->control == Control::Fork;
}

/// Takes an event that breaks no law into the state.
class Folding {
 public:
  Folding(RunState& state, RunEvent const& event) : state_(state), event_(event) {}

  void operator()(RunOpened const& opened) const {
    state_.opening = opened;
    state_.opened = event_.at;
    state_.status_since = event_.at;
  }
  void operator()(RunClosed const& closed) const { state_.closing = closed; }
  void operator()(StepOpened const& step) const {
    ++state_.steps_used;
    state_.open_steps.insert(step.path);
    state_.steps.insert_or_assign(step.path, StepState{.kind = step.kind,
                                                       .attempt = step.attempt,
                                                       .input_hash = step.input_hash,
                                                       .result = {},
                                                       .error = {},
                                                       .opened = event_.at,
                                                       .closed = {}});
  }
  void operator()(StepClosed const& closed) const {
    StepState& step = state_.steps.find(closed.path)->second;
    state_.open_steps.erase(closed.path);
    step.open = false;
    step.outcome = closed.outcome;
    step.result = closed.result;
    step.error = closed.error;
    step.closed = event_.at;
    step.order = ++state_.closed_steps;
  }
  void operator()(EffectIntended const& intent) const {
    ++state_.calls_used;
    state_.open_effects.insert(intent.effect);
    state_.effects.insert_or_assign(
        intent.effect, EffectState{.intent = intent, .settled = {}, .intended = event_.at});
  }
  void operator()(EffectSettled const& settled) const {
    EffectState& effect = state_.effects.find(settled.effect)->second;
    state_.open_effects.erase(settled.effect);
    effect.open = false;
    effect.settled = settled;
    state_.used.tokens += settled.usage.tokens;
    state_.used.cost += settled.usage.cost;
  }
  void operator()(WaitOpened const& wait) const {
    state_.open_waits.insert(wait.path);
    state_.waits.emplace(wait.path, WaitState{.opening = wait, .closing = {}, .opened = event_.at});
  }
  void operator()(WaitClosed const& closed) const {
    WaitState& wait = state_.waits.find(closed.path)->second;
    state_.open_waits.erase(closed.path);
    wait.open = false;
    wait.closing = closed;
    if (wait.opening.kind != WaitKind::Signal || closed.end != WaitEnd::Answered) return;
    auto const used = std::ranges::find_if(state_.signals, [&wait](Signal const& signal) {
      return !signal.consumed && signal.received.name == wait.opening.name;
    });
    used->consumed = true;
  }
  void operator()(SignalReceived const& signal) const {
    state_.signals.push_back(Signal{.received = signal, .actor = event_.actor});
  }
  void operator()(RunControlled const& control) const {
    switch (control.control) {
      case Control::Lease:
        state_.lease_holder = control.holder;
        state_.lease_until = control.until;
        return;
      case Control::Pause:
        state_.paused = true;
        return;
      case Control::Resume:
        state_.paused = false;
        state_.stuck.clear();
        return;
      case Control::Cancel:
        state_.cancel_requested = true;
        state_.cancel_reason = control.reason;
        return;
      case Control::Stuck:
        state_.stuck = control.reason.empty() ? "the driver diverged" : control.reason;
        return;
      case Control::Fork:
        return;
    }
  }
  void operator()(AuditNoted const& /*note*/) const {}

 private:
  RunState& state_;
  RunEvent const& event_;
};

/// Whether one of the names is under the step, or at it if that counts.
bool any_under(Names const& names, std::string_view step, bool at_counts) {
  for (auto name = names.lower_bound(step); name != names.end() && name->starts_with(step);
       ++name) {
    if (is_at_or_under(*name, step) && (at_counts || *name != step)) return true;
  }
  return false;
}

/// Whether the wait is for the time of another attempt of its step.
bool is_retry(RunState const& state, std::string_view path) {
  auto const wait = state.waits.find(path);
  if (wait->second.opening.kind != WaitKind::Timer) return false;
  for (std::size_t end = path.size(); end != std::string_view::npos && end > 0;
       end = path.find_last_of("/~#", end - 1)) {
    auto const step = state.steps.find(path.substr(0, end));
    if (step == state.steps.end()) continue;
    return !step->second.open && step->second.outcome == StepOutcome::Retryable;
  }
  return false;
}

RunStatus status_of_end(RunOutcome outcome) {
  if (outcome == RunOutcome::Succeeded) return RunStatus::Completed;
  return outcome == RunOutcome::Cancelled ? RunStatus::Cancelled : RunStatus::Failed;
}

}  // namespace

bool is_at_or_under(std::string_view path, std::string_view step) {
  if (!path.starts_with(step)) return false;
  return path.size() == step.size() || std::string_view("/~#").contains(path[step.size()]);
}

bool RunState::has_active_step() const {
  return std::ranges::any_of(open_steps, [this](std::string const& step) {
    return !any_under(open_waits, step, true) && !any_under(open_steps, step, false);
  });
}

RunStatus RunState::status() const {
  if (closing) return status_of_end(closing->outcome);
  if (!stuck.empty()) return RunStatus::Stuck;
  if (paused) return RunStatus::Paused;
  if (!open_effects.empty() || has_active_step()) return RunStatus::Running;
  if (open_waits.empty()) return lease_holder.empty() ? RunStatus::Pending : RunStatus::Running;
  bool const retries = std::ranges::any_of(
      open_waits, [this](std::string const& path) { return is_retry(*this, path); });
  return retries ? RunStatus::Retrying : RunStatus::Parked;
}

Signal const* RunState::pending_signal(std::string_view name) const {
  auto const found = std::ranges::find_if(signals, [name](Signal const& signal) {
    return !signal.consumed && signal.received.name == name;
  });
  return found == signals.end() ? nullptr : &*found;
}

std::string_view text_of(RunLaw law) {
  switch (law) {
    case RunLaw::BeginsOnce:
      return "the first event of a run is run.opened, and only the first";
    case RunLaw::EndsOnce:
      return "after run.closed come only late settlements of calls";
    case RunLaw::EndsWhole:
      return "run.closed leaves no step and no wait open";
    case RunLaw::StepOpensOnce:
      return "an attempt of a step opens once, after the one before it closed as retryable";
    case RunLaw::StepClosesOnce:
      return "only an open attempt of a step closes";
    case RunLaw::EffectInStep:
      return "a call is intended in an open step";
    case RunLaw::EffectTurns:
      return "a turn of a call is intended once, after the one before it was settled";
    case RunLaw::EffectSame:
      return "each turn of a call has the same step, tool and arguments";
    case RunLaw::EffectSettles:
      return "only an open turn of a call is settled, and only an unknown outcome amended";
    case RunLaw::WaitOpensOnce:
      return "a wait opens once";
    case RunLaw::WaitClosesOnce:
      return "only an open wait closes";
    case RunLaw::WaitNamesEffect:
      return "a wait for the outcome of a call names one that is unknown";
    case RunLaw::SignalCameBefore:
      break;
  }
  return "a wait for a signal is answered with a signal that came and was not used";
}

std::optional<RunLaw> broken_law(RunState const& state, RunEvent const& event) {
  bool const opens = std::holds_alternative<RunOpened>(event.body);
  if (state.sequence == 0 && !opens) return RunLaw::BeginsOnce;
  if (state.closing && !may_follow_the_end(event.body)) return RunLaw::EndsOnce;
  return std::visit(LawsOfNext(state), event.body);
}

Status fold(RunState& state, RunEvent const& event) {
  if (std::optional<RunLaw> const law = broken_law(state, event)) {
    std::string const span = span_of(event.body);
    return fail(
        ErrorCode::StoreDamaged,
        fmt::format("run {}, event {} ({}{}{}) breaks a law: {}", state.id.text, state.sequence + 1,
                    kind_of(event.body), span.empty() ? "" : " ", span, text_of(*law)));
  }
  RunStatus const before = state.status();
  std::visit(Folding(state, event), event.body);
  ++state.sequence;
  state.updated = event.at;
  if (state.status() != before) state.status_since = event.at;
  return {};
}

}  // namespace aether::jobs
