// SPDX-License-Identifier: Apache-2.0
// The words of jobs: policies, outcomes, kinds, states; each with its text in the journal and API.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "tools/outcome.h"

namespace aether::jobs {

using tools::EffectOutcome;
using tools::Policy;

enum class RunOutcome : std::uint8_t { Succeeded, Failed, Cancelled, Compensated };
enum class StepKind : std::uint8_t {
  Tool,
  Model,
  Wait,
  Approval,
  Condition,
  Workflow,
  Agent,
  Function,
  Plan,
  Value,
  Compensation,
};
/// The seed's five. Pure: nothing outside was touched. Retryable: another attempt follows.
enum class StepOutcome : std::uint8_t { Pure, Committed, Retryable, Failed, Compensated };
enum class SettledBy : std::uint8_t {
  Tool,      ///< The call's own answer.
  Lookup,    ///< The tool's companion query.
  Late,      ///< The answer of a worker thought dead.
  Person,    ///< `aether jobs resolve`: always of a turn that was settled as unknown.
  Recovery,  ///< The process died, or was stopped, between call and answer.
};
enum class WaitKind : std::uint8_t { Timer, Signal, Human, Child };
enum class WaitEnd : std::uint8_t { Answered, Approved, Rejected, TimedOut, Cancelled };
enum class Control : std::uint8_t {
  Lease,   ///< A worker has the run until a time; without a worker: nobody has it any more.
  Pause,   ///< Nothing new begins.
  Resume,  ///< Ends Pause and Stuck.
  Cancel,  ///< The run is to end; what is under way is cancelled.
  Fork,    ///< In the new run: the copied events end here. In the old one: a note.
  Stuck,   ///< The driver diverged; `reason` names what was recorded and what came.
};

/// A fold of the events, never stored as truth.
enum class RunStatus : std::uint8_t {
  Pending,  ///< Nobody has begun.
  Running,
  Parked,    ///< Waits for a person, a signal, a time or a child, and holds nothing.
  Retrying,  ///< Waits for the time of another attempt.
  Stuck,     ///< The code or graph is not the recorded one: resume with the right one, or fork.
  Paused,
  Completed,
  Failed,
  Cancelled,
};

[[nodiscard]] std::string_view text_of(RunOutcome value);
[[nodiscard]] std::string_view text_of(StepKind value);
[[nodiscard]] std::string_view text_of(StepOutcome value);
[[nodiscard]] std::string_view text_of(SettledBy value);
[[nodiscard]] std::string_view text_of(WaitKind value);
[[nodiscard]] std::string_view text_of(WaitEnd value);
[[nodiscard]] std::string_view text_of(Control value);
[[nodiscard]] std::string_view text_of(RunStatus value);

/// RequestInvalid lists the words that there are. For each enumeration above; the words of Policy
/// and EffectOutcome are tools'.
template <class E>
[[nodiscard]] Result<E> parse_word(std::string_view text);

}  // namespace aether::jobs
