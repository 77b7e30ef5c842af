// SPDX-License-Identifier: Apache-2.0
#include "jobs/code_driver.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "jobs/call_step.h"
#include "jobs/effect_rules.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

/// Of a value in a message for people.
constexpr std::size_t kShownMax = 200;

std::string shown(json::value const& value) {
  std::string text = canonical_json(value);
  if (text.size() > kShownMax) text = text.substr(0, kShownMax) + "...";
  return text;
}

StepKind kind_of(WorkMessage const& message) {
  if (message.verb == WorkVerb::Wait) {
    if (message.wait == WaitKind::Human) return StepKind::Approval;
    return message.wait == WaitKind::Child ? StepKind::Workflow : StepKind::Wait;
  }
  if (message.is_pure) return StepKind::Value;
  return message.is_model ? StepKind::Model : StepKind::Tool;
}

/// What is hashed into the step and compared later.
json::value input_of(WorkMessage const& message) {
  if (message.verb != WorkVerb::Wait)
    return json::object{{"args", message.args}, {"tool", message.tool}};
  json::object input{{"for", text_of(message.wait)}, {"name", message.name}};
  if (message.wait == WaitKind::Child) input["job"] = message.args;
  return input;
}

std::string words_of(StepKind kind, std::string_view tool, std::string const& args) {
  return fmt::format("{} {}({})", text_of(kind), tool, args);
}

/// Steps of one run in the order in which they were done; what is open comes last. Times alone do
/// not tell it: several steps may begin in one millisecond.
using StepPlace = std::tuple<std::uint32_t, WallTime, std::string_view>;

StepPlace place_of(std::string_view path, StepState const& step) {
  return {step.order - 1, step.opened, path};  // 0 is none: that wraps to the end
}

std::string position_of(RunState const& state, std::string_view path) {
  auto const& step = *state.steps.find(path);
  StepPlace const place = place_of(step.first, step.second);
  auto const before = std::ranges::count_if(state.steps, [&place](auto const& each) {
    return place_of(each.first, each.second) < place;
  });
  return fmt::format("step {} of {}", before + 1, state.steps.size());
}

CallStep call_step(WorkMessage const& message) {
  CallStep step;
  step.path = message.path;
  step.kind = kind_of(message);
  step.input = input_of(message);
  step.tool = message.tool;
  step.args = message.args;
  step.policy = message.policy;
  step.business_key = message.business_key;
  step.timeout = message.timeout;
  step.retry.attempts = message.attempts;
  step.retry.backoff = message.pause;
  return step;
}

CallTool own_call(WorkMessage const& message) {
  CallTool call;
  call.path = message.path;
  call.tool = own_tool(message.tool);
  call.args = message.args;
  call.policy = message.policy;
  call.business_key = message.business_key;
  call.by_worker = true;
  return call;
}

}  // namespace

void CodeDriver::ask(WorkPlace place, WorkMessage message) {
  pending_.push_back({place, std::move(message)});
}

void CodeDriver::forget(std::uint64_t frame) {
  std::erase_if(pending_, [frame](Pending const& each) { return each.place.frame == frame; });
}

EffectState const* CodeDriver::effect_of(RunState const& state, WorkMessage const& message) const {
  bool const is_own = message.verb != WorkVerb::Call;
  bool const is_named = message.verb == WorkVerb::StepEnd;
  std::string const tool = is_own ? own_tool(message.tool) : message.tool;
  auto const found = state.effects.find(is_named ? message.effect
                                                 : memory_.effect_of(state, message.path, tool, 1));
  return found == state.effects.end() ? nullptr : &found->second;
}

// ---- Whether the code is what recorded the run --------------------------------------------------

/// The first recorded step that the code has not asked for.
std::optional<std::string> CodeDriver::passed_over(RunState const& state) const {
  if (replayed_ == *recorded_) return std::nullopt;
  std::optional<StepPlace> first;
  for (auto const& [path, step] : state.steps) {
    if (visited_.contains(path)) continue;
    StepPlace const place = place_of(path, step);
    if (!first || place < *first) first = place;
  }
  if (!first) return std::nullopt;
  std::string_view const path = std::get<std::string_view>(*first);
  return fmt::format("\"{}\" ({}, {})", path, position_of(state, path),
                     text_of(state.steps.find(path)->second.kind));
}

std::optional<Diverged> CodeDriver::visit(RunState const& state, WorkMessage const& message) const {
  auto const step = state.steps.find(message.path);
  bool const is_new = visited_.insert(message.path).second;
  if (step == state.steps.end()) {
    if (!is_new || !message.is_strict) return std::nullopt;
    std::optional<std::string> const next = passed_over(state);
    if (!next) return std::nullopt;
    return Diverged{fmt::format(
        "recorded next is {}, and the code asks for \"{}\" ({} {}) now: it is not the code that "
        "recorded this; resume with that one, or fork before the step",
        *next, message.path, text_of(kind_of(message)), message.tool)};
  }
  if (is_new) ++replayed_;
  auto const input = [&message] { return input_of(message); };
  auto const diverged = memory_.compare(message.path, step->second, kind_of(message), input);
  if (!diverged) return std::nullopt;
  std::string was = words_of(step->second.kind, "with input", step->second.input_hash);
  for (auto const& [name, effect] : state.effects) {
    if (effect.intent.path != message.path) continue;
    was = words_of(step->second.kind, effect.intent.tool, shown(effect.intent.args));
  }
  bool const is_own = message.verb != WorkVerb::Call && message.verb != WorkVerb::Wait;
  std::string const tool = is_own ? own_tool(message.tool) : message.tool;
  json::value const args = message.verb == WorkVerb::Wait ? input_of(message) : message.args;
  return Diverged{fmt::format(
      "the step \"{}\" ({}) was recorded as {}, and comes as {} now: it is not the code that "
      "recorded this; resume with that one, or fork before the step",
      message.path, position_of(state, message.path), was,
      words_of(kind_of(message), tool, shown(args)))};
}

// ---- What follows -------------------------------------------------------------------------------

std::vector<Decision> CodeDriver::decide(RunState const& state) const {
  std::vector<Decision> decisions;
  if (!recorded_) recorded_ = state.steps.size();
  if (state.cancel_requested) {
    if (!state.open_effects.empty()) return decisions;
    decisions.emplace_back(
        EndRun{.outcome = RunOutcome::Cancelled,
               .output = {},
               .error = state.cancel_reason.empty() ? "cancelled" : state.cancel_reason});
    return decisions;
  }
  std::set<std::string_view> paths;
  for (Pending const& each : pending_) {
    WorkMessage const& message = each.message;
    // What came before it in the same breath is recorded before it is looked at.
    bool const ends = message.verb == WorkVerb::Close;
    if (ends && (!decisions.empty() || !paths.empty())) break;
    if (is_met(state, message)) continue;
    if (!message.path.empty() && !paths.insert(message.path).second) continue;
    decide_for(state, message, decisions);
    bool const diverged = !decisions.empty() && std::holds_alternative<Diverged>(decisions.back());
    if (diverged) break;
  }
  return decisions;
}

bool CodeDriver::is_met(RunState const& state, WorkMessage const& message) const {
  if (message.verb == WorkVerb::Beat || message.verb == WorkVerb::Release) return true;
  if (message.verb == WorkVerb::Close || message.verb == WorkVerb::Stuck) return false;
  auto const step = state.steps.find(message.path);
  bool const is_compared = message.verb != WorkVerb::StepEnd || message.is_pure;
  if (step == state.steps.end() || (is_compared && !visited_.contains(message.path))) return false;
  bool const is_call = message.verb == WorkVerb::Call;
  return !step->second.open && (!is_call || step->second.outcome != StepOutcome::Retryable);
}

void CodeDriver::decide_for(RunState const& state, WorkMessage const& message,
                            std::vector<Decision>& decisions) const {
  switch (message.verb) {
    case WorkVerb::Beat:
    case WorkVerb::Release:
      return;
    case WorkVerb::Close:
      return decide_close(state, message, decisions);
    case WorkVerb::Stuck:
      decisions.emplace_back(Diverged{message.why.empty() ? "the code says so" : message.why});
      return;
    default:
      break;
  }
  // The end of a call says no more of what was called.
  bool const is_compared = message.verb != WorkVerb::StepEnd || message.is_pure;
  if (std::optional<Diverged> diverged = is_compared ? visit(state, message) : std::nullopt) {
    decisions.emplace_back(std::move(*diverged));
    return;
  }
  auto const step = state.steps.find(message.path);
  bool const is_over = step != state.steps.end() && !step->second.open &&
                       step->second.outcome != StepOutcome::Retryable;
  if (is_over) return;
  if (message.verb == WorkVerb::StepBegin) return decide_begin(state, message, decisions);
  if (message.verb == WorkVerb::StepEnd) return decide_end(state, message, decisions);
  if (message.verb == WorkVerb::Call) return decide_call(state, message, decisions);
  decide_wait(state, message, decisions);
}

void CodeDriver::decide_begin(RunState const& state, WorkMessage const& message,
                              std::vector<Decision>& decisions) const {
  if (message.is_pure) return;
  if (!state.steps.contains(message.path)) {
    decisions.emplace_back(BeginStep{message.path, kind_of(message), 1, input_of(message)});
    decisions.emplace_back(own_call(message));
    return;
  }
  EffectState const* const effect = effect_of(state, message);
  if (effect == nullptr) {
    decisions.emplace_back(own_call(message));
    return;
  }
  if (effect->open || is_for_a_person(*effect)) return;
  EffectSettled const& settled = effect->settled;
  if (settled.outcome == EffectOutcome::Ok) {
    decisions.emplace_back(EndStep{message.path, StepOutcome::Committed, settled.result, {}});
  } else if (may_call_again(*effect)) {
    decisions.emplace_back(own_call(message));
  } else {
    decisions.emplace_back(
        EndStep{message.path, StepOutcome::Failed, settled.result, settled.error});
  }
}

void CodeDriver::decide_end(RunState const& state, WorkMessage const& message,
                            std::vector<Decision>& decisions) const {
  bool const is_good = message.outcome == EffectOutcome::Ok;
  if (message.is_pure) {
    decisions.emplace_back(BeginStep{message.path, kind_of(message), 1, input_of(message)});
    decisions.emplace_back(EndStep{message.path, is_good ? StepOutcome::Pure : StepOutcome::Failed,
                                   message.result, message.error});
    return;
  }
  EffectState const* const effect = effect_of(state, message);
  if (effect == nullptr || effect->open) return;
  EffectSettled const& settled = effect->settled;
  if (settled.outcome == EffectOutcome::Unknown) return;
  if (settled.outcome == EffectOutcome::Ok) {
    decisions.emplace_back(EndStep{message.path, StepOutcome::Committed, settled.result, {}});
  } else if (!message.comes_again || !may_call_again(*effect)) {
    std::string error = settled.error.empty() ? "it failed" : settled.error;
    decisions.emplace_back(
        EndStep{message.path, StepOutcome::Failed, settled.result, std::move(error)});
  }
}

void CodeDriver::decide_call(RunState const& state, WorkMessage const& message,
                             std::vector<Decision>& decisions) const {
  CallStep const step = call_step(message);
  if (state.steps.contains(message.path))
    advance_call(state, step, Pace::On, memory_, decisions);
  else
    begin_call(step, decisions);
}

void CodeDriver::decide_wait(RunState const& state, WorkMessage const& message,
                             std::vector<Decision>& decisions) const {
  if (!state.steps.contains(message.path)) {
    decisions.emplace_back(BeginStep{message.path, kind_of(message), 1, input_of(message)});
  }
  auto const wait = state.waits.find(message.path);
  if (wait == state.waits.end()) {
    if (message.wait == WaitKind::Child) {
      decisions.emplace_back(StartChild{message.path, *message.child});
      return;
    }
    AwaitThing thing;
    thing.path = message.path;
    thing.kind = message.wait;
    thing.name = message.name;
    thing.after = message.after;
    thing.schema = message.schema;
    decisions.emplace_back(std::move(thing));
    return;
  }
  if (wait->second.open) return;
  WaitClosed const& closing = wait->second.closing;
  json::object result{{"end", text_of(closing.end)}};
  result["by"] = closing.by;
  result["payload"] = closing.payload;
  decisions.emplace_back(EndStep{message.path, StepOutcome::Pure, std::move(result), {}});
}

void CodeDriver::decide_close(RunState const& state, WorkMessage const& message,
                              std::vector<Decision>& decisions) const {
  if (std::optional<std::string> const next = passed_over(state)) {
    decisions.emplace_back(Diverged{fmt::format(
        "recorded next is {}, and the code comes to its end now: it is not the code that recorded "
        "this; resume with that one, or fork before the step",
        *next)});
    return;
  }
  decisions.emplace_back(
      EndRun{.outcome = message.end, .output = message.result, .error = message.error});
}

}  // namespace aether::jobs
