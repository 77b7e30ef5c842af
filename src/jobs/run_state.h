// SPDX-License-Identifier: Apache-2.0
// RunState: what the events of one run say, folded. Pure: the same events give the same state, on
// every machine and after any crash. The only truth about a run is the journal; this is a cache.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
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
  EffectSettled settled;
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

struct RunState {
  RunId id;
  RunOpened opening;
  std::optional<RunClosed> closing;
  std::map<std::string, StepState, std::less<>> steps;      ///< By path.
  std::map<std::string, EffectState, std::less<>> effects;  ///< By effect id.
  std::map<std::string, WaitState, std::less<>> waits;      ///< By path.
  std::vector<Signal> signals;
  bool paused = false;
  bool cancel_requested = false;
  std::string cancel_reason;
  std::string stuck;  ///< What was recorded and what came; empty: not stuck.
  std::uint64_t steps_used = 0, calls_used = 0;
  Usage used;
  std::uint64_t sequence = 0;  ///< Of the last event that was folded.
  std::uint64_t fence = 0;
  std::string lease_holder;
  std::optional<WallTime> lease_until;
  WallTime opened, updated;
  std::uint32_t closed_steps = 0;

  [[nodiscard]] RunStatus status() const;
};

/// The next event. StoreDamaged names the law that it breaks (a close without an open, ...):
/// nothing of it is folded then.
[[nodiscard]] Status fold(RunState& state, RunEvent const& event);

}  // namespace aether::jobs
