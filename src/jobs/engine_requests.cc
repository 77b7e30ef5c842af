// SPDX-License-Identifier: Apache-2.0
// EngineCore: what is asked of it, and what it finds when it begins.
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"
#include "jobs/engine_core.h"

namespace aether::jobs {
namespace {

/// Rows of an index that are read at once.
constexpr std::size_t kRowsPage = 5000;

bool is_same_request(RunOpened const& now, RunOpened const& then) {
  bool const by_hash = !now.request_hash.empty() && !then.request_hash.empty();
  if (by_hash) return now.request_hash == then.request_hash;
  // As canonical texts: 1 and 1.0 are one number there, and two values here.
  auto const values = [](RunSpec const& spec) {
    return canonical_json(boost::json::array{spec.graph, spec.agent, spec.input});
  };
  if (values(now.spec) != values(then.spec)) return false;
  RunSpec rest = now.spec;
  rest.graph = then.spec.graph;
  rest.agent = then.spec.agent;
  rest.input = then.spec.input;
  return rest == then.spec;
}

}  // namespace

Failure is_stopping() {
  return fail(ErrorCode::LimitReached, "Aether is stopping: no new work is taken; try again later");
}

void EngineCore::submit(Asker asker, RunOpened opening, Reply<Submitted> reply) {
  if (stopping) return reply(is_stopping());
  Result<std::unique_ptr<Driver>> const driver = factory_(opening);
  if (!driver) return reply(fail(driver.error()));
  if (Status const passed = fault::pass(fault::Point::JobsSubmit); !passed)
    return reply(fail(passed.error()));
  RunEvent const event =
      as_recorded({.at = clock.wall(), .actor = std::move(asker.name), .body = opening});
  RunState born;
  born.id = make_run();
  journal::Batch batch;
  Status good =
      append_event(batch, {.stream = born.id.text, .space = opening.spec.space}, event, salts);
  if (good) good = fold(born, event);
  if (!good) return reply(fail(good.error()));
  RunRows rows = rows_of(born);
  add_changes(born.id, nullptr, rows, batch.records);
  batch.checks.push_back({.stream = born.id.text, .expected = journal::Sequence{0}});
  if (is_shared()) batch.told.push_back(born.id.text);
  Submitted done{.run = born.id, .status = born.status()};
  ReadyRun ready = ready_of(born);
  ++appends_in_flight;
  auto answer = [this, done = std::move(done), ready = std::move(ready), rows = std::move(rows),
                 opening = std::move(opening),
                 reply = std::move(reply)](Result<journal::AppendOutcome> outcome) mutable {
    --appends_in_flight;
    if (!outcome) return reply(fail(outcome.error()));
    if (*outcome) return submitted(std::move(done), std::move(ready), rows, std::move(reply));
    if (outcome->error().why == journal::Refusal::Why::KeyTaken)
      return submitted_before(opening, std::move(reply));
    reply(fail(ErrorCode::Internal,
               fmt::format("a new run was refused: {}", journal::describe(outcome->error()))));
  };
  journal.append(std::move(batch), [mail = mail, answer = std::move(answer)](auto outcome) mutable {
    mail->post([answer = std::move(answer), outcome = std::move(outcome)]() mutable {
      answer(std::move(outcome));
    });
  });
}

void EngineCore::submitted(Submitted done, ReadyRun ready, RunRows const& rows,
                           Reply<Submitted> reply) {
  RunId const run = done.run;
  if (Status const passed = fault::pass(fault::Point::JobsAdmitted); !passed)
    reply(fail(passed.error()));
  else
    reply(std::move(done));
  tell(run, {.sequence = 1});
  if (rows.due) appoint(run, rows.due);
  if (rows.ready) offer(std::move(ready));
  schedule();
}

void EngineCore::submitted_before(RunOpened const& opening, Reply<Submitted> reply) {
  std::string const key = idempotency_journal_key(opening.spec.space, opening.idempotency_key);
  Result<std::optional<journal::Position>> const position = journal.key_holder(key);
  if (!position) return reply(fail(position.error()));
  Result<std::vector<journal::Event>> const event =
      *position ? journal.read(**position, 1) : std::vector<journal::Event>();
  if (!event) return reply(fail(event.error()));
  if (event->empty()) return reply(fail(ErrorCode::Internal, "a key is taken by nobody"));
  Result<RunState> const state = load_run(journal, RunId{event->front().stream});
  if (!state) return reply(fail(state.error()));
  RunEvent const now = as_recorded({.at = clock.wall(), .actor = {}, .body = opening});
  if (!is_same_request(std::get<RunOpened>(now.body), state->opening)) {
    return reply(fail(ErrorCode::Conflict,
                      fmt::format("the Idempotency-Key {} belongs to run {}, which was asked for "
                                  "with another body: use another key",
                                  opening.idempotency_key, state->id.text)));
  }
  reply(Submitted{.run = state->id, .status = state->status(), .existed = true});
}

void EngineCore::note(std::string actor, AuditNoted note) {
  RunEvent const event =
      as_recorded({.at = clock.wall(), .actor = std::move(actor), .body = std::move(note)});
  journal::Batch batch;
  Status good = fault::pass(fault::Point::JobsNote);
  if (good) good = append_event(batch, {.stream = kAuditStream, .space = {}}, event, salts);
  if (!good) return log::error("an audit entry was not recorded: {}", good.error().describe());
  ++appends_in_flight;
  journal.append(std::move(batch), [this, mail = mail](Result<journal::AppendOutcome> outcome) {
    mail->post([this, outcome = std::move(outcome)] {
      --appends_in_flight;
      if (!outcome) log::error("an audit entry was not recorded: {}", outcome.error().describe());
    });
  });
}

Status EngineCore::start() {
  if (is_shared()) return begin_sharing();
  TRY(read_ready());
  due_after_ = "";
  TRY(read_due());
  TRY(read_wakes());
  schedule();
  return {};
}

Status EngineCore::read_ready() {
  TRY(fault::pass(fault::Point::JobsStartReady));
  std::string from;
  while (true) {
    TRY_ASSIGN(std::vector<journal::Record> const rows,
               journal.records(kReadyView, from, {}, kRowsPage));
    for (journal::Record const& row : rows) {
      TRY_ASSIGN(ReadyRun ready, parse_ready(row));
      scheduler_.offer(std::move(ready));
    }
    if (rows.size() < kRowsPage) return {};
    from = rows.back().key + '\0';
  }
}

Status EngineCore::read_due() {
  TRY(fault::pass(fault::Point::JobsStartDue));
  std::string from = *due_after_;
  if (!from.empty()) from += '\0';
  while (scheduler_.timers() < kDueWindow) {
    TRY_ASSIGN(std::vector<journal::Record> const rows,
               journal.records(kDueView, from, {}, kRowsPage));
    for (journal::Record const& row : rows) {
      TRY_ASSIGN(DueRow const due, parse_due(row.key));
      scheduler_.wake_at(due.run, due.at);
    }
    if (rows.size() < kRowsPage) {
      due_after_.reset();
      return {};
    }
    due_after_ = rows.back().key;
    from = rows.back().key + '\0';
  }
  return {};
}

void EngineCore::deliver_wake(journal::Record const& row) {
  std::size_t const end = row.key.find('/');
  RunId other{row.key.substr(end + 1)};
  deliver(RunId{row.key.substr(0, end)},
          row.value == kWakeToCancel
              ? cancel_from(std::move(other))
              : Input{.actor = {}, .fact = Woken{.child = std::move(other)}});
}

Status EngineCore::read_wakes() {
  TRY(fault::pass(fault::Point::JobsStartWake));
  std::string from;
  while (true) {
    TRY_ASSIGN(std::vector<journal::Record> const rows,
               journal.records(kWakeView, from, {}, kRowsPage));
    for (journal::Record const& row : rows) deliver_wake(row);
    if (rows.size() < kRowsPage) return {};
    from = rows.back().key + '\0';
  }
}

Result<std::optional<KeyHolder>> EngineCore::key_holder(std::string const& key) {
  TRY_ASSIGN(std::optional<journal::Position> const position, journal.key_holder(key));
  if (!position) return std::nullopt;
  TRY_ASSIGN(std::vector<journal::Event> const events, journal.read(*position, 1));
  if (events.empty()) return std::nullopt;
  TRY_ASSIGN(RunEvent const event, decode_event(events.front(), blobs_of(journal)));
  auto const* intent = std::get_if<EffectIntended>(&event.body);
  if (intent == nullptr) return std::nullopt;
  KeyHolder holder{.run = RunId{events.front().stream}, .settled = {}};
  TRY_ASSIGN(RunState const state, load_run(journal, holder.run));
  auto const effect = state.effects.find(intent->effect);
  if (effect != state.effects.end() && !effect->second.open)
    holder.settled = effect->second.settled;
  return holder;
}

Result<std::optional<ChildEnd>> EngineCore::child_end(RunId const& run) {
  TRY_ASSIGN(std::optional<std::string> const line, journal.record(kRunView, list_key(run)));
  if (!line) return std::nullopt;
  TRY_ASSIGN(RunSummary const summary, parse_line({.key = list_key(run), .value = *line}));
  bool const is_over = summary.status == RunStatus::Completed ||
                       summary.status == RunStatus::Failed ||
                       summary.status == RunStatus::Cancelled;
  if (!is_over) return std::nullopt;
  TRY_ASSIGN(RunState state, load_run(journal, run));
  return ChildEnd{.outcome = state.closing->outcome,
                  .output = std::move(state.closing->output),
                  .error = std::move(state.closing->error)};
}

}  // namespace aether::jobs
