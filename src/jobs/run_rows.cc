// SPDX-License-Identifier: Apache-2.0
#include "jobs/run_rows.h"

#include <algorithm>
#include <charconv>
#include <chrono>

#include <boost/json/object.hpp>
#include <boost/json/value_to.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "jobs/agent.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

/// Digits of the milliseconds in a key: enough until the year 2286.
constexpr int kDueDigits = 13;

std::int64_t milliseconds_of(WallTime at) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count();
}
WallTime time_of(std::int64_t milliseconds) {
  return WallTime(std::chrono::milliseconds(milliseconds));
}

Failure damaged_row(std::string_view view, std::string_view key) {
  return fail(ErrorCode::StoreDamaged,
              fmt::format("the row {} of the index {} is not one of Aether's: run `aether fsck`",
                          key, view));
}

std::string text_at(json::object const& row, std::string_view name) {
  json::value const* found = row.if_contains(name);
  return found != nullptr && found->is_string() ? json::value_to<std::string>(*found) : "";
}
std::int64_t number_at(json::object const& row, std::string_view name) {
  json::value const* found = row.if_contains(name);
  return found != nullptr && found->is_int64() ? found->as_int64() : 0;
}

/// A run has work when somebody should decide for it: it is neither over, nor held, nor parked.
bool has_work(RunState const& state) {
  if (state.closing) return false;
  if (state.cancel_requested) return true;
  RunStatus const status = state.status();
  return status == RunStatus::Pending || status == RunStatus::Running;
}
bool is_held_back(RunState const& state) {
  return state.opening.spec.not_before && state.lease_holder.empty() && !state.cancel_requested;
}

std::string wait_text(WaitOpened const& wait) {
  switch (wait.kind) {
    case WaitKind::Timer:
      return fmt::format("waits at {} for a time", wait.path);
    case WaitKind::Signal:
      return fmt::format("waits at {} for the signal {}", wait.path, wait.name);
    case WaitKind::Human:
      return fmt::format("waits at {} for a person: {}", wait.path, wait.name);
    case WaitKind::Child:
      return fmt::format("waits at {} for the job {}", wait.path, wait.name);
  }
  return {};
}

std::string detail_of(RunState const& state) {
  if (state.closing) return state.closing->error;
  if (!state.stuck.empty()) return state.stuck;
  // Rows of a run that runs are not looked at in each of its turns.
  if (state.open_waits.empty() || state.status() == RunStatus::Running) return {};
  WaitState const& wait = state.waits.find(*state.open_waits.begin())->second;
  std::string const more =
      state.open_waits.size() > 1 ? fmt::format(" and {} more", state.open_waits.size() - 1) : "";
  return wait_text(wait.opening) + more;
}

/// A cancelled run is ended by the engine: its workers may be gone.
std::string worker_of(RunState const& state) {
  return state.cancel_requested ? std::string() : code_agent(state.opening.spec);
}

std::string ready_text(RunState const& state) {
  RunSpec const& spec = state.opening.spec;
  json::object row;
  row["space"] = spec.space;
  row["queue"] = spec.queue;
  row["priority"] = spec.priority;
  row["since"] = milliseconds_of(state.opened);
  if (!spec.concurrency_key.empty()) {
    row["key"] = spec.concurrency_key;
    row["limit"] = spec.concurrency_limit;
  }
  if (std::string const worker = worker_of(state); !worker.empty()) row["worker"] = worker;
  return canonical_json(row);
}

std::string line_text(RunState const& state) {
  RunSummary const line = summary_of(state);
  json::object row;
  row["name"] = line.name;
  row["space"] = line.space;
  row["queue"] = line.queue;
  row["status"] = text_of(line.status);
  row["opened"] = milliseconds_of(line.opened);
  row["updated"] = milliseconds_of(line.updated);
  if (!line.detail.empty()) row["detail"] = line.detail;
  return canonical_json(row);
}

}  // namespace

bool may_begin(RunState const& state, WallTime now) {
  return has_work(state) && (!is_held_back(state) || *state.opening.spec.not_before <= now);
}

std::optional<WallTime> end_time(RunState const& state) {
  RunSpec const& spec = state.opening.spec;
  std::optional<WallTime> end = spec.deadline;
  if (spec.budget.time) {
    WallTime const spent = state.opened + *spec.budget.time;
    end = end ? std::min(*end, spent) : spent;
  }
  return end;
}

std::optional<WallTime> due_time(RunState const& state) {
  if (state.closing) return std::nullopt;
  std::optional<WallTime> due;
  auto const take = [&due](std::optional<WallTime> at) {
    if (at) due = due ? std::min(*due, *at) : *at;
  };
  if (!state.cancel_requested) take(end_time(state));
  if (is_held_back(state)) take(state.opening.spec.not_before);
  for (std::string const& path : state.open_waits) {
    take(state.waits.find(path)->second.opening.deadline);
  }
  return due;
}

RunRows rows_of(RunState const& state) {
  RunRows rows{.line = line_text(state), .ready = {}, .ready_key = {}, .due = due_time(state)};
  if (has_work(state) && !is_held_back(state)) {
    rows.ready = ready_text(state);
    rows.ready_key = ready_range(worker_of(state)).from + state.id.text;
  }
  return rows;
}

void add_changes(RunId const& run, RunRows const* before, RunRows const& after,
                 std::vector<journal::RecordChange>& changes) {
  if (before == nullptr || before->line != after.line) {
    changes.push_back({.view = std::string(kRunView), .key = list_key(run), .value = after.line});
  }
  std::optional<std::string> const was_ready = before == nullptr ? std::nullopt : before->ready;
  std::string const view(kReadyView);
  if (was_ready && (!after.ready || before->ready_key != after.ready_key))
    changes.push_back({.view = view, .key = before->ready_key, .value = std::nullopt});
  if (after.ready && was_ready != after.ready)
    changes.push_back({.view = view, .key = after.ready_key, .value = after.ready});
  std::optional<WallTime> const old_due = before == nullptr ? std::nullopt : before->due;
  if (old_due == after.due) return;
  if (old_due) {
    changes.push_back(
        {.view = std::string(kDueView), .key = due_key(*old_due, run), .value = std::nullopt});
  }
  if (after.due) {
    changes.push_back(
        {.view = std::string(kDueView), .key = due_key(*after.due, run), .value = ""});
  }
}

std::string list_key(RunId const& run) {
  std::string key = run.text;
  for (char& digit : key) {
    if (digit >= '0' && digit <= '9') {
      // 0 becomes f, 5 becomes a, 6 becomes 9, 9 becomes 6.
      int const mirrored = 15 - (digit - '0');
      digit = static_cast<char>(mirrored < 10 ? '0' + mirrored : 'a' + mirrored - 10);
    } else if (digit >= 'a' && digit <= 'f') {
      digit = static_cast<char>('0' + (5 - (digit - 'a')));
    }
  }
  return key;
}

RunSummary summary_of(RunState const& state) {
  RunSpec const& spec = state.opening.spec;
  return {.run = state.id,
          .name = spec.name,
          .space = spec.space,
          .queue = spec.queue,
          .status = state.status(),
          .opened = state.opened,
          .updated = state.status_since,
          .detail = detail_of(state)};
}

Result<RunSummary> parse_line(journal::Record const& row) {
  Result<json::value> const parsed = parse_json(row.value, "row");
  if (!parsed || !parsed->is_object()) return damaged_row(kRunView, row.key);
  json::object const& line = parsed->as_object();
  Result<RunStatus> const status = parse_word<RunStatus>(text_at(line, "status"));
  if (!status) return damaged_row(kRunView, row.key);
  return RunSummary{.run = RunId{list_key(RunId{row.key})},
                    .name = text_at(line, "name"),
                    .space = text_at(line, "space"),
                    .queue = text_at(line, "queue"),
                    .status = *status,
                    .opened = time_of(number_at(line, "opened")),
                    .updated = time_of(number_at(line, "updated")),
                    .detail = text_at(line, "detail")};
}

ReadyRange ready_range(std::string_view worker) {
  // Ids of runs begin with a hexadecimal digit, which is before "~"; "0" is behind "/".
  if (worker.empty()) return {.from = "", .to = "~"};
  return {.from = fmt::format("~{}/", worker), .to = fmt::format("~{}0", worker)};
}

ReadyRun ready_of(RunState const& state) {
  RunSpec const& spec = state.opening.spec;
  return {.run = state.id,
          .space = spec.space,
          .queue = spec.queue,
          .priority = spec.priority,
          .since = state.opened,
          .concurrency_key = spec.concurrency_key,
          .concurrency_limit = spec.concurrency_limit,
          .worker = worker_of(state)};
}

Result<ReadyRun> parse_ready(journal::Record const& row) {
  Result<json::value> const parsed = parse_json(row.value, "row");
  if (!parsed || !parsed->is_object()) return damaged_row(kReadyView, row.key);
  json::object const& ready = parsed->as_object();
  std::int64_t const limit = number_at(ready, "limit");
  return ReadyRun{.run = RunId{row.key.substr(row.key.rfind('/') + 1)},
                  .space = text_at(ready, "space"),
                  .queue = text_at(ready, "queue"),
                  .priority = static_cast<int>(number_at(ready, "priority")),
                  .since = time_of(number_at(ready, "since")),
                  .concurrency_key = text_at(ready, "key"),
                  .concurrency_limit = static_cast<int>(std::max<std::int64_t>(limit, 1)),
                  .worker = text_at(ready, "worker")};
}

std::string due_key(WallTime at, RunId const& run) {
  return fmt::format("{:0{}}/{}", std::max<std::int64_t>(milliseconds_of(at), 0), kDueDigits,
                     run.text);
}

std::string wake_key(RunId const& told, RunId const& other) {
  return told.text + "/" + other.text;
}

Result<DueRow> parse_due(std::string_view key) {
  std::int64_t milliseconds = 0;
  auto const [end, error] = std::from_chars(key.data(), key.data() + key.size(), milliseconds);
  auto const digits = static_cast<std::size_t>(end - key.data());
  if (error != std::errc() || digits >= key.size() || key[digits] != '/')
    return damaged_row(kDueView, key);
  return DueRow{.at = time_of(milliseconds), .run = RunId{std::string(key.substr(digits + 1))}};
}

}  // namespace aether::jobs
