// SPDX-License-Identifier: Apache-2.0
// Replay: a driver decides again over a recorded history, without tools, clock or network: the
// decisions must be those that were recorded. Pure.
//
// The driver is asked as the engine asks it: when the next recorded event is a decision, for all
// that follows, until it wants nothing. What came from outside (settlements, signals, answers,
// times, controls) is taken from the record, and so is what the engine does by itself: another turn
// after a crash, a wait for a person who knows what became of a call, the end of a run whose
// budget, time or patience is over.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "jobs/driver.h"

namespace aether::jobs {

struct Divergence {
  std::uint64_t sequence = 0;  ///< Of the recorded event; one after the last if there is none.
  std::string recorded;        ///< "step.opened 'fetch' attempt 1 (tool, input ...)"
  std::string now;             ///< The same of what the driver decides now.
  bool operator==(Divergence const&) const = default;
};
/// One sentence that names both.
[[nodiscard]] std::string describe(Divergence const& divergence);

struct ReplayReport {
  std::uint64_t events = 0;     ///< Read.
  std::uint64_t decisions = 0;  ///< Made again, each as recorded.
  std::uint64_t copied = 0;     ///< Events that a fork took from its source: not decided again.
  std::uint64_t calls = 0;      ///< Of tools. Always 0: there is nothing here that could call.
  std::optional<Divergence> divergence;
  bool closed = false;       ///< The history has an end.
  bool by_engine = false;    ///< The end was the engine's: a limit, or a cancellation.
  bool same_output = false;  ///< Of a run that the driver ended: equal, as canonical JSON.
  std::string output;        ///< Canonical JSON of what the driver ended the run with; or empty.

  /// Everything was decided as it is recorded.
  [[nodiscard]] bool is_good() const { return !divergence; }
};

/// @param history All events of the run, with their values (decode_event()).
/// StoreDamaged if the history does not fold.
[[nodiscard]] Result<ReplayReport> replay(RunId const& run, Driver const& driver,
                                          std::vector<RunEvent> const& history);

}  // namespace aether::jobs
