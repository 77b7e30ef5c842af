// SPDX-License-Identifier: Apache-2.0
// RunState: what the events of one run say, folded. Pure: the same events give the same state, on
// every machine and after any crash. The only truth about a run is the journal; this is a cache.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "jobs/run_event.h"

namespace aether::jobs {

/// The latest attempt of a step.
struct StepState {
  StepKind kind = StepKind::Tool;
  std::uint32_t attempt = 1;
  std::string input_hash;
  bool open = true;
  StepOutcome outcome = StepOutcome::Pure;
  boost::json::value result;
  std::string error;
  WallTime opened, closed;
  std::uint32_t order = 0;  ///< Of closing, counted from 1: compensation goes back through it.
};
/// The latest turn of an effect.
struct EffectState {
  EffectIntended intent;
  bool open = true;
  EffectSettled settled;  ///< The last word: an amendment takes the place of "unknown".
  WallTime intended;
};
struct WaitState {
  WaitOpened opening;
  bool open = true;
  WaitClosed closing;
  WallTime opened;
};
struct Signal {
  SignalReceived received;
  std::string actor;
  bool consumed = false;  ///< A wait was closed with it.
};

/// Paths or ids.
using Names = std::set<std::string, std::less<>>;

struct RunState {
  RunId id;
  RunOpened opening;
  std::optional<RunClosed> closing;
  std::map<std::string, StepState, std::less<>> steps;      ///< By path.
  std::map<std::string, EffectState, std::less<>> effects;  ///< By effect id.
  std::map<std::string, WaitState, std::less<>> waits;      ///< By path.
  Names open_steps, open_effects, open_waits;               ///< Keys of the three maps.
  std::vector<Signal> signals;
  bool paused = false;
  bool cancel_requested = false;
  std::string cancel_reason;
  std::string stuck;             ///< What was recorded and what came; empty: not stuck.
  std::uint64_t steps_used = 0;  ///< Attempts of steps, and
  std::uint64_t calls_used = 0;  ///< turns of effects, that were opened.
  Usage used;
  std::uint64_t sequence = 0;  ///< Of the last event that was folded.
  std::uint64_t fence = 0;
  std::string lease_holder;
  std::optional<WallTime> lease_until;
  WallTime opened, updated;
  WallTime status_since;  ///< When the status last became another.
  std::uint32_t closed_steps = 0;

  /// A wait belongs to the step at its path, or at the part of it before a "/", "~" or "#": a run
  /// is parked when each open step that has no open step below it waits so, and no call is under
  /// way. It is retrying when one of those waits is a timer of a step that closed retryable.
  [[nodiscard]] RunStatus status() const;
  /// Whether an open step has something to do: nothing open below it, and no wait that belongs to
  /// it.
  [[nodiscard]] bool has_active_step() const;
  /// The oldest signal of that name which no wait was closed with.
  [[nodiscard]] Signal const* pending_signal(std::string_view name) const;
};

/// What each event must obey. JOBS's span law, and what follows from it for a run.
enum class RunLaw : std::uint8_t {
  BeginsOnce,        ///< run.opened is the first event, and only it.
  EndsOnce,          ///< After run.closed come only late settlements, and notes of forks.
  EndsWhole,         ///< run.closed leaves no step and no wait open.
  StepOpensOnce,     ///< Attempt n + 1 opens after attempt n closed as retryable; 1 is the first.
  StepClosesOnce,    ///< The attempt that closes is open.
  EffectInStep,      ///< A call is intended in an open step.
  EffectTurns,       ///< Turn n + 1 is intended after turn n settled; 1 is the first.
  EffectSame,        ///< Each turn of an effect has the same place, tool and arguments.
  EffectSettles,     ///< What settles is open; what amends was unknown, and becomes known.
  WaitOpensOnce,     ///< A path is waited at once, for all time.
  WaitClosesOnce,    ///< What closes is open.
  WaitNamesEffect,   ///< A wait for an outcome names an effect that was settled as unknown.
  SignalCameBefore,  ///< A wait for a signal is answered with one that came and was not used.
};
[[nodiscard]] std::string_view text_of(RunLaw law);

/// The next event. StoreDamaged names the law that it breaks, and the run and number of the event:
/// nothing of it is folded then.
[[nodiscard]] Status fold(RunState& state, RunEvent const& event);
/// The law that the event would break, without folding it.
[[nodiscard]] std::optional<RunLaw> broken_law(RunState const& state, RunEvent const& event);

/// Whether `path` is `step`, or under it: followed by "/", "~" or "#".
[[nodiscard]] bool is_at_or_under(std::string_view path, std::string_view step);

}  // namespace aether::jobs
