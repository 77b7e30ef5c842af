// SPDX-License-Identifier: Apache-2.0
// RunLaws: what must hold of every run's history beside journal/laws.h, whoever wrote it down: the
// fold's laws, and the law of effects. It shares no code with what decides about calls
// (effect_rules.h), so that it can judge it. Pure.
#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "jobs/run_state.h"
#include "journal/event.h"

namespace aether::jobs {

/// A lease of another worker has a higher fence than the one before.
inline constexpr std::string_view kLeaseLaw =
    "a lease of another worker has a higher fence than the lease before";

/// What a history breaks, at one event.
struct RunFinding {
  journal::Position position;
  std::string run;
  std::string what;  ///< One sentence.
  bool operator==(RunFinding const&) const = default;
};
[[nodiscard]] std::string describe(RunFinding const& finding);

enum class EffectLaw : std::uint8_t {
  TurnAllowed,  ///< A next turn only after one that was not executed; or, for policies read and
                ///< keyed, after one that is unknown or failed for now.
  PolicyStays,  ///< Each turn of an effect has the same policy.
  KeyStays,     ///< Each turn of an effect has the same Idempotency-Key.
};
[[nodiscard]] std::string_view text_of(EffectLaw law);

class RunLaws {
 public:
  /// The next event of the journal, or of one stream; of streams that are no runs, only the audit
  /// is looked at. Nothing is read of values and blobs: fsck does that. A run that broke a law is
  /// not looked at any further.
  void take(journal::Event const& event, std::vector<RunFinding>& findings);

  struct Counts {
    std::uint64_t runs = 0, open_runs = 0, effects = 0, turns = 0;
    std::uint64_t unknown = 0;  ///< Effects of which nobody knows what became of them.
    bool operator==(Counts const&) const = default;
  };
  [[nodiscard]] Counts counts() const;

 private:
  struct Seen {
    RunState state;
    journal::Fence lease_fence;  ///< Of the last lease.
    std::string lease_holder;
    bool broken = false;
  };
  void take_run(journal::Event const& event, Seen& seen, std::vector<RunFinding>& findings);

  std::unordered_map<std::string, Seen> runs_;
  std::uint64_t effects_ = 0, turns_ = 0;
};

}  // namespace aether::jobs
