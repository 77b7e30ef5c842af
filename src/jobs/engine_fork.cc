// SPDX-License-Identifier: Apache-2.0
// EngineCore: a run that shares the history of another one up to a step.
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "jobs/engine_core.h"
#include "jobs/fork.h"
#include "journal/limits.h"

namespace aether::jobs {
namespace {

Result<std::vector<RunEvent>> history_of(journal::Journal& journal, RunId const& run) {
  std::vector<RunEvent> history;
  while (true) {
    TRY_ASSIGN(std::vector<journal::Event> const page,
               journal.read_stream(run.text, journal::Sequence{history.size() + 1},
                                   journal::kReadEventsMax));
    if (page.empty()) break;
    TRY_ASSIGN(std::vector<RunEvent> events, decode_events(page, blobs_of(journal)));
    for (RunEvent& event : events) history.push_back(std::move(event));
  }
  if (!history.empty()) return history;
  return fail(ErrorCode::NotFound, fmt::format("there is no run {}", run.text));
}

/// What the new run is made from. The hours of the old one have passed: they are not taken along.
RunOpened opening_of(RunId const& source, RunOpened const& before, std::optional<RunSpec> changed) {
  RunOpened opening{.spec = changed ? std::move(*changed) : before.spec,
                    .code_version = {},
                    .idempotency_key = {},
                    .request_hash = {},
                    .parent = {},
                    .forked_from = source,
                    .schedule = {}};
  if (!changed) {
    opening.spec.not_before.reset();
    opening.spec.deadline.reset();
  }
  // Who may see the old one may see the new one, and nobody else.
  opening.spec.space = before.spec.space;
  opening.code_version = code_version_of(opening.spec);
  return opening;
}

Status check_size(journal::Batch const& batch, RunId const& source) {
  if (batch.events.size() <= journal::kBatchEventsMax &&
      batch.blobs.size() <= journal::kBatchBlobsMax)
    return {};
  return fail(ErrorCode::LimitReached,
              fmt::format("a fork of run {} would copy {} events with {} large values at once, and "
                          "at most {} with {} can be: fork from an earlier step",
                          source.text, batch.events.size(), batch.blobs.size(),
                          journal::kBatchEventsMax, journal::kBatchBlobsMax));
}

}  // namespace

Result<RunState> EngineCore::prepare_fork(std::string const& actor, RunId const& run,
                                          std::string const& step, std::optional<RunSpec> changed,
                                          journal::Batch& batch) {
  TRY(fault::pass(fault::Point::JobsFork));
  TRY_ASSIGN(std::vector<RunEvent> const history, history_of(journal, run));
  auto const* before = std::get_if<RunOpened>(&history.front().body);
  if (before == nullptr) return fail(ErrorCode::NotFound, run.text + " is not a run");
  RunState born;
  born.id = make_run();
  RunOpened opening = opening_of(run, *before, std::move(changed));
  TRY_ASSIGN(std::vector<RunEvent> copies, fork_prefix(run, history, step, born.id));
  TRY_ASSIGN(std::unique_ptr<Driver> const driver, factory_(opening));
  std::string const space = opening.spec.space;
  copies.insert(copies.begin(), {.at = clock.wall(), .actor = actor, .body = std::move(opening)});
  for (RunEvent& copy : copies) {
    RunEvent const event = as_recorded(std::move(copy));
    TRY(append_event(batch, {.stream = born.id.text, .space = space, .takes_keys = false}, event,
                     salts));
    TRY(fold(born, event));
  }
  RunControlled note;
  note.control = Control::Fork;
  note.reason = born.id.text;
  note.step = step;
  TRY(append_event(batch, {.stream = run.text, .space = space},
                   as_recorded({.at = clock.wall(), .actor = actor, .body = std::move(note)}),
                   salts));
  TRY(check_size(batch, run));
  batch.checks.push_back({.stream = born.id.text, .expected = journal::Sequence{0}});
  return born;
}

void EngineCore::fork(Asker asker, RunId run, std::string step, std::optional<RunSpec> changed,
                      Reply<RunId> reply) {
  if (stopping) return reply(is_stopping());
  journal::Batch batch;
  Result<RunState> made = prepare_fork(asker.name, run, step, std::move(changed), batch);
  if (!made) return reply(fail(made.error()));
  RunRows const rows = rows_of(*made);
  add_changes(made->id, nullptr, rows, batch.records);
  if (is_shared()) batch.told.push_back(made->id.text);
  auto done = [this, born = std::move(*made), rows,
               reply = std::move(reply)](Result<journal::AppendOutcome> outcome) mutable {
    --appends_in_flight;
    if (!outcome) return reply(fail(outcome.error()));
    if (!*outcome) {
      return reply(
          fail(ErrorCode::Internal, "a fork was refused: " + journal::describe(outcome->error())));
    }
    reply(born.id);
    tell(born.id, {.sequence = born.sequence});
    if (rows.due) appoint(born.id, rows.due);
    if (rows.ready) offer(ready_of(born));
    schedule();
  };
  ++appends_in_flight;
  // The old run's actor, if there is one, finds its stream moved by the note and reads it again.
  journal.append(std::move(batch), [mail = mail, done = std::move(done)](auto outcome) mutable {
    mail->post([done = std::move(done), outcome = std::move(outcome)]() mutable {
      done(std::move(outcome));
    });
  });
}

}  // namespace aether::jobs
