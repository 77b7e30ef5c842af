// SPDX-License-Identifier: Apache-2.0
// CodeDriver: what a worker is answered, from what is durable.
#include <algorithm>
#include <utility>

#include <boost/json.hpp>

#include "jobs/code_driver.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

bool is_repeated(EffectState const& effect) {
  return effect.intent.policy == Policy::Read || effect.intent.policy == Policy::Keyed;
}
/// Nobody knows what became of it, and a person is asked.
bool waits_for_a_person(EffectState const& effect) {
  return !effect.open && effect.settled.outcome == EffectOutcome::Unknown && !is_repeated(effect);
}

json::object recorded_answer(StepState const& step) {
  json::object answer{{"is", "recorded"}, {"outcome", text_of(step.outcome)}};
  answer["result"] = step.result;
  if (!step.error.empty()) answer["error"] = step.error;
  return answer;
}

json::object go_answer(EffectState const& effect) {
  json::object answer{{"is", "go"}};
  answer["effect"] = effect.intent.effect;
  answer["turn"] = effect.intent.turn;
  answer["token"] = effect.intent.token;
  if (!effect.intent.key.empty()) answer["key"] = effect.intent.key;
  return answer;
}

/// Why the whole run goes from the worker, whatever was asked.
std::optional<json::object> answer_to_all(RunState const& state) {
  if (state.closing) {
    bool const cancelled = state.closing->outcome == RunOutcome::Cancelled;
    return give_back(cancelled ? GiveBack::Cancelled : GiveBack::Closed, state.closing->error);
  }
  if (!state.stuck.empty()) return give_back(GiveBack::Stuck, state.stuck);
  if (state.cancel_requested) return give_back(GiveBack::Cancelled, state.cancel_reason);
  if (state.paused) return give_back(GiveBack::Paused);
  return std::nullopt;
}

std::optional<json::object> answer_of_begin(StepState const* step, EffectState const* effect,
                                            WorkMessage const& message) {
  if (step == nullptr) {
    if (!message.is_pure) return std::nullopt;
    return json::object{{"is", "go"}};
  }
  if (!step->open) return recorded_answer(*step);
  if (effect == nullptr) return std::nullopt;
  if (waits_for_a_person(*effect)) return give_back(GiveBack::Parked);
  if (!effect->open) return std::nullopt;
  return go_answer(*effect);
}

std::optional<json::object> answer_of_end(StepState const* step, EffectState const* effect,
                                          WorkMessage const& message) {
  json::object const done{{"is", "done"}};
  bool const is_over = step != nullptr && !step->open;
  if (is_over) return done;
  if (message.is_pure) return std::nullopt;
  bool const is_known = effect != nullptr && effect->intent.path == message.path;
  if (!is_known || effect->intent.token != message.token) {
    return json::object{{"is", "refused"},
                        {"detail", "step.end: its effect and token are of no call that is made"}};
  }
  if (effect->open) return std::nullopt;
  if (waits_for_a_person(*effect)) return give_back(GiveBack::Parked);
  if (!message.comes_again && effect->settled.outcome != EffectOutcome::Unknown)
    return std::nullopt;
  return done;
}

std::optional<json::object> answer_of_call(RunState const& state, StepState const* step,
                                           EffectState const* effect, WorkMessage const& message) {
  if (step == nullptr) return std::nullopt;
  bool const is_between = !step->open && step->outcome == StepOutcome::Retryable;
  if (!step->open && !is_between) return recorded_answer(*step);
  if (effect != nullptr && waits_for_a_person(*effect) && state.status() == RunStatus::Parked)
    return give_back(GiveBack::Parked);
  (void)message;
  return std::nullopt;
}

json::object answer_of_wait(RunState const& state, StepState const& step, bool may_give_back) {
  if (!step.open) return recorded_answer(step);
  bool const parks = may_give_back && state.status() == RunStatus::Parked;
  return parks ? give_back(GiveBack::Parked) : json::object{{"is", "open"}};
}

}  // namespace

/// Nothing else of the function can go on, says a frame with `give_back`. But what the same frame
/// is told can, and the worker would lose the run in the middle of that.
void CodeDriver::note_going_on(RunState const& state) {
  std::erase_if(going_on_, [this](std::uint64_t frame) {
    return std::ranges::none_of(pending_,
                                [frame](Pending const& each) { return each.place.frame == frame; });
  });
  for (Pending const& each : pending_) {
    if (each.message.verb != WorkVerb::Wait) continue;
    auto const step = state.steps.find(each.message.path);
    bool const is_over = step != state.steps.end() && !step->second.open;
    if (is_over && visited_.contains(each.message.path)) going_on_.insert(each.place.frame);
  }
}

std::vector<WorkAnswer> CodeDriver::answers(RunState const& state) {
  note_going_on(state);
  std::vector<WorkAnswer> answers;
  std::optional<json::object> const to_all = answer_to_all(state);
  std::deque<Pending> still;
  for (Pending& each : pending_) {
    WorkMessage const& message = each.message;
    auto const found = state.steps.find(message.path);
    bool const is_end = message.verb == WorkVerb::StepEnd;
    bool const is_known = found != state.steps.end() && (is_end || visited_.contains(message.path));
    StepState const* const step = is_known ? &found->second : nullptr;
    EffectState const* const effect =
        step == nullptr || message.is_pure ? nullptr : effect_of(state, message);
    std::optional<json::object> answer;
    switch (message.verb) {
      case WorkVerb::Beat:
        answer = to_all ? to_all : json::object{{"is", "held"}};
        break;
      case WorkVerb::StepBegin:
        if (visited_.contains(message.path)) answer = answer_of_begin(step, effect, message);
        break;
      case WorkVerb::StepEnd:
        answer = answer_of_end(step, effect, message);
        break;
      case WorkVerb::Call:
        answer = answer_of_call(state, step, effect, message);
        break;
      case WorkVerb::Wait:
        if (step != nullptr && state.waits.contains(message.path))
          answer = answer_of_wait(state, *step,
                                  message.may_give_back && !going_on_.contains(each.place.frame));
        break;
      case WorkVerb::Close:
        if (state.closing) answer = json::object{{"is", "done"}};
        break;
      case WorkVerb::Release:
        answer = give_back(GiveBack::Released, message.why);
        break;
      case WorkVerb::Stuck:
        break;
    }
    // What is recorded is said even so; what could go on does not.
    bool const is_said = answer && message.verb != WorkVerb::Beat &&
                         (message.verb == WorkVerb::StepEnd || message.verb == WorkVerb::Close);
    if (to_all && !is_said) answer = to_all;
    if (answer)
      answers.push_back({each.place, std::move(*answer)});
    else
      still.push_back(std::move(each));
  }
  pending_ = std::move(still);
  return answers;
}

}  // namespace aether::jobs
