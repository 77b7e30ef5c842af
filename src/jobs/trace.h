// SPDX-License-Identifier: Apache-2.0
// Trace: the events of a run as a tree of what took how long. Pure.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "jobs/run_event.h"

namespace aether::jobs {

enum class TraceMark : std::uint8_t {
  Open,     ///< Not over.
  Good,     ///< Over as it should.
  Skipped,  ///< A node that did not run: no branch led to it.
  Again,    ///< Over, and tried again after it.
  Bad,      ///< Failed, rejected, cancelled.
  Unknown,  ///< A call of which nobody knows what became.
};
enum class TraceKind : std::uint8_t { Run, Step, Effect, Wait, Point };

/// A span, or a point (then `end` is `begin`).
struct TraceNode {
  TraceKind kind = TraceKind::Run;
  std::string span;     ///< Its name in the journal; of a point its kind and number.
  std::string title;    ///< "fetch", "http", "signal paid".
  std::string type;     ///< "tool", "timer", "once", ...: the kind of step or wait, or the policy.
  std::string outcome;  ///< Its word; empty while it is open.
  std::string detail;   ///< An error, or who answered; one line.
  TraceMark mark = TraceMark::Open;
  WallTime begin;
  std::optional<WallTime> end;
  std::uint64_t sequence = 0;  ///< Of the event that opened it.
  bool copied = false;         ///< A fork took it from its source.
  /// What OTLP gets beside: name, and a text, number or flag. In the order in which they came.
  std::vector<std::pair<std::string, boost::json::value>> attributes;
  std::vector<TraceNode> children;
};

/// The tree of a run. Steps lie under the step whose path begins theirs ("agent/model.1" under
/// "agent"), calls under their step, waits where they belong. StoreDamaged if the history does not
/// fold.
[[nodiscard]] Result<TraceNode> trace_of(RunId const& run, std::vector<RunEvent> const& history);

struct TraceTextOptions {
  bool colours = false;  ///< ANSI codes; for terminals that want them.
  WallTime now;          ///< The end of what is open.
};
/// One line a node, each ended by a line break.
[[nodiscard]] std::string trace_text(TraceNode const& root, TraceTextOptions const& options);
[[nodiscard]] boost::json::value trace_json(TraceNode const& root);
/// OTLP/JSON (ExportTraceServiceRequest), with the GenAI attributes of model and tool calls. The
/// run's id is the trace's. What is open ends at `now`.
[[nodiscard]] boost::json::value trace_otlp(RunId const& run, TraceNode const& root, WallTime now);

}  // namespace aether::jobs
