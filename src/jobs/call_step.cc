// SPDX-License-Identifier: Apache-2.0
#include "jobs/call_step.h"

#include <utility>

#include <fmt/format.h>

#include "jobs/effect_rules.h"
#include "jobs/ids.h"

namespace aether::jobs {
namespace {

CallTool call_of(CallStep const& step) {
  return {step.path,   step.occurrence,   step.tool,   step.args,
          step.policy, step.business_key, step.timeout};
}

/// Nobody got an answer because the process died, or somebody proved that nothing was done: the
/// call is made again within the same attempt.
bool is_call_still_due(EffectState const& effect) {
  auto const& settled = effect.settled;
  if (settled.outcome == EffectOutcome::NotExecuted) return settled.by != SettledBy::Tool;
  return settled.outcome == EffectOutcome::Unknown && settled.by == SettledBy::Recovery &&
         is_harmless_twice(effect.intent.policy);
}

std::string failure_of(CallStep const& step, EffectState const& effect) {
  if (!effect.settled.error.empty()) return effect.settled.error;
  return fmt::format("{} ended with {}", step.tool, tools::text_of(effect.settled.outcome));
}

void close_retryable(CallStep const& step, std::uint32_t attempt, std::string error,
                     std::vector<Decision>& decisions) {
  decisions.emplace_back(EndStep{step.path, StepOutcome::Retryable, {}, std::move(error)});
  AwaitThing timer;
  timer.path = retry_path(step.path, attempt);
  timer.kind = WaitKind::Timer;
  timer.name = fmt::format("attempt {}", attempt + 1);
  timer.after = step.retry.delay_after(attempt);
  decisions.emplace_back(std::move(timer));
}

void settle_call(RunState const& state, CallStep const& step, std::uint32_t attempt,
                 EffectState const& effect, Pace pace, std::vector<Decision>& decisions) {
  auto const& settled = effect.settled;
  if (settled.outcome == EffectOutcome::Ok) {
    decisions.emplace_back(EndStep{step.path, step.success, settled.result, {}});
    return;
  }
  if (is_call_still_due(effect) && pace == Pace::On) {
    decisions.emplace_back(call_of(step));
    return;
  }
  if (is_for_a_person(effect) && pace != Pace::Cancelled) return;
  std::string error = failure_of(step, effect);
  if (pace == Pace::On && attempt < step.retry.attempts && may_call_again(effect)) {
    close_retryable(step, attempt, std::move(error), decisions);
    return;
  }
  if (attempt > 1) error += fmt::format(" (attempt {} of {})", attempt, step.retry.attempts);
  end_waits_under(state, step.path, decisions);
  decisions.emplace_back(EndStep{step.path, StepOutcome::Failed, settled.result, std::move(error)});
}

}  // namespace

bool is_for_a_person(EffectState const& effect) {
  return effect.settled.outcome == EffectOutcome::Unknown &&
         !is_harmless_twice(effect.intent.policy);
}

std::string const& RunMemory::effect_of(RunState const& state, std::string const& path,
                                        std::string const& tool, std::uint32_t occurrence) {
  if (run_ != state.id.text) {
    effects_.clear();
    run_ = state.id.text;
  }
  std::string const place = fmt::format("{}\n{}\n{}", path, tool, occurrence);
  auto const known = effects_.find(place);
  if (known != effects_.end()) return known->second;
  return effects_.emplace(place, effect_id(state.id, path, tool, occurrence)).first->second;
}

std::optional<Diverged> RunMemory::compare_now(std::string const& path, StepState const& step,
                                               StepKind kind, boost::json::value const& input) {
  std::string const hash = content_hash(canonical_json(input));
  if (step.kind == kind && step.input_hash == hash) return std::nullopt;
  return Diverged{fmt::format(
      "the step \"{}\" was recorded as {} with input {}, and is {} with input {} now: the graph or "
      "Aether is not the one that recorded it; resume with that one, or fork from this step",
      path, text_of(step.kind), step.input_hash, text_of(kind), hash)};
}

void begin_call(CallStep const& step, std::vector<Decision>& decisions) {
  decisions.emplace_back(BeginStep{step.path, step.kind, 1, step.input});
  decisions.emplace_back(call_of(step));
}

void advance_call(RunState const& state, CallStep const& step, Pace pace, RunMemory& memory,
                  std::vector<Decision>& decisions) {
  StepState const& recorded = state.steps.find(step.path)->second;
  std::uint32_t const attempt = recorded.attempt;
  if (!recorded.open) {
    auto const wait = state.waits.find(retry_path(step.path, attempt));
    bool const waits = wait != state.waits.end() && wait->second.open;
    if (pace != Pace::On) {
      if (waits) decisions.emplace_back(EndWait{wait->first, WaitEnd::Cancelled});
    } else if (!waits) {
      decisions.emplace_back(BeginStep{step.path, step.kind, attempt + 1, step.input});
      decisions.emplace_back(call_of(step));
    }
    return;
  }
  std::string const& id = memory.effect_of(state, step.path, step.tool, step.occurrence);
  auto const effect = state.effects.find(id);
  if (effect == state.effects.end()) {
    if (pace == Pace::On)
      decisions.emplace_back(call_of(step));
    else
      decisions.emplace_back(
          EndStep{step.path, StepOutcome::Failed, {}, "the run ended before the call was made"});
    return;
  }
  if (!effect->second.open) settle_call(state, step, attempt, effect->second, pace, decisions);
}

bool is_over(RunState const& state, std::string_view path, StepState const& step, Pace pace) {
  if (step.open) return false;
  if (step.outcome != StepOutcome::Retryable) return true;
  if (pace == Pace::On) return false;
  auto const wait = state.waits.find(retry_path(path, step.attempt));
  return wait == state.waits.end() || !wait->second.open;
}

bool succeeded(StepState const& step) {
  return !step.open && step.outcome != StepOutcome::Failed &&
         step.outcome != StepOutcome::Retryable;
}

std::string retry_path(std::string_view path, std::uint32_t attempt) {
  return fmt::format("{}~retry.{}", path, attempt);
}

void end_waits_under(RunState const& state, std::string_view path,
                     std::vector<Decision>& decisions) {
  for (auto it = state.open_waits.lower_bound(path);
       it != state.open_waits.end() && it->starts_with(path); ++it) {
    if (is_at_or_under(*it, path)) decisions.emplace_back(EndWait{*it, WaitEnd::Cancelled});
  }
}

bool may_call_again(EffectState const& effect) {
  auto const& settled = effect.settled;
  return may_repeat(effect.intent.policy, known_of(settled.outcome, settled.retryable));
}

}  // namespace aether::jobs
