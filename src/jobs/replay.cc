// SPDX-License-Identifier: Apache-2.0
#include "jobs/replay.h"

#include <deque>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "base/json.h"
#include "jobs/run_event_codec.h"
#include "jobs/run_state.h"

namespace aether::jobs {
namespace {

std::string with_error(std::string text, std::string const& error) {
  return error.empty() ? text : text + fmt::format(", error '{}'", error);
}

// ---- the same words for what was recorded and for what is decided: equal words are the same

std::string opened_text(std::string_view path, std::uint32_t attempt, StepKind kind,
                        std::string_view input_hash) {
  return fmt::format("step.opened '{}' attempt {} ({}, input {})", path, attempt, text_of(kind),
                     input_hash);
}
std::string closed_text(std::string_view path, StepOutcome outcome,
                        boost::json::value const& result, std::string const& error) {
  return with_error(
      fmt::format("step.closed '{}' {} (result {})", path, text_of(outcome), value_hash(result)),
      error);
}
std::string intended_text(std::string_view path, std::string_view tool, std::string_view effect,
                          std::string_view args_hash) {
  return fmt::format("effect.intended {} in '{}' (effect {}, arguments {})", tool, path, effect,
                     args_hash);
}
std::string waits_text(std::string_view path, WaitKind kind, std::string_view name,
                       bool has_deadline, boost::json::value const& schema) {
  return fmt::format("wait.opened '{}' {} '{}' ({} deadline, schema {})", path, text_of(kind), name,
                     has_deadline ? "with" : "without", value_hash(schema));
}
std::string wait_end_text(std::string_view path, WaitEnd end) {
  return fmt::format("wait.closed '{}' {}", path, text_of(end));
}
std::string run_end_text(RunOutcome outcome, boost::json::value const& output,
                         std::string const& error) {
  return with_error(fmt::format("run.closed {} (output {})", text_of(outcome), value_hash(output)),
                    error);
}

struct RecordedText {
  std::string operator()(StepOpened const& step) const {
    return opened_text(step.path, step.attempt, step.kind, step.input_hash);
  }
  std::string operator()(StepClosed const& step) const {
    return closed_text(step.path, step.outcome, step.result, step.error);
  }
  std::string operator()(EffectIntended const& effect) const {
    return intended_text(effect.path, effect.tool, effect.effect, effect.args_hash);
  }
  std::string operator()(WaitOpened const& wait) const {
    // A child's id is chance.
    bool const is_child = wait.kind == WaitKind::Child;
    return waits_text(wait.path, wait.kind, is_child ? "" : wait.name, wait.deadline.has_value(),
                      wait.schema);
  }
  std::string operator()(WaitClosed const& wait) const {
    return wait_end_text(wait.path, wait.end);
  }
  std::string operator()(RunClosed const& run) const {
    return run_end_text(run.outcome, run.output, run.error);
  }
  std::string operator()(auto const& other) const { return std::string(kind_of(other)); }
};

struct DecidedText {
  RunState const& state;

  std::string operator()(BeginStep const& step) const {
    return opened_text(step.path, step.attempt, step.kind, value_hash(step.input));
  }
  std::string operator()(EndStep const& step) const {
    return closed_text(step.path, step.outcome, step.result, step.error);
  }
  std::string operator()(CallTool const& call) const {
    return intended_text(call.path, call.tool,
                         effect_id(state.id, call.path, call.tool, call.occurrence),
                         value_hash(call.args));
  }
  std::string operator()(AwaitThing const& wait) const {
    return waits_text(wait.path, wait.kind, wait.name, wait.after.has_value(), wait.schema);
  }
  std::string operator()(StartChild const& child) const {
    return waits_text(child.path, WaitKind::Child, "", false, nullptr);
  }
  std::string operator()(EndWait const& wait) const { return wait_end_text(wait.path, wait.end); }
  std::string operator()(EndRun const& run) const {
    return run_end_text(run.outcome, run.output, run.error);
  }
  std::string operator()(Diverged const& diverged) const { return diverged.message; }
};

/// Events that a driver's decision may be behind.
bool is_of_decision(RunEventBody const& body) {
  return std::holds_alternative<StepOpened>(body) || std::holds_alternative<StepClosed>(body) ||
         std::holds_alternative<EffectIntended>(body) || std::holds_alternative<WaitOpened>(body) ||
         std::holds_alternative<WaitClosed>(body) || std::holds_alternative<RunClosed>(body);
}

bool is_closing(RunEventBody const& body) {
  auto const* const step = std::get_if<StepClosed>(&body);
  if (step != nullptr) return step->outcome == StepOutcome::Failed;
  auto const* const wait = std::get_if<WaitClosed>(&body);
  if (wait != nullptr) return wait->end == WaitEnd::Cancelled;
  auto const* const run = std::get_if<RunClosed>(&body);
  return run != nullptr && run->outcome == RunOutcome::Cancelled;
}

class Replay {
 public:
  Replay(RunId const& run, Driver const& driver) : driver_(driver) { state_.id = run; }

  Status take(RunEvent const& event) {
    report_.events = state_.sequence + 1;
    if (is_copied(event)) {
      ++report_.copied;
    } else if (is_of_decision(event.body)) {
      take_decided(event);
    } else {
      take_given(event);
    }
    if (report_.divergence) return {};
    previous_ = event.body;
    return fold(state_, event);
  }
  [[nodiscard]] bool diverged() const { return report_.divergence.has_value(); }
  [[nodiscard]] ReplayReport end() && { return std::move(report_); }

 private:
  /// A fork's history up to its mark is another run's: that one replays it.
  bool is_copied(RunEvent const& event) {
    auto const* const control = std::get_if<RunControlled>(&event.body);
    if (state_.sequence == 0) return false;
    bool const copied = state_.opening.forked_from && !past_copies_;
    if (control != nullptr && control->control == Control::Fork) past_copies_ = true;
    return copied;
  }

  /// Something came from outside: all that was decided before must have been recorded before.
  void take_given(RunEvent const& event) {
    auto const* const settled = std::get_if<EffectSettled>(&event.body);
    auto const* const intended = std::get_if<EffectIntended>(&previous_);
    // A call that another run had made, by its business key, is settled where it is intended.
    if (settled != nullptr && intended != nullptr && settled->effect == intended->effect &&
        settled->by == SettledBy::Lookup) {
      return;
    }
    auto const* const control = std::get_if<RunControlled>(&event.body);
    bool const is_stuck = control != nullptr && control->control == Control::Stuck;
    if (is_stuck) decided_.clear();
    drop_void_calls();
    if (!decided_.empty()) diverge(event, decided_text());
  }

  void take_decided(RunEvent const& event) {
    bool const asked = decided_.empty() && !engine_ends_;
    if (asked) ask();
    drop_void_calls();
    std::string const recorded = std::visit(RecordedText(), event.body);
    if (!decided_.empty() && decided_text() == recorded) return accept(event);
    if (is_engines(event)) {
      // What the driver wanted before the outside had its say is nothing that it decided.
      if (asked && !std::holds_alternative<StepClosed>(event.body)) decided_.clear();
      return;
    }
    diverge(event, decided_.empty() ? "nothing: it waits for what is under way" : decided_text());
  }

  void accept(RunEvent const& event) {
    if (auto const* const end = std::get_if<EndRun>(&decided_.front())) {
      auto const& closing = std::get<RunClosed>(event.body);
      report_.output = canonical_json(end->output);
      report_.same_output = report_.output == canonical_json(closing.output);
      report_.closed = true;
    }
    ++report_.decisions;
    decided_.pop_front();
  }

  void ask() {
    std::vector<Decision> fresh = driver_.decide(state_);
    decided_.assign(std::make_move_iterator(fresh.begin()), std::make_move_iterator(fresh.end()));
  }

  /// Calls for which nothing was recorded: their step has ended, they are under way, or a person is
  /// asked.
  void drop_void_calls() {
    while (!decided_.empty()) {
      auto const* const call = std::get_if<CallTool>(&decided_.front());
      if (call == nullptr) return;
      bool const has_step = state_.open_steps.contains(call->path);
      auto const effect =
          state_.effects.find(effect_id(state_.id, call->path, call->tool, call->occurrence));
      bool const known = effect != state_.effects.end();
      bool const waits = known && (effect->second.open || is_asked_about(effect->second));
      if (has_step && !waits) return;
      decided_.pop_front();
    }
  }
  static bool is_asked_about(EffectState const& effect) {
    Policy const policy = effect.intent.policy;
    return effect.settled.outcome == EffectOutcome::Unknown &&
           (policy == Policy::Once || policy == Policy::Lookup);
  }

  /// What the engine records by itself.
  bool is_engines(RunEvent const& event) {
    RunEventBody const& body = event.body;
    if (auto const* const wait = std::get_if<WaitOpened>(&body)) return !wait->effect.empty();
    if (auto const* const wait = std::get_if<WaitClosed>(&body)) {
      if (wait->end != WaitEnd::Cancelled) return true;  // Time, a signal, a person, a child.
    }
    if (engine_ends_) return is_closing(body) && note_end(body);
    if (auto const* const step = std::get_if<StepClosed>(&body)) {
      if (step->outcome == StepOutcome::Failed && refuses_call(step->path)) return true;
    }
    if (!is_closing(body)) return false;
    if (decided_.empty()) {
      engine_ends_ = state_.cancel_requested;
      return engine_ends_ && note_end(body);
    }
    auto const* const call = std::get_if<CallTool>(&decided_.front());
    auto const* const wait = std::get_if<WaitClosed>(&body);
    if (call != nullptr) return wait != nullptr && is_at_or_under(wait->path, call->path);
    // With the end of the run, what is open closes before.
    return std::holds_alternative<EndRun>(decided_.front()) &&
           !std::holds_alternative<RunClosed>(body);
  }

  /// The engine did not make the call (a budget, a tool that is not there, arguments that it does
  /// not take) and failed its step; or the step itself was one too many.
  bool refuses_call(std::string const& path) {
    auto const* const call = decided_.empty() ? nullptr : std::get_if<CallTool>(&decided_.front());
    if (call != nullptr && call->path == path) {
      decided_.pop_front();
      return true;
    }
    std::optional<std::uint64_t> const steps = state_.opening.spec.budget.steps;
    auto const* const opened = std::get_if<StepOpened>(&previous_);
    return steps && state_.steps_used > *steps && opened != nullptr && opened->path == path;
  }

  bool note_end(RunEventBody const& body) {
    if (!std::holds_alternative<RunClosed>(body)) return true;
    report_.closed = true;
    report_.by_engine = true;
    return true;
  }

  [[nodiscard]] std::string decided_text() const {
    return std::visit(DecidedText{state_}, decided_.front());
  }

  void diverge(RunEvent const& event, std::string now) {
    report_.divergence = Divergence{.sequence = state_.sequence + 1,
                                    .recorded = std::visit(RecordedText(), event.body),
                                    .now = std::move(now)};
  }

  Driver const& driver_;
  RunState state_;
  ReplayReport report_;
  std::deque<Decision> decided_;  ///< Not yet met in the record.
  RunEventBody previous_;
  bool past_copies_ = false;
  bool engine_ends_ = false;
};

}  // namespace

std::string describe(Divergence const& divergence) {
  return fmt::format("at event {} was recorded: {}; now comes: {}", divergence.sequence,
                     divergence.recorded, divergence.now);
}

Result<ReplayReport> replay(RunId const& run, Driver const& driver,
                            std::vector<RunEvent> const& history) {
  Replay replay(run, driver);
  for (RunEvent const& event : history) {
    TRY(replay.take(event));
    if (replay.diverged()) break;
  }
  return std::move(replay).end();
}

}  // namespace aether::jobs
