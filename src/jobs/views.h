// SPDX-License-Identifier: Apache-2.0
// Views: the rows by which runs are found, as functions of their states. They change in the batch
// that changes the state, and can be made again from the events (view_check.h).
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jobs/run_state.h"
#include "jobs/scheduler.h"
#include "journal/journal.h"

namespace aether::jobs {

/// All runs, newest first.
inline constexpr std::string_view kRunView = "run";
/// Runs that nobody has and that have something to do, by queue, priority and age.
inline constexpr std::string_view kReadyView = "ready";
/// Runs that have something to do, and a lease: what a crash leaves behind.
inline constexpr std::string_view kHeldView = "held";
/// Runs that wait for a time, by the next one of each.
inline constexpr std::string_view kDueView = "due";

struct Row {
  std::string_view view;
  std::string key;
  std::string value;
  bool operator==(Row const&) const = default;
};
/// At most one row in each view; kRunView always.
[[nodiscard]] std::vector<Row> rows_of(RunState const& state);
/// What a batch has to change so that rows `before` become rows `after`. Nothing if they are equal.
void change_rows(std::vector<Row> const& before, std::vector<Row> const& after,
                 std::vector<journal::RecordChange>& changes);

/// One line of a list: a row of kRunView.
struct RunSummary {
  RunId run;
  std::string name, space, queue;
  RunStatus status = RunStatus::Pending;
  WallTime opened;
  WallTime updated;    ///< When the status last became another.
  std::string detail;  ///< What it waits for, or why it failed; at most kDetailBytesMax.
  bool operator==(RunSummary const&) const = default;
};
inline constexpr std::size_t kDetailBytesMax = 200;
[[nodiscard]] RunSummary summary_of(RunState const& state);

/// The key of a run in kRunView. Later ids have smaller keys.
[[nodiscard]] std::string run_row_key(RunId const& run);

// StoreDamaged if it is not a row as rows_of() gives it.
[[nodiscard]] Result<RunSummary> parse_run_row(journal::Record const& row);
/// Of kReadyView and kHeldView.
[[nodiscard]] Result<ReadyRun> parse_ready_row(journal::Record const& row);
struct DueRun {
  WallTime at;
  RunId run;
  bool operator==(DueRun const&) const = default;
};
[[nodiscard]] Result<DueRun> parse_due_row(journal::Record const& row);
/// Rows of kDueView below this key are due at `now`.
[[nodiscard]] std::string due_row_end(WallTime now);

/// Whether a driver, or the engine, has something to decide: a step without a wait, a signal that
/// an open wait asks for, a cancellation; or nothing is open at all.
[[nodiscard]] bool wants_turn(RunState const& state);
/// The next time at which something is to be done: a wait or the run is over, or it may begin.
[[nodiscard]] std::optional<WallTime> next_due(RunState const& state);

}  // namespace aether::jobs
