// SPDX-License-Identifier: Apache-2.0
// RunTurn: what people and programs ask of a run becomes events, or is refused.
#include <algorithm>

#include <fmt/format.h>

#include "base/fault.h"
#include "jobs/run_rows.h"
#include "jobs/run_turn.h"

namespace aether::jobs {

Status RunTurn::take_signal(std::string const& actor, SignalReceived signal) {
  TRY(fault::pass(fault::Point::JobsSignal));
  std::string const& key = signal.idempotency_key;
  if (!key.empty()) {
    auto const known = std::ranges::find_if(state_.signals, [&key](Signal const& each) {
      return each.received.idempotency_key == key;
    });
    if (known != state_.signals.end()) {
      if (known->received == signal) return {};
      return fail(
          ErrorCode::Conflict,
          fmt::format("signal {} of run {}: its Idempotency-Key was used for another signal",
                      signal.name, state_.id.text));
    }
  }
  return record(std::move(signal), actor);
}

Status RunTurn::take_answer(std::string const& actor, AnswerCame answer) {
  TRY(fault::pass(fault::Point::JobsAnswer));
  if (answer.path.empty()) {
    for (std::string const& path : state_.open_waits) {
      WaitOpened const& opening = state_.waits.find(path)->second.opening;
      if (opening.kind != WaitKind::Human || !opening.effect.empty()) continue;
      if (!answer.path.empty()) {
        return fail(
            ErrorCode::RequestInvalid,
            fmt::format("run {} waits for more than one answer: name the step", state_.id.text));
      }
      answer.path = path;
    }
  }
  auto const found = state_.waits.find(answer.path);
  if (found == state_.waits.end() || found->second.opening.kind != WaitKind::Human) {
    return fail(ErrorCode::NotFound,
                fmt::format("run {} waits for no answer of a person{}{}", state_.id.text,
                            answer.path.empty() ? "" : " at ", answer.path));
  }
  WaitState const& wait = found->second;
  if (!wait.opening.effect.empty()) {
    return fail(ErrorCode::RequestInvalid,
                fmt::format("{} waits for the outcome of a call: use resolve", answer.path));
  }
  if (!wait.open) {
    WaitClosed const& had = wait.closing;
    if (had.end == answer.end && had.by == actor && had.payload == answer.payload) return {};
    return fail(ErrorCode::Conflict, fmt::format("{} was answered before: {} by {}", answer.path,
                                                 text_of(had.end), had.by));
  }
  return record(WaitClosed{.path = answer.path,
                           .end = answer.end,
                           .by = actor,
                           .payload = std::move(answer.payload)},
                actor);
}

Status RunTurn::take_resolution(std::string const& actor, ResolutionCame resolution) {
  TRY(fault::pass(fault::Point::JobsResolve));
  if (resolution.effect.empty()) {
    for (std::string const& path : state_.open_waits) {
      WaitOpened const& opening = state_.waits.find(path)->second.opening;
      if (opening.effect.empty()) continue;
      if (!resolution.effect.empty()) {
        return fail(ErrorCode::RequestInvalid,
                    fmt::format("run {} has more than one call whose outcome nobody knows: name "
                                "the effect",
                                state_.id.text));
      }
      resolution.effect = opening.effect;
    }
  }
  auto const found = state_.effects.find(resolution.effect);
  bool const is_unknown = found != state_.effects.end() && !found->second.open &&
                          found->second.settled.outcome == EffectOutcome::Unknown;
  if (!is_unknown) {
    return fail(found == state_.effects.end() ? ErrorCode::NotFound : ErrorCode::Conflict,
                fmt::format("run {} has no call {} whose outcome nobody knows", state_.id.text,
                            resolution.effect));
  }
  CallEnded ended{.effect = resolution.effect,
                  .turn = found->second.intent.turn,
                  .token = found->second.intent.token,
                  .result = {},
                  .by = SettledBy::Person};
  if (resolution.resolution == Resolution::Happened) {
    ended.result.result = std::move(resolution.result);
  } else if (resolution.resolution == Resolution::NotHappened) {
    ended.result.outcome = EffectOutcome::NotExecuted;
    ended.result.error = fmt::format("{} says that it did not happen", actor);
  } else {
    ended.result.outcome = EffectOutcome::Error;
    ended.result.error = fmt::format("abandoned by {}: nobody knows whether it happened", actor);
  }
  return settle(actor, std::move(ended));
}

/// The row is what a crash leaves of it, if nobody has told the child by then.
void RunTurn::cancel_child(RunId child) {
  if (std::ranges::count(cancelled_children, child) > 0) return;
  batch.records.push_back({.view = std::string(kWakeView),
                           .key = wake_key(child, state_.id),
                           .value = std::string(kWakeToCancel)});
  cancelled_children.push_back(std::move(child));
}

Status RunTurn::take_control(std::string const& actor, ControlCame control) {
  TRY(fault::pass(fault::Point::JobsControl));
  switch (control.control) {
    case Control::Pause:
      if (state_.paused) return {};
      break;
    case Control::Resume:
      if (!state_.paused && state_.stuck.empty()) return {};
      break;
    case Control::Cancel:
      if (state_.cancel_requested) return {};
      cancels_calls = true;
      for (std::string const& path : state_.open_waits) {
        WaitOpened const& opening = state_.waits.find(path)->second.opening;
        if (opening.kind == WaitKind::Child) cancel_child(RunId{opening.name});
      }
      break;
    case Control::Lease:
    case Control::Fork:
    case Control::Stuck:
      return fail(ErrorCode::RequestInvalid,
                  fmt::format("\"{}\" cannot be asked for", text_of(control.control)));
  }
  return record(RunControlled{.control = control.control,
                              .holder = {},
                              .until = {},
                              .reason = std::move(control.reason),
                              .step = {}},
                actor);
}

}  // namespace aether::jobs
