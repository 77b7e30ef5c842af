// SPDX-License-Identifier: Apache-2.0
#include "jobs/fork.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>

#include <fmt/format.h>

#include "jobs/run_state.h"

namespace aether::jobs {
namespace {

using Paths = std::set<std::string, std::less<>>;

std::size_t first_opening(std::vector<RunEvent> const& history, std::string_view step) {
  auto const found = std::ranges::find_if(history, [step](RunEvent const& event) {
    auto const* const opened = std::get_if<StepOpened>(&event.body);
    return opened != nullptr && opened->path == step;
  });
  return static_cast<std::size_t>(found - history.begin());
}

/// The steps that had begun before, and do not contain the one forked from.
Paths begun_beside(std::vector<RunEvent> const& history, std::size_t end, std::string_view step) {
  Paths begun;
  for (std::size_t at = 0; at < end; ++at) {
    auto const* const opened = std::get_if<StepOpened>(&history[at].body);
    if (opened != nullptr && !is_at_or_under(step, opened->path)) begun.insert(opened->path);
  }
  return begun;
}

/// What an event is about: the path of its step or wait; empty for others.
std::string path_of(RunEventBody const& body, std::map<std::string, std::string> const& effects) {
  if (auto const* const step = std::get_if<StepOpened>(&body)) return step->path;
  if (auto const* const step = std::get_if<StepClosed>(&body)) return step->path;
  if (auto const* const effect = std::get_if<EffectIntended>(&body)) return effect->path;
  if (auto const* const wait = std::get_if<WaitOpened>(&body)) return wait->path;
  if (auto const* const wait = std::get_if<WaitClosed>(&body)) return wait->path;
  auto const* const settled = std::get_if<EffectSettled>(&body);
  if (settled == nullptr) return {};
  auto const place = effects.find(settled->effect);
  return place == effects.end() ? std::string() : place->second;
}

/// Effects by the ids of the same places in another run.
class EffectNames {
 public:
  EffectNames(RunId source, RunId fork, std::size_t occurrences_max)
      : source_(std::move(source)), fork_(std::move(fork)), max_(occurrences_max) {}

  void learn(EffectIntended const& effect) {
    if (names_.contains(effect.effect)) return;
    for (std::uint32_t n = 1; n <= max_; ++n) {
      if (effect_id(source_, effect.path, effect.tool, n) != effect.effect) continue;
      names_[effect.effect] = effect_id(fork_, effect.path, effect.tool, n);
      return;
    }
    names_[effect.effect] = effect.effect;  // Not named by its place: it keeps its name.
  }
  void rename(std::string& effect) const {
    auto const found = names_.find(effect);
    if (found != names_.end()) effect = found->second;
  }

 private:
  RunId source_, fork_;
  std::size_t max_;
  std::map<std::string, std::string> names_;
};

void rename_effects(EffectNames& names, RunEventBody& body) {
  if (auto* const effect = std::get_if<EffectIntended>(&body)) {
    names.learn(*effect);
    names.rename(effect->effect);
  }
  if (auto* const effect = std::get_if<EffectSettled>(&body)) names.rename(effect->effect);
  if (auto* const wait = std::get_if<WaitOpened>(&body)) names.rename(wait->effect);
}

/// Which signal answered which wait: indexes into the history.
std::map<std::size_t, std::string> waits_of_signals(std::vector<RunEvent> const& history) {
  std::map<std::string, std::string> names;  // Path of a wait -> name of its signal.
  std::map<std::string, std::deque<std::size_t>> unused;
  std::map<std::size_t, std::string> waits;
  for (std::size_t at = 0; at < history.size(); ++at) {
    RunEventBody const& body = history[at].body;
    if (auto const* const signal = std::get_if<SignalReceived>(&body)) {
      unused[signal->name].push_back(at);
    }
    if (auto const* const wait = std::get_if<WaitOpened>(&body)) {
      if (wait->kind == WaitKind::Signal) names[wait->path] = wait->name;
    }
    auto const* const closed = std::get_if<WaitClosed>(&body);
    if (closed == nullptr || closed->end != WaitEnd::Answered) continue;
    auto const name = names.find(closed->path);
    if (name == names.end() || unused[name->second].empty()) continue;
    waits[unused[name->second].front()] = closed->path;
    unused[name->second].pop_front();
  }
  return waits;
}

/// Chooses, event by event, what is copied.
class Choice {
 public:
  Choice(std::vector<RunEvent> const& history, std::size_t end, std::string_view step)
      : end_(end),
        begun_(begun_beside(history, end, step)),
        waits_of_signals_(waits_of_signals(history)) {}

  bool operator()(std::size_t at, RunEventBody const& body) {
    if (auto const* const effect = std::get_if<EffectIntended>(&body)) {
      effects_[effect->effect] = effect->path;
    }
    bool const never = std::holds_alternative<RunOpened>(body) ||
                       std::holds_alternative<RunClosed>(body) ||
                       std::holds_alternative<RunControlled>(body);
    if (never) return false;
    if (at < end_) return true;
    if (std::holds_alternative<SignalReceived>(body)) {
      auto const wait = waits_of_signals_.find(at);
      return wait != waits_of_signals_.end() && is_kept(wait->second);
    }
    // A step that failed later, or a wait that was given up, may have ended only because the run
    // did: the fork decides again.
    auto const* const closed = std::get_if<StepClosed>(&body);
    if (closed != nullptr && closed->outcome == StepOutcome::Failed) return false;
    auto const* const given_up = std::get_if<WaitClosed>(&body);
    if (given_up != nullptr && given_up->end == WaitEnd::Cancelled) return false;
    return is_kept(path_of(body, effects_));
  }

 private:
  [[nodiscard]] bool is_kept(std::string_view path) const {
    return std::ranges::any_of(
        begun_, [path](std::string const& step) { return is_at_or_under(path, step); });
  }
  std::size_t end_;
  Paths begun_;
  std::map<std::size_t, std::string> waits_of_signals_;
  std::map<std::string, std::string> effects_;  ///< Effect -> path.
};

/// What was undone in the world cannot be kept as done.
Status check_undone(RunId const& source, std::vector<RunEvent> const& history, std::size_t end) {
  Paths undone;
  for (RunEvent const& event : history) {
    auto const* const step = std::get_if<StepOpened>(&event.body);
    if (step != nullptr && step->kind == StepKind::Compensation) undone.insert(step->path);
  }
  for (std::size_t at = 0; at < end; ++at) {
    auto const* const step = std::get_if<StepOpened>(&history[at].body);
    if (step == nullptr) continue;
    bool const was_undone = std::ranges::any_of(
        undone, [step](std::string const& path) { return is_at_or_under(path, step->path); });
    if (was_undone) {
      return fail(ErrorCode::RequestInvalid,
                  fmt::format("run {} has undone its step '{}': fork from that step, or from one "
                              "before it",
                              source.text, step->path));
    }
  }
  return {};
}

}  // namespace

Result<std::vector<RunEvent>> fork_prefix(RunId const& source, std::vector<RunEvent> const& history,
                                          std::string_view step, RunId const& fork) {
  std::size_t const end = first_opening(history, step);
  if (end == history.size()) {
    return fail(ErrorCode::NotFound,
                fmt::format("run {} never began a step '{}': `aether trace` shows its steps",
                            source.text, step));
  }
  TRY(check_undone(source, history, end));
  Choice chosen(history, end, step);
  EffectNames names(source, fork, history.size());
  std::vector<RunEvent> copies;
  std::map<std::string, std::string> children;  // Path -> child that is waited for.
  for (std::size_t at = 0; at < history.size(); ++at) {
    if (!chosen(at, history[at].body)) continue;
    RunEvent copy = history[at];
    rename_effects(names, copy.body);
    auto const* const wait = std::get_if<WaitOpened>(&copy.body);
    if (wait != nullptr && wait->kind == WaitKind::Child) children[wait->path] = wait->name;
    if (auto const* const closed = std::get_if<WaitClosed>(&copy.body)) {
      children.erase(closed->path);
    }
    copies.push_back(std::move(copy));
  }
  if (!children.empty()) {
    return fail(ErrorCode::RequestInvalid,
                fmt::format("run {} waits at '{}' for its child {}, which answers no fork: wait "
                            "until it has ended, or cancel it, then fork again",
                            source.text, children.begin()->first, children.begin()->second));
  }
  RunControlled mark;
  mark.control = Control::Fork;
  mark.step = step;
  mark.reason = source.text;
  // The time of the step that is not copied: nothing copied later is known here.
  copies.push_back({.at = history[end].at, .actor = {}, .body = std::move(mark)});
  return copies;
}

}  // namespace aether::jobs
