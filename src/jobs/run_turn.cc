// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_turn.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/fault.h"
#include "jobs/effect_rules.h"
#include "jobs/run_rows.h"
#include "journal/limits.h"

namespace aether::jobs {
namespace {

/// Events of one batch after which the driver is asked again in the next: a decision adds a few.
constexpr std::size_t kTurnEventsMax = journal::kBatchEventsMax / 4;
/// Blobs of one batch after which the same holds.
constexpr std::size_t kTurnBlobsMax = journal::kBatchBlobsMax / 4;

std::string turn_name(std::string const& effect, std::uint32_t turn) {
  return fmt::format("{}#{}", effect, turn);
}

/// The open wait that asks a person about the effect.
WaitState const* question_about(RunState const& state, std::string_view effect) {
  for (std::string const& path : state.open_waits) {
    WaitState const& wait = state.waits.find(path)->second;
    if (wait.opening.effect == effect) return &wait;
  }
  return nullptr;
}

EffectSettled settlement_of(CallEnded ended) {
  return {.effect = std::move(ended.effect),
          .turn = ended.turn,
          .outcome = ended.result.outcome,
          .by = ended.by,
          .result = std::move(ended.result.result),
          .error = std::move(ended.result.error),
          .retryable = ended.result.retryable,
          .usage = {.tokens = ended.result.tokens, .cost = ended.result.cost}};
}

}  // namespace

RunTurn::RunTurn(RunState& state, TurnMemory& memory, Driver const* driver, TurnWorld const& world)
    : state_(state), memory_(memory), driver_(driver), world_(world) {}

Status RunTurn::record(RunEventBody body, std::string actor) {
  RunEvent const event =
      as_recorded({.at = world_.now, .actor = std::move(actor), .body = std::move(body)});
  if (auto const law = broken_law(state_, event)) {
    return fail(ErrorCode::Internal, fmt::format("run {}: {} would break a law: {}", state_.id.text,
                                                 kind_of(event.body), text_of(*law)));
  }
  TRY(append_event(batch, {.stream = state_.id.text, .space = state_.opening.spec.space}, event,
                   world_.salts));
  return fold(state_, event);
}

Status RunTurn::recover() {
  TRY(fault::pass(fault::Point::JobsRecover));
  std::vector<std::string> lost;
  for (std::string const& effect : state_.open_effects) {
    if (!memory_.in_flight.contains(effect)) lost.push_back(effect);
  }
  for (std::string const& effect : lost) {
    std::uint32_t const turn = state_.effects.find(effect)->second.intent.turn;
    TRY(record(EffectSettled{
        .effect = effect,
        .turn = turn,
        .outcome = EffectOutcome::Unknown,
        .by = SettledBy::Recovery,
        .result = {},
        .error = "the process ended between the call and its record: it may have happened",
        .usage = {}}));
    memory_.unknown.insert(effect);
  }
  return {};
}

Status RunTurn::apply(std::string const& actor, Fact fact) {
  if (auto* ended = std::get_if<CallEnded>(&fact)) return settle(actor, std::move(*ended));
  if (auto const* woken = std::get_if<Woken>(&fact)) return forget_wake(woken->child);
  auto* control = std::get_if<ControlCame>(&fact);
  if (control != nullptr && !control->from.text.empty()) {
    batch.records.push_back({.view = std::string(kWakeView),
                             .key = wake_key(state_.id, control->from),
                             .value = std::nullopt});
    if (state_.closing) return {};
  }
  if (state_.closing && !std::holds_alternative<AnswerCame>(fact)) {
    bool const is_cancel = control != nullptr && control->control == Control::Cancel;
    if (is_cancel && state_.closing->outcome == RunOutcome::Cancelled) return {};
    return fail(ErrorCode::Conflict, fmt::format("run {} is {} already: nothing can change it",
                                                 state_.id.text, text_of(state_.status())));
  }
  if (control != nullptr) return take_control(actor, std::move(*control));
  if (auto* signal = std::get_if<SignalReceived>(&fact))
    return take_signal(actor, std::move(*signal));
  if (auto* answer = std::get_if<AnswerCame>(&fact)) return take_answer(actor, std::move(*answer));
  return take_resolution(actor, std::move(std::get<ResolutionCame>(fact)));
}

Status RunTurn::settle(std::string const& actor, CallEnded ended) {
  TRY(fault::pass(fault::Point::JobsSettle));
  auto const found = state_.effects.find(ended.effect);
  if (found == state_.effects.end()) return {};
  EffectState const& effect = found->second;
  // A call of another turn, or of another life of this run: its intent was never made durable.
  if (effect.intent.turn != ended.turn || effect.intent.token != ended.token) return {};
  std::string const name = ended.effect;
  bool const was_unknown = !effect.open && effect.settled.outcome == EffectOutcome::Unknown;
  if (!effect.open && !was_unknown) return {};
  if (was_unknown && ended.by == SettledBy::Lookup)
    memory_.looked_up.insert(turn_name(name, ended.turn));
  if (was_unknown && ended.result.outcome == EffectOutcome::Unknown) {
    memory_.unknown.insert(name);
    return {};
  }
  EffectSettled settled = settlement_of(std::move(ended));
  settled.amends = was_unknown;
  if (was_unknown && settled.by == SettledBy::Tool) settled.by = SettledBy::Late;
  if (settled.outcome == EffectOutcome::Unknown) memory_.unknown.insert(name);
  if (settled.amends) memory_.unknown.erase(name);
  Status recorded = record(settled, actor);
  if (!recorded && recorded.error().code() != ErrorCode::Internal) {
    // What the tool gave cannot be kept; that it answered can.
    settled.result = nullptr;
    settled.error = "the answer cannot be recorded: " + recorded.error().message();
    if (settled.outcome == EffectOutcome::Ok) settled.outcome = EffectOutcome::Error;
    settled.retryable = false;
    recorded = record(settled, actor);
  }
  TRY(std::move(recorded));
  WaitState const* question = question_about(state_, name);
  if (question == nullptr || !settled.amends) return {};
  return record(WaitClosed{
      .path = question->opening.path, .end = WaitEnd::Answered, .by = "", .payload = {}});
}

/// The end of a child that no wait is open for any more concerns nobody: its row goes.
Status RunTurn::forget_wake(RunId const& child) {
  if (child.text.empty()) return {};
  bool const is_awaited = std::ranges::any_of(state_.open_waits, [&](std::string const& path) {
    WaitOpened const& opening = state_.waits.find(path)->second.opening;
    return opening.kind == WaitKind::Child && opening.name == child.text;
  });
  if (is_awaited) return {};
  batch.records.push_back(
      {.view = std::string(kWakeView), .key = wake_key(state_.id, child), .value = std::nullopt});
  return {};
}

Status RunTurn::proceed() {
  TRY(check_time());
  TRY(check_waits());
  TRY(ask_about_unknown());
  return run_driver();
}

Status RunTurn::check_time() {
  std::optional<WallTime> const end = end_time(state_);
  if (state_.closing || state_.cancel_requested || !end || *end > world_.now) return {};
  bool const is_deadline = state_.opening.spec.deadline == end;
  return take_control(
      {}, {.control = Control::Cancel,
           .reason = is_deadline ? "its deadline has passed" : "the time of its budget is spent"});
}

Status RunTurn::check_waits() {
  std::vector<std::string> const open(state_.open_waits.begin(), state_.open_waits.end());
  for (std::string const& path : open) {
    auto const found = state_.waits.find(path);
    if (found->second.open) TRY(check_wait(found->second));
  }
  return {};
}

Status RunTurn::check_wait(WaitState const& wait) {
  WaitOpened const& opening = wait.opening;
  if (opening.kind == WaitKind::Signal) {
    if (Signal const* signal = state_.pending_signal(opening.name)) {
      return record(WaitClosed{.path = opening.path,
                               .end = WaitEnd::Answered,
                               .by = signal->actor,
                               .payload = signal->received.payload});
    }
  }
  if (opening.kind == WaitKind::Child) {
    TRY_ASSIGN(std::optional<ChildEnd> const end, world_.child_end(RunId{opening.name}));
    if (end) {
      boost::json::object payload{{"outcome", text_of(end->outcome)}, {"output", end->output}};
      if (!end->error.empty()) payload["error"] = end->error;
      TRY(fault::pass(fault::Point::JobsChildEnd));
      batch.records.push_back({.view = std::string(kWakeView),
                               .key = wake_key(state_.id, RunId{opening.name}),
                               .value = std::nullopt});
      return record(WaitClosed{.path = opening.path,
                               .end = WaitEnd::Answered,
                               .by = opening.name,
                               .payload = std::move(payload)});
    }
  }
  if (!opening.deadline || *opening.deadline > world_.now) return {};
  TRY(fault::pass(fault::Point::JobsTimer));
  bool const is_timer = opening.kind == WaitKind::Timer;
  return record(WaitClosed{.path = opening.path,
                           .end = is_timer ? WaitEnd::Answered : WaitEnd::TimedOut,
                           .by = "",
                           .payload = {}});
}

Status RunTurn::ask_about_unknown() {
  if (driver_ == nullptr || state_.closing) return {};
  std::set<std::string> const asked = std::exchange(memory_.unknown, {});
  for (std::string const& name : asked) {
    EffectState const& effect = state_.effects.find(name)->second;
    bool const is_unknown = !effect.open && effect.settled.outcome == EffectOutcome::Unknown;
    bool const is_asked = question_about(state_, name) != nullptr;
    if (is_unknown && !is_asked && !state_.cancel_requested) TRY(ask_about(effect));
  }
  return {};
}

Status RunTurn::ask_about(EffectState const& effect) {
  EffectIntended const& intent = effect.intent;
  tools::Tool* tool = world_.tools.find(intent.tool);
  bool const can = tool != nullptr && tool->can_look_up(intent.args);
  bool const looked = memory_.looked_up.contains(turn_name(intent.effect, intent.turn));
  EffectMove const move =
      next_move(intent.policy, TurnKnown::Unknown, AskedBy::Driver, can, looked);
  if (move == EffectMove::LookUp) {
    TRY(fault::pass(fault::Point::JobsLookup));
    PlannedCall call{.effect = intent.effect,
                     .turn = intent.turn,
                     .token = intent.token,
                     .tool = intent.tool,
                     .call = {},
                     .looks_up = true};
    call.call.args = intent.args;
    call.call.key = intent.key;
    call.call.timeout = world_.call_timeout;
    calls.push_back(std::move(call));
  }
  if (move != EffectMove::AskPerson || !state_.open_steps.contains(intent.path)) return {};
  TRY(fault::pass(fault::Point::JobsPark));
  int number = 1;
  while (state_.waits.contains(fmt::format("{}/outcome.{}", intent.path, number))) ++number;
  return record(
      WaitOpened{.path = fmt::format("{}/outcome.{}", intent.path, number),
                 .kind = WaitKind::Human,
                 .name = fmt::format("did {} happen? {}", intent.tool, effect.settled.error),
                 .effect = intent.effect,
                 .deadline = {},
                 .schema = {}});
}

Status RunTurn::run_driver() {
  if (!is_leased || !memory_.may_begin) return {};
  // It cannot be asked; what it did is not taken back, and the run ends as it is.
  if (!state_.stuck.empty() && state_.cancel_requested) return end_cancelled();
  if (driver_ == nullptr) return {};
  while (!state_.closing && !(state_.paused && !state_.cancel_requested) && state_.stuck.empty()) {
    has_more = batch.events.size() > kTurnEventsMax || batch.blobs.size() > kTurnBlobsMax;
    if (has_more) return {};
    TRY(fault::pass(fault::Point::JobsDecide));
    std::vector<Decision> decisions = driver_->decide(state_);
    if (decisions.empty()) return end_cancelled();
    std::uint64_t const before = state_.sequence;
    for (Decision& decision : decisions) {
      if (state_.closing || !state_.stuck.empty()) break;
      Status done = std::visit([this](auto& each) { return perform(std::move(each)); }, decision);
      if (done) continue;
      if (done.error().code() == ErrorCode::SystemCall) return done;
      TRY(perform(Diverged{done.error().message()}));
    }
    TRY(check_waits());
    TRY(ask_about_unknown());
    if (state_.sequence == before) {
      return perform(Diverged{"the driver decided what has no effect, which would never end"});
    }
  }
  return {};
}

/// The driver of a cancelled run has nothing more to do, and nothing is under way: what is open is
/// closed as it is.
Status RunTurn::end_cancelled() {
  if (!state_.cancel_requested || state_.closing || !state_.open_effects.empty() || !calls.empty())
    return {};
  // Of the next attempt to take something back; a wait for anything else is given up.
  bool const waits_for_time = std::ranges::any_of(state_.open_waits, [this](auto const& path) {
    return state_.waits.find(path)->second.opening.kind == WaitKind::Timer;
  });
  if (waits_for_time && state_.stuck.empty()) return {};
  return perform(
      EndRun{.outcome = RunOutcome::Cancelled,
             .output = {},
             .error = state_.cancel_reason.empty() ? "cancelled" : state_.cancel_reason});
}

}  // namespace aether::jobs
