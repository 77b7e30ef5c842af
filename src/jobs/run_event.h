// SPDX-License-Identifier: Apache-2.0
// What happens to a run, as typed events: four spans (run, step, effect, wait), each with one open
// and at most one close, and the points signal.received, run.controlled and audit.noted.
// run_event_codec.h turns them into events of the journal and back; docs/jobs-journal.md has the
// bodies.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <boost/json/value.hpp>

#include "base/time.h"
#include "jobs/ids.h"
#include "jobs/policy.h"

namespace aether::jobs {

/// What may be spent; absent: no limit. Checked before each call.
struct Budget {
  std::optional<std::uint64_t> steps;
  std::optional<std::uint64_t> calls;
  std::optional<std::uint64_t> tokens;
  std::optional<double> cost;    ///< In the currency of the prices that tools are given.
  std::optional<Duration> time;  ///< From when it was opened.
  bool operator==(Budget const&) const = default;
};
struct Usage {
  std::uint64_t tokens = 0;
  double cost = 0;
  bool operator==(Usage const&) const = default;
};

/// How a run came to be under another one.
struct Parent {
  RunId run;
  std::string path;  ///< Of the step whose wait it answers.
  bool operator==(Parent const&) const = default;
};

// ---- run

/// What a run is to do: exactly one of graph, agent and goal.
struct RunSpec {
  std::string name;          ///< For lists: of the agent, the graph, or the goal's first words.
  boost::json::value graph;  ///< A TaskGraph (graph.h); null if there is none.
  boost::json::value agent;  ///< An agent's declaration as it was then (agent.h); or null.
  std::string goal;          ///< In words; a planner makes the graph.
  boost::json::value input;
  std::string space = "default";  ///< The namespace whose roles apply.
  std::string queue = "default";  ///< realtime, default, background, heavy, or any other name.
  int priority = 0;               ///< Higher first, -1000 to 1000.
  std::string concurrency_key;    ///< Runs with the same key: at most `concurrency_limit` run.
  int concurrency_limit = 1;
  std::optional<WallTime> not_before;
  std::optional<WallTime> deadline;
  Budget budget;
  bool operator==(RunSpec const&) const = default;
};
struct RunOpened {
  RunSpec spec;
  std::string code_version;  ///< content_hash of the graph or the agent's declaration.
  std::string idempotency_key;
  /// content_hash of the request as it was asked, with "2h" as "2h" and an agent as its name: what
  /// makes two requests with one key the same. Empty: the spec itself is compared.
  std::string request_hash;
  std::optional<Parent> parent;
  /// A fork: the events before were copied from this run.
  std::optional<RunId> forked_from;
  std::string schedule;  ///< Name of the schedule that made it; empty: none.
  bool operator==(RunOpened const&) const = default;
};
struct RunClosed {
  RunOutcome outcome = RunOutcome::Succeeded;
  boost::json::value output;
  std::string error;  ///< One sentence; empty when it succeeded.
  bool operator==(RunClosed const&) const = default;
};

// ---- step

struct StepOpened {
  std::string path;  ///< "fetch", "agent/model.2", "fetch~undo". Unique in the run with `attempt`.
  StepKind kind = StepKind::Tool;
  std::uint32_t attempt = 1;
  std::string input_hash;  ///< content_hash of what goes in; compared on replay.
  bool operator==(StepOpened const&) const = default;
};
struct StepClosed {
  std::string path;
  std::uint32_t attempt = 1;
  StepOutcome outcome = StepOutcome::Pure;
  boost::json::value result;
  std::string error;
  bool operator==(StepClosed const&) const = default;
};

// ---- effect

/// Durable before the call. `turn` is opened once for all time: that, and no clock, is what keeps
/// two workers from calling twice. A next turn exists only after the one before it was settled with
/// an outcome that allows it.
struct EffectIntended {
  std::string effect;  ///< effect_id().
  std::uint32_t turn = 1;
  std::string path;  ///< Of the step.
  std::string tool;
  boost::json::value args;
  std::string args_hash;
  Policy policy = Policy::Once;
  std::string key;           ///< The Idempotency-Key that goes with the call (keyed, lookup).
  std::string business_key;  ///< Unique across runs; empty: none.
  std::string token;         ///< Settles it, whoever holds the run by then.
  bool operator==(EffectIntended const&) const = default;
};
struct EffectSettled {
  std::string effect;
  std::uint32_t turn = 1;
  EffectOutcome outcome = EffectOutcome::Ok;
  SettledBy by = SettledBy::Tool;
  boost::json::value result;
  std::string error;
  bool retryable = false;  ///< An error that the tool says may go away (429, 503).
  /// The turn was settled before, as unknown, and somebody knows now (person, late): this is a
  /// point on its span, not the close. At most once, and never unknown again.
  bool amends = false;
  Usage usage;
  bool operator==(EffectSettled const&) const = default;
};

// ---- wait

struct WaitOpened {
  std::string path;
  WaitKind kind = WaitKind::Timer;
  std::string name;    ///< Of the signal; of the child run; for people: a title.
  std::string effect;  ///< Human: the effect whose outcome nobody knows; else empty.
  std::optional<WallTime> deadline;
  boost::json::value schema;  ///< What an answer must look like (JSON Schema subset of MCP forms).
  bool operator==(WaitOpened const&) const = default;
};
struct WaitClosed {
  std::string path;
  WaitEnd end = WaitEnd::Answered;
  std::string by;  ///< Who answered.
  boost::json::value payload;
  bool operator==(WaitClosed const&) const = default;
};

// ---- points

struct SignalReceived {
  std::string name;
  std::string idempotency_key;
  boost::json::value payload;
  bool operator==(SignalReceived const&) const = default;
};
struct RunControlled {
  Control control = Control::Lease;
  std::string holder;             ///< Lease: the worker.
  std::optional<WallTime> until;  ///< Lease: when it ends.
  std::string reason;
  std::string step;  ///< Fork: where.
  bool operator==(RunControlled const&) const = default;
};
struct AuditNoted {
  std::string action;    ///< "POST /v1/jobs", "swap", "deploy".
  std::string target;    ///< Run, service, function.
  std::string decision;  ///< "done", "refused".
  std::string detail;
  bool operator==(AuditNoted const&) const = default;
};

using RunEventBody =
    std::variant<RunOpened, RunClosed, StepOpened, StepClosed, EffectIntended, EffectSettled,
                 WaitOpened, WaitClosed, SignalReceived, RunControlled, AuditNoted>;

struct RunEvent {
  WallTime at;        ///< To the millisecond.
  std::string actor;  ///< "worker:…", "user:…", "" for the engine itself.
  RunEventBody body;
  bool operator==(RunEvent const&) const = default;
};

}  // namespace aether::jobs
