// SPDX-License-Identifier: Apache-2.0
// RunTurn: what a driver decided becomes events.
#include <algorithm>

#include <fmt/format.h>

#include "base/fault.h"
#include "jobs/effect_rules.h"
#include "jobs/run_rows.h"
#include "jobs/run_turn.h"

namespace aether::jobs {
namespace {

/// What is known of the latest turn, for a driver that asks for the call.
TurnKnown turn_known(EffectState const* effect, TurnMemory const& memory) {
  if (effect == nullptr) return TurnKnown::None;
  if (effect->open) {
    bool const here = memory.in_flight.contains(effect->intent.effect);
    return here ? TurnKnown::InFlight : TurnKnown::Lost;
  }
  return known_of(effect->settled.outcome, effect->settled.retryable);
}

std::string refusal_text(EffectState const& effect) {
  return fmt::format("{} is not called again: its policy is {}, and it ended with {}{}{}",
                     effect.intent.tool, tools::text_of(effect.intent.policy),
                     tools::text_of(effect.settled.outcome),
                     effect.settled.error.empty() ? "" : ": ", effect.settled.error);
}

}  // namespace

std::string code_version_of(RunSpec const& spec) {
  if (!spec.graph.is_null()) return value_hash(spec.graph);
  if (!spec.agent.is_null()) return value_hash(spec.agent);
  return content_hash(spec.goal);
}

Status RunTurn::perform(BeginStep step) {
  std::optional<std::uint64_t> const most = state_.opening.spec.budget.steps;
  bool const is_over = most && state_.steps_used >= *most && step.kind != StepKind::Compensation;
  std::string path = step.path;
  TRY(record(StepOpened{.path = std::move(step.path),
                        .kind = step.kind,
                        .attempt = step.attempt,
                        .input_hash = value_hash(step.input)}));
  if (!is_over) return {};
  // What the driver decided besides for this step comes to nothing.
  unpaid_.insert(path);
  return fail_step(path, fmt::format("the budget of {} steps is spent", *most));
}

Status RunTurn::fail_step(std::string const& path, std::string error) {
  auto const step = state_.steps.find(path);
  if (step == state_.steps.end() || !step->second.open) return {};
  std::vector<std::string> const waits(state_.open_waits.begin(), state_.open_waits.end());
  for (std::string const& wait : waits) {
    if (is_at_or_under(wait, path)) TRY(perform(EndWait{.path = wait, .end = WaitEnd::Cancelled}));
  }
  return record(StepClosed{.path = path,
                           .attempt = step->second.attempt,
                           .outcome = StepOutcome::Failed,
                           .result = {},
                           .error = std::move(error)});
}

std::optional<std::string> RunTurn::over_budget(std::string const& path) const {
  auto const step = state_.steps.find(path);
  if (step == state_.steps.end() || step->second.kind == StepKind::Compensation) return {};
  Budget const& budget = state_.opening.spec.budget;
  if (budget.calls && state_.calls_used >= *budget.calls)
    return fmt::format("the budget of {} calls is spent", *budget.calls);
  if (budget.tokens && state_.used.tokens >= *budget.tokens)
    return fmt::format("the budget of {} tokens is spent: {} were used", *budget.tokens,
                       state_.used.tokens);
  if (budget.cost && state_.used.cost >= *budget.cost)
    return fmt::format("the budget of {} is spent: {} were used", *budget.cost, state_.used.cost);
  return {};
}

Status RunTurn::perform(CallTool call) {
  // Its step was failed just now, by a budget.
  if (!state_.open_steps.contains(call.path) && state_.steps.contains(call.path)) return {};
  tools::Tool* const tool = call.by_worker ? nullptr : world_.tools.find(call.tool);
  if (tool == nullptr && !call.by_worker) {
    return fail_step(call.path,
                     fmt::format("calling {}: there is no tool of that name", call.tool));
  }
  Status const good = tool == nullptr ? Status() : tool->check(call.args);
  if (!good)
    return fail_step(call.path, fmt::format("calling {}: {}", call.tool, good.error().message()));
  std::string const effect = effect_id(state_.id, call.path, call.tool, call.occurrence);
  std::string hash = value_hash(call.args);
  auto const found = state_.effects.find(effect);
  EffectState const* before = found == state_.effects.end() ? nullptr : &found->second;
  if (before != nullptr && before->intent.args_hash != hash) {
    return perform(Diverged{fmt::format(
        "the call of {} in step \"{}\" was recorded with the arguments {} and comes with {} now",
        call.tool, call.path, before->intent.args_hash, hash)});
  }
  Policy const own = tool == nullptr ? Policy::Once : tool->default_policy();
  Policy const policy = before != nullptr ? before->intent.policy : call.policy.value_or(own);
  bool const can_look_up = tool != nullptr && tool->can_look_up(call.args);
  EffectMove const move =
      next_move(policy, turn_known(before, memory_), AskedBy::Driver, can_look_up, false);
  switch (move) {
    case EffectMove::Call:
      break;
    case EffectMove::Wait:
    case EffectMove::GiveBack:
      return {};
    case EffectMove::SettleUnknown:
      return recover();
    case EffectMove::LookUp:
    case EffectMove::AskPerson:
      memory_.unknown.insert(effect);
      return {};
    case EffectMove::RefuseToDriver:
      return fail_step(call.path, refusal_text(*before));
  }
  if (std::optional<std::string> const spent = over_budget(call.path))
    return fail_step(call.path, *spent);
  call.policy = policy;
  return intend(std::move(call), before, effect, std::move(hash));
}

Status RunTurn::intend(CallTool call, EffectState const* before, std::string const& effect,
                       std::string hash) {
  TRY(fault::pass(fault::Point::JobsIntend));
  bool const has_key = *call.policy == Policy::Keyed || *call.policy == Policy::Lookup;
  EffectIntended intent{.effect = effect,
                        .turn = before == nullptr ? 1 : before->intent.turn + 1,
                        .path = std::move(call.path),
                        .tool = std::move(call.tool),
                        .args = call.args,
                        .args_hash = std::move(hash),
                        .policy = *call.policy,
                        .key = has_key ? effect : "",
                        .business_key = std::move(call.business_key),
                        .token = world_.make_token()};
  if (intent.turn == 1 && !intent.business_key.empty()) {
    std::string const key = business_journal_key(state_.opening.spec.space, intent.business_key);
    std::optional<KeyHolder> holder = own_holder(intent.business_key);
    if (!holder) {
      TRY_ASSIGN(holder, world_.key_holder(key));
    }
    if (holder) return borrow(std::move(intent), *holder);
  }
  // The first turn took it.
  if (intent.turn > 1) intent.business_key.clear();
  PlannedCall planned{.effect = effect,
                      .turn = intent.turn,
                      .token = intent.token,
                      .tool = intent.tool,
                      .call = {},
                      .looks_up = false};
  planned.call.args = std::move(call.args);
  planned.call.key = intent.key;
  planned.call.timeout = call.timeout.value_or(world_.call_timeout);
  TRY(record(std::move(intent)));
  memory_.in_flight[effect] = planned.turn;
  if (call.by_worker)
    memory_.with_worker.insert(effect);
  else
    calls.push_back(std::move(planned));
  return {};
}

/// A call of this run that took the key; it may stand in the batch on its way.
std::optional<KeyHolder> RunTurn::own_holder(std::string const& business_key) const {
  for (auto const& [name, effect] : state_.effects) {
    if (effect.intent.business_key != business_key) continue;
    KeyHolder holder{.run = state_.id, .settled = {}};
    if (!effect.open) holder.settled = effect.settled;
    return holder;
  }
  return std::nullopt;
}

/// Somebody made this call before, under its business key: what became of that is the answer.
Status RunTurn::borrow(EffectIntended intent, KeyHolder const& holder) {
  EffectSettled settled{.effect = intent.effect,
                        .turn = intent.turn,
                        .outcome = EffectOutcome::Unknown,
                        .by = SettledBy::Lookup,
                        .result = {},
                        .error = {},
                        .usage = {}};
  std::string const name = std::exchange(intent.business_key, {});
  if (holder.settled && holder.settled->outcome == EffectOutcome::Ok) {
    settled.outcome = EffectOutcome::Ok;
    settled.result = holder.settled->result;
  } else if (holder.settled && holder.settled->outcome != EffectOutcome::Unknown) {
    settled.outcome = EffectOutcome::Error;
    settled.error = fmt::format("the business key {} belongs to run {}, where it ended with {}: {}",
                                name, holder.run.text, tools::text_of(holder.settled->outcome),
                                holder.settled->error);
  } else {
    intent.policy = Policy::Once;
    intent.key.clear();
    memory_.unknown.insert(intent.effect);
    settled.error = fmt::format("the business key {} belongs to run {}, where it has not ended",
                                name, holder.run.text);
  }
  TRY(record(std::move(intent)));
  return record(std::move(settled));
}

Status RunTurn::perform(AwaitThing thing) {
  if (unpaid_.contains(thing.path)) return {};
  std::optional<WallTime> deadline;
  if (thing.after) deadline = world_.now + *thing.after;
  return record(WaitOpened{.path = std::move(thing.path),
                           .kind = thing.kind,
                           .name = std::move(thing.name),
                           .effect = {},
                           .deadline = deadline,
                           .schema = std::move(thing.schema)});
}

Status RunTurn::perform(StartChild child) {
  if (unpaid_.contains(child.path)) return {};
  TRY(fault::pass(fault::Point::JobsChild));
  RunId const id = world_.make_run();
  TRY(record(WaitOpened{.path = child.path,
                        .kind = WaitKind::Child,
                        .name = id.text,
                        .effect = {},
                        .deadline = {},
                        .schema = {}}));
  RunOpened opening{.spec = std::move(child.spec),
                    .code_version = {},
                    .idempotency_key = {},
                    .request_hash = {},
                    .parent = Parent{.run = state_.id, .path = std::move(child.path)},
                    .forked_from = {},
                    .schedule = {}};
  opening.spec.space = state_.opening.spec.space;
  opening.code_version = code_version_of(opening.spec);
  RunState born;
  born.id = id;
  RunEvent const event = as_recorded({.at = world_.now, .actor = {}, .body = std::move(opening)});
  TRY(fold(born, event));
  TRY(append_event(batch, {.stream = id.text, .space = born.opening.spec.space}, event,
                   world_.salts));
  RunRows const rows = rows_of(born);
  add_changes(id, nullptr, rows, batch.records);
  if (rows.ready) children.push_back(ready_of(born));
  return {};
}

Status RunTurn::perform(EndStep step) {
  if (unpaid_.contains(step.path)) return {};
  auto const found = state_.steps.find(step.path);
  std::uint32_t const attempt = found == state_.steps.end() ? 1 : found->second.attempt;
  return record(StepClosed{.path = std::move(step.path),
                           .attempt = attempt,
                           .outcome = step.outcome,
                           .result = std::move(step.result),
                           .error = std::move(step.error)});
}

Status RunTurn::perform(EndWait wait) {
  auto const found = state_.waits.find(wait.path);
  bool const is_child =
      found != state_.waits.end() && found->second.opening.kind == WaitKind::Child;
  // Nobody waits for it any more: it is to end as well.
  if (is_child && wait.end == WaitEnd::Cancelled) cancel_child(RunId{found->second.opening.name});
  return record(WaitClosed{.path = std::move(wait.path), .end = wait.end, .by = {}, .payload = {}});
}

Status RunTurn::perform(EndRun end) {
  TRY(fault::pass(fault::Point::JobsClose));
  std::vector<std::string> const waits(state_.open_waits.begin(), state_.open_waits.end());
  for (std::string const& path : waits)
    TRY(perform(EndWait{.path = path, .end = WaitEnd::Cancelled}));
  std::vector<std::string> const steps(state_.open_steps.begin(), state_.open_steps.end());
  for (std::string const& path : steps) TRY(fail_step(path, "the run ended"));
  std::optional<Parent> const& parent = state_.opening.parent;
  if (parent) {
    batch.records.push_back(
        {.view = std::string(kWakeView), .key = wake_key(parent->run, state_.id), .value = ""});
  }
  return record(RunClosed{
      .outcome = end.outcome, .output = std::move(end.output), .error = std::move(end.error)});
}

Status RunTurn::perform(Diverged diverged) {
  return record(RunControlled{.control = Control::Stuck,
                              .holder = {},
                              .until = {},
                              .reason = std::move(diverged.message),
                              .step = {}});
}

}  // namespace aether::jobs
