// SPDX-License-Identifier: Apache-2.0
// The rows that a run has in the indexes of the journal: a pure function of its state, so that they
// can be dropped and made again. What of them changed goes into the batch that changed the state.
//
//   view  key                    value
//   run   mirrored id            the line of a list; mirrored, so that the newest comes first
//   ready id                     what the scheduler needs; there while the run has work to do
//         "~" agent "/" id       the same of a run that only workers of the agent may begin
//   due   milliseconds "/" id    nothing; there while something of the run happens by time
//   wake  run "/" other          nothing: the other, its child, has ended, and it was not told yet;
//                                "cancel": the other, above it, waits for it no more
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jobs/engine.h"
#include "jobs/run_state.h"
#include "jobs/scheduler.h"

namespace aether::jobs {

inline constexpr std::string_view kRunView = "run";
inline constexpr std::string_view kReadyView = "ready";
inline constexpr std::string_view kDueView = "due";
inline constexpr std::string_view kWakeView = "wake";
inline constexpr std::string_view kWakeToCancel = "cancel";

struct RunRows {
  std::string line;                  ///< Of view run.
  std::optional<std::string> ready;  ///< Of view ready.
  std::string ready_key;             ///< The row's key, if there is one.
  std::optional<WallTime> due;       ///< Of view due.
  bool operator==(RunRows const&) const = default;
};
[[nodiscard]] RunRows rows_of(RunState const& state);
/// Adds what makes `before` (nothing: there were none) to `after`.
void add_changes(RunId const& run, RunRows const* before, RunRows const& after,
                 std::vector<journal::RecordChange>& changes);

/// Whether a worker could begin with it now: it has work, and its time has come. A run that was
/// held back gets its row in ready with its first lease; until then its row in due brings it here.
[[nodiscard]] bool may_begin(RunState const& state, WallTime now);

/// The next time at which something happens to the run by itself.
[[nodiscard]] std::optional<WallTime> due_time(RunState const& state);
/// By when the run must end: its deadline, or the time of its budget.
[[nodiscard]] std::optional<WallTime> end_time(RunState const& state);

[[nodiscard]] std::string list_key(RunId const& run);
[[nodiscard]] Result<RunSummary> parse_line(journal::Record const& row);
[[nodiscard]] RunSummary summary_of(RunState const& state);

/// Rows of view ready from `from` to before `to`.
struct ReadyRange {
  std::string from, to;
};
/// Of an agent's workers; empty: of the engines themselves.
[[nodiscard]] ReadyRange ready_range(std::string_view worker);

[[nodiscard]] ReadyRun ready_of(RunState const& state);
[[nodiscard]] Result<ReadyRun> parse_ready(journal::Record const& row);

[[nodiscard]] std::string due_key(WallTime at, RunId const& run);
[[nodiscard]] std::string wake_key(RunId const& told, RunId const& other);
struct DueRow {
  WallTime at;
  RunId run;
};
[[nodiscard]] Result<DueRow> parse_due(std::string_view key);

}  // namespace aether::jobs
