// SPDX-License-Identifier: Apache-2.0
// One step that is one call of a tool, from its first attempt to its end: what drivers of graphs,
// agents and plans are made of. Pure.
//
// Paths: attempt n that failed and may be repeated closes as retryable, and a timer at
// "<path>~retry.<n>" lies before attempt n + 1, which calls the same effect. A step and its call
// are decided together, so that an open step has always made the call of its attempt.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "jobs/driver.h"
#include "jobs/graph.h"

namespace aether::jobs {

/// A step whose call is fully known.
struct CallStep {
  std::string path;
  StepKind kind = StepKind::Tool;
  boost::json::value input;  ///< What is hashed: at least the tool and its arguments.
  std::string tool;
  boost::json::value args;
  std::optional<Policy> policy;
  std::string business_key;
  std::optional<Duration> timeout;
  Retry retry;
  std::uint32_t occurrence = 1;
  StepOutcome success = StepOutcome::Committed;
};

/// How far a run still goes.
enum class Pace : std::uint8_t {
  On,
  Ending,     ///< Something failed: what is under way ends, nothing begins.
  Cancelled,  ///< The same, and nobody is asked what became of a call.
};

/// What was said about one run, kept so that it is worked out once: names of effects, and steps
/// whose recorded input is known to be that of the graph. It saves time, and decides nothing.
class RunMemory {
 public:
  [[nodiscard]] std::string const& effect_of(RunState const& state, std::string const& path,
                                             std::string const& tool, std::uint32_t occurrence);
  /// Whether the recorded step has this kind and input; else what was recorded and what came.
  template <class MakeInput>
  std::optional<Diverged> compare(std::string const& path, StepState const& step, StepKind kind,
                                  MakeInput make_input) {
    auto const known = compared_.find(path);
    if (known != compared_.end() && known->second == step.input_hash && step.kind == kind)
      return std::nullopt;
    auto diverged = compare_now(path, step, kind, make_input());
    if (!diverged) compared_.insert_or_assign(path, step.input_hash);
    return diverged;
  }

 private:
  static std::optional<Diverged> compare_now(std::string const& path, StepState const& step,
                                             StepKind kind, boost::json::value const& input);

  std::string run_;
  std::map<std::string, std::string, std::less<>> effects_;   ///< Place -> effect id.
  std::map<std::string, std::string, std::less<>> compared_;  ///< Path -> input hash.
};

/// The first attempt.
void begin_call(CallStep const& step, std::vector<Decision>& decisions);
/// What follows for an open step, or for one that closed as retryable. Nothing if it waits.
void advance_call(RunState const& state, CallStep const& step, Pace pace, RunMemory& memory,
                  std::vector<Decision>& decisions);

/// A step is over for good, with or without success: open ones and those between two attempts are
/// not, unless the run ends and no attempt will follow.
[[nodiscard]] bool is_over(RunState const& state, std::string_view path, StepState const& step,
                           Pace pace);
[[nodiscard]] bool succeeded(StepState const& step);
/// Nobody knows what became of the settled call: parked until a person or the other side says it.
[[nodiscard]] bool is_for_a_person(EffectState const& effect);
[[nodiscard]] std::string retry_path(std::string_view path, std::uint32_t attempt);
/// Closes the waits that belong to a step (of retries, of unknown outcomes).
void end_waits_under(RunState const& state, std::string_view path,
                     std::vector<Decision>& decisions);

/// Whether the law of effects lets the same call be made again after this settlement.
[[nodiscard]] bool may_call_again(EffectState const& effect);

}  // namespace aether::jobs
