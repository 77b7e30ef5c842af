// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_actor.h"

#include <algorithm>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "base/log.h"
#include "jobs/engine_core.h"

namespace aether::jobs {
namespace {

/// Rows of a run that was running and still is differ in nothing but its next time.
RunRows next_rows(RunState const& state, RunRows const& before, RunStatus was) {
  bool const runs_on = was == RunStatus::Running && state.status() == was;
  if (!runs_on || !before.ready || state.cancel_requested) return rows_of(state);
  return {.line = before.line,
          .ready = before.ready,
          .ready_key = before.ready_key,
          .due = due_time(state)};
}

/// After so many refusals of what a run decided it is left alone for a moment.
constexpr int kRefusalsInARow = 8;

}  // namespace

RunActor::RunActor(EngineCore& core, RunState state)
    : core_(core), state_(std::move(state)), durable_(state_.sequence), rows_(rows_of(state_)) {
  memory_.may_begin = !core.stopping;
}

void RunActor::deliver(Input input) {
  inputs_.push_back(std::move(input));
  turn();
}

void RunActor::begin(WallTime lease_until) {
  leased_ = true;
  lease_recorded_ = false;
  lease_until_ = lease_until;
  // The batch on its way is one of facts; what follows it is decided under the lease.
  has_more_ = has_more_ || appending_;
  turn();
}

void RunActor::renew(WallTime lease_until) {
  lease_until_ = lease_until;
}

void RunActor::cancel_calls() {
  memory_.may_begin = memory_.may_begin && !core_.stopping;
  (void)fault::pass(fault::Point::JobsCancel);  // Nothing here can fail.
  if (group_) group_->cancel();
}

bool RunActor::is_idle() const {
  return !appending_ && !turning_ && calls_running_ == 0 && inputs_.empty() && !has_more_ &&
         !waits_to_retry_ && !work_;
}

void RunActor::turn() {
  if (appending_ || turning_) return;
  asks_more_ = false;
  if (is_astray_ && !reload()) return;
  turning_ = true;
  waits_to_retry_ = false;
  takes_lease_ = false;
  memory_.may_begin = !core_.stopping;
  RunStatus const was = state_.status();
  RunTurn turn(state_, memory_, leased_ ? driver_.get() : nullptr, core_.world());
  turn.is_leased = leased_;
  Status filled;
  if (leased_ && driver_ == nullptr) {
    Result<std::unique_ptr<Driver>> made = core_.make_driver(state_);
    if (made) driver_ = std::move(*made);
    turn.set_driver(driver_.get());
    if (!made && !state_.closing && state_.stuck.empty())
      filled = turn.mark_stuck(made.error().message());
  }
  if (filled) filled = fill(turn);
  turning_ = false;
  if (!filled) return failed(filled.error());
  rows_next_ = next_rows(state_, rows_, was);
  append(std::move(turn));
}

Status RunActor::fill(RunTurn& turn) {
  if (leased_ && !lease_recorded_ && !state_.closing) TRY(take_lease(turn));
  TRY(apply_inputs(turn));
  if (state_.closing) return {};
  return turn.proceed();
}

Status RunActor::take_lease(RunTurn& turn) {
  TRY(fault::pass(fault::Point::JobsLease));
  takes_lease_ = true;
  ++state_.fence;
  TRY(turn.record(RunControlled{.control = Control::Lease,
                                .holder = core_.holder,
                                .until = lease_until_,
                                .reason = work_ ? "worker " + work_->worker : std::string(),
                                .step = {}}));
  turn.batch.checks.push_back({.stream = state_.id.text,
                               .expected = journal::Sequence{durable_},
                               .held = {},
                               .raised = journal::Fence{state_.fence}});
  TRY(turn.recover());
  // Also what was settled as unknown in an earlier life, and nobody was asked about.
  for (auto const& [name, effect] : state_.effects) {
    bool const unknown = !effect.open && effect.settled.outcome == EffectOutcome::Unknown;
    if (unknown && state_.open_steps.contains(effect.intent.path)) memory_.unknown.insert(name);
  }
  return {};
}

Status RunActor::apply_inputs(RunTurn& turn) {
  while (!inputs_.empty()) {
    Input input = std::move(inputs_.front());
    inputs_.pop_front();
    bool const keeps = std::holds_alternative<CallEnded>(input.fact);
    Fact fact = keeps ? Fact(std::get<CallEnded>(input.fact)) : std::move(input.fact);
    Status done = turn.apply(input.actor, std::move(fact));
    if (done || keeps) taken_.push_back(std::move(input));
    if (done) continue;
    if (!keeps && input.reply) input.reply(fail(done.error()));
    bool const is_fault = keeps || done.error().code() == ErrorCode::SystemCall;
    if (is_fault) return done;
  }
  return {};
}

void RunActor::append(RunTurn turn) {
  calls_next_ = std::move(turn.calls);
  children_next_ = std::move(turn.children);
  cancelled_next_ = std::move(turn.cancelled_children);
  cancels_next_ = turn.cancels_calls;
  has_more_ = turn.has_more;
  journal::Batch batch = std::move(turn.batch);
  add_changes(state_.id, &rows_, rows_next_, batch.records);
  if (Status const passed = fault::pass(fault::Point::JobsRows); !passed)
    return failed(passed.error());
  appending_ = true;
  if (batch.events.empty() && batch.records.empty())
    return appended(journal::AppendOutcome(journal::Appended{}));
  if (Status const passed = fault::pass(fault::Point::JobsAppend); !passed) {
    appending_ = false;
    return failed(passed.error());
  }
  if (batch.checks.empty()) {
    journal::StreamCheck check{.stream = state_.id.text, .expected = journal::Sequence{durable_}};
    if (leased_ && lease_recorded_) check.held = journal::Fence{state_.fence};
    batch.checks.push_back(std::move(check));
  }
  if (core_.is_shared() && (!leased_ || rows_.line != rows_next_.line))
    batch.told.push_back(state_.id.text);
  for (ReadyRun const& child : children_next_) {
    if (core_.is_shared()) batch.told.push_back(child.run.text);
  }
  ++core_.appends_in_flight;
  // The actor stays until it was answered: it is not idle.
  core_.journal.append(std::move(batch), [this, mail = core_.mail](auto outcome) {
    mail->post([this, outcome = std::move(outcome)]() mutable {
      --core_.appends_in_flight;
      appended(std::move(outcome));
    });
  });
}

void RunActor::appended(Result<journal::AppendOutcome> outcome) {
  appending_ = false;
  if (!outcome) return failed(outcome.error());
  if (!*outcome) return refused(outcome->error());
  failures_ = 0;
  refusals_ = 0;
  bool const is_cut = !fault::pass(fault::Point::JobsDurable);
  bool const has_new = durable_ != state_.sequence;
  durable_ = state_.sequence;
  if (std::exchange(takes_lease_, false)) {
    lease_recorded_ = true;
    core_.lease_taken(state_.id, state_.fence);
  }
  if (rows_.due != rows_next_.due) core_.appoint(state_.id, rows_next_.due);
  rows_ = rows_next_;
  std::vector<Input> told = std::exchange(taken_, {});
  answer_all(told);
  if (has_new)
    core_.tell(state_.id, {.sequence = durable_, .has_ended = state_.closing.has_value()});
  tell_relatives(has_new);
  if (std::exchange(cancels_next_, false)) cancel_calls();
  begin_calls(is_cut);
  if (work_) answer_worker();
  is_astray_ = is_astray_ || std::exchange(is_behind_, false);
  if (!inputs_.empty() || has_more_ || asks_more_ || is_astray_) return turn();
  settle_down();
}

/// Runs below this one begin, or are cancelled; the one above hears of the end.
void RunActor::tell_relatives(bool has_new) {
  std::vector<ReadyRun> children = std::exchange(children_next_, {});
  for (ReadyRun& child : children) core_.offer(std::move(child));
  for (RunId const& child : std::exchange(cancelled_next_, {})) {
    core_.deliver(child, cancel_from(state_.id));
  }
  std::optional<Parent> const& parent = state_.opening.parent;
  if (has_new && state_.closing && parent)
    core_.deliver(parent->run, {.actor = {}, .fact = Woken{.child = state_.id}});
  if (!children.empty()) core_.schedule();
}

void RunActor::answer_all(std::vector<Input>& inputs) {
  for (Input& input : inputs) {
    if (!input.reply) continue;
    if (Status const passed = fault::pass(fault::Point::JobsReply); !passed)
      input.reply(fail(passed.error()));
    else
      input.reply(state_.status());
  }
}

void RunActor::refused(journal::Refusal const& refusal) {
  using enum journal::Refusal::Why;
  is_behind_ = false;
  bool const is_stale = refusal.why == FenceStale || refusal.why == FenceNotHigher;
  if (is_stale)
    log::warn("run {}: another worker has it now (fence {})", state_.id.text, refusal.current);
  // Who was late to take it may be late because its claim is another's by now.
  if (is_stale || (core_.is_shared() && takes_lease_)) {
    drop_lease();
    if (work_) end_work(give_back(GiveBack::Lost, "another one has it"));
  }
  std::vector<Input> taken = std::exchange(taken_, {});
  for (auto input = taken.rbegin(); input != taken.rend(); ++input)
    inputs_.push_front(std::move(*input));
  if (!reload()) return;
  if (++refusals_ < kRefusalsInARow) return turn();
  log::error("run {}: refused {} times in a row: {}", state_.id.text, refusals_,
             journal::describe(refusal));
  retry_later();
}

void RunActor::drop_lease() {
  if (leased_) core_.release(*this);
  leased_ = false;
  lease_recorded_ = false;
}

void RunActor::look_again() {
  if (appending_ || turning_) {
    is_behind_ = true;
    return;
  }
  is_astray_ = true;
  turn();
}

void RunActor::retry_later() {
  if (core_.stopping) return give_up();
  waits_to_retry_ = true;
  core_.retry_later(state_.id);
}

/// The engine stops: what could not be recorded is what the next process finds undone.
void RunActor::give_up() {
  waits_to_retry_ = false;
  has_more_ = false;
  for (Input& input : std::exchange(inputs_, {})) {
    if (input.reply)
      input.reply(fail(ErrorCode::LimitReached, "Aether stopped before it was recorded"));
  }
  settle_down();
}

bool RunActor::reload() {
  Status const passed = fault::pass(fault::Point::JobsReload);
  Result<RunState> loaded = load_run(core_.journal, state_.id);
  if (!loaded || !passed) {
    log::error("run {} cannot be read again: {}", state_.id.text,
               (loaded ? passed.error() : loaded.error()).describe());
    // What was decided is not what is recorded.
    is_astray_ = true;
    retry_later();
    return false;
  }
  is_astray_ = false;
  state_ = std::move(*loaded);
  durable_ = state_.sequence;
  rows_ = rows_of(state_);
  bool const is_anothers = lease_recorded_ && state_.lease_holder != core_.holder;
  if (is_anothers && core_.is_shared()) {
    drop_lease();
    if (work_) end_work(give_back(GiveBack::Lost, "another one has it"));
  }
  lease_recorded_ = lease_recorded_ && !is_anothers;
  // Planned in the batch that was not appended.
  for (PlannedCall const& call : calls_next_) {
    if (!call.looks_up) memory_.in_flight.erase(call.effect);
  }
  std::erase_if(memory_.in_flight, [this](auto const& each) {
    auto const found = state_.effects.find(each.first);
    return found == state_.effects.end() || found->second.intent.turn != each.second;
  });
  std::erase_if(memory_.with_worker,
                [this](auto const& name) { return !memory_.in_flight.contains(name); });
  memory_.unknown.clear();
  for (auto const& [name, effect] : state_.effects) {
    if (!effect.open && effect.settled.outcome == EffectOutcome::Unknown)
      memory_.unknown.insert(name);
  }
  calls_next_.clear();
  children_next_.clear();
  cancelled_next_.clear();
  cancels_next_ = false;
  has_more_ = false;
  // Asked by another engine, which has none of the calls.
  if (core_.is_shared() && state_.cancel_requested && calls_running_ > 0) cancel_calls();
  return true;
}

void RunActor::failed(Error const& error) {
  if (failures_++ == 0) log::warn("run {}: {}; tried again", state_.id.text, error.describe());
  std::vector<Input> const none;
  for (Input& input : std::exchange(taken_, {})) {
    if (input.reply)
      input.reply(fail(error));
    else
      inputs_.push_back(std::move(input));
  }
  if (!reload()) return;
  retry_later();
}

void RunActor::settle_down() {
  if (is_retired_ || !is_idle()) return;
  if (!leased_ && !core_.stopping && may_begin(state_, core_.clock.wall()) && !is_with_another()) {
    core_.offer(ready_of(state_));
    core_.schedule();
    if (is_retired_ || !is_idle()) return;
  }
  appoint();
  is_retired_ = true;
  core_.retire(*this);
}

void RunActor::appoint() {
  WallTime const now = core_.clock.wall();
  std::optional<WallTime> at = rows_.due;
  if (is_with_another()) at = std::min(at.value_or(*state_.lease_until), *state_.lease_until);
  // A time that has passed was told already.
  if (at && *at > now) core_.appoint(state_.id, at);
}

/// Its lease was taken after this engine began, by somebody else, and has not ended.
bool RunActor::is_with_another() const {
  if (core_.is_shared()) return false;  // The claims know.
  bool const is_other = !state_.lease_holder.empty() && state_.lease_holder != core_.holder;
  if (!is_other || !state_.lease_until) return false;
  bool const is_later = *state_.lease_until - core_.limits.lease > core_.began;
  return is_later && *state_.lease_until > core_.clock.wall();
}

}  // namespace aether::jobs
