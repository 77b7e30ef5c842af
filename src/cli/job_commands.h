// SPDX-License-Identifier: Apache-2.0
// The commands about jobs. As commands.h: each prints its result and returns its exit code.
#pragma once
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/globals.h"

namespace aether::cli {

struct JobsListOptions {
  std::string status;
  std::string space;
  std::string after;
  std::size_t limit = 50;
};
[[nodiscard]] Result<int> jobs_list(Globals const& globals, JobsListOptions const& options);
/// The ids of the newest ones, a line each; for completion scripts.
[[nodiscard]] Result<int> jobs_ids(Globals const& globals);
[[nodiscard]] Result<int> jobs_show(Globals const& globals, std::string const& id);

struct SubmitOptions {
  std::string file;  ///< A graph, or what would be the body of POST /v1/jobs; YAML or JSON.
  std::string agent;
  std::string goal;
  std::string input;  ///< JSON, or text.
  std::string key;    ///< Idempotency-Key.
  std::string name, space, queue, deadline;
  std::optional<int> priority;
  bool wait = false;
};
/// kFailed if it is waited for and did not succeed.
[[nodiscard]] Result<int> jobs_submit(Globals const& globals, SubmitOptions const& options);

struct ControlOptions {
  std::string id;
  std::string reason;
};
/// @param action "pause", "resume" or "cancel".
[[nodiscard]] Result<int> jobs_control(Globals const& globals, std::string const& action,
                                       ControlOptions const& options);

struct SignalOptions {
  std::string id, name;
  std::string payload;  ///< JSON, or text.
  std::string key;
};
[[nodiscard]] Result<int> jobs_signal(Globals const& globals, SignalOptions const& options);

struct ApprovalOptions {
  std::string id, step, reason;
  std::string form;  ///< JSON.
};
/// @param decision "approve" or "reject".
[[nodiscard]] Result<int> jobs_approve(Globals const& globals, std::string const& decision,
                                       ApprovalOptions const& options);

struct ResolveOptions {
  std::string id, effect;
  std::string outcome;  ///< "happened", "not_happened" or "abandon".
  std::string result;   ///< JSON, or text.
};
[[nodiscard]] Result<int> jobs_resolve(Globals const& globals, ResolveOptions const& options);

struct ForkOptions {
  std::string id, step;
  std::string input;  ///< JSON, or text; empty: as it was.
  std::string graph;  ///< A file; empty: as it was.
};
[[nodiscard]] Result<int> jobs_fork(Globals const& globals, ForkOptions const& options);

/// Takes the values of a job that has ended away; its events and proofs stay.
[[nodiscard]] Result<int> jobs_erase(Globals const& globals, ControlOptions const& options);

// Those that follow also read the store of an Aether that does not run.

struct TraceOptions {
  std::string id;
  bool otlp = false;
};
[[nodiscard]] Result<int> trace(Globals const& globals, TraceOptions const& options);
/// kFailed if what was decided again is not what is recorded.
[[nodiscard]] Result<int> replay(Globals const& globals, std::string const& id);

struct VerifyOptions {
  std::vector<std::string> files;  ///< Of evidence, or of growth.
  bool all = false;                ///< The whole store instead.
  std::string key;  ///< The key that must have signed, or a file with it; empty: see the output.
  std::string old;  ///< A file with a checkpoint that was kept; empty: none.
};
[[nodiscard]] Result<int> verify(Globals const& globals, VerifyOptions const& options);
[[nodiscard]] Result<int> export_job(Globals const& globals, std::string const& id,
                                     std::string const& file);
struct CheckpointOptions {
  std::string file;  ///< Where it goes; empty: stdout.
  std::string old;   ///< A file with a checkpoint that was kept; empty: none.
};
/// What the journal has now, signed; with `old` the proof that it grew from that.
[[nodiscard]] Result<int> checkpoint(Globals const& globals, CheckpointOptions const& options);
/// Who did what beside jobs, or was refused; oldest first.
[[nodiscard]] Result<int> audit(Globals const& globals);
struct FsckOptions {
  bool repair = false;  ///< Writes again what is derived from the events; Aether must not run.
};
[[nodiscard]] Result<int> fsck(Globals const& globals, FsckOptions const& options);

}  // namespace aether::cli
