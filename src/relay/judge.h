// SPDX-License-Identifier: Apache-2.0
// Judge: decides from what is seen of a soaking revision whether it is sick. Pure: it is told what
// was observed and when. That a process exited is an event of the swap machine, not a matter of
// judgement.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"

namespace aether::relay {

/// A rule without a limit is not applied.
struct JudgePolicy {
  int probe_failures_max = 3;  ///< This many failed probes in a row are a verdict; at least 1.
  std::optional<std::uint64_t> memory_bytes_max = {};  ///< Of the whole process tree.
  /// Samples over the limit in a row: one may be a start-up peak or a garbage collector's.
  int memory_samples_max = 3;
  std::optional<Duration> ready_limit = {};  ///< From the cutover to the revision's own word.
};

/// One health probe was answered, or not.
struct ProbeOutcome {
  bool healthy = false;
  std::string reason = {};  ///< "connection refused", "GET /health answered 503"
};
/// The revision promised a sign of life and gave none.
struct WatchdogSilence {
  Duration silent{};
};
struct MemorySample {
  std::uint64_t bytes = 0;
};
/// Asked from time to time while the revision has not said that it serves.
struct StillNotReady {};

/// Why a revision is sick: the rule, and the figures that broke it.
struct Judgement {
  enum class Rule : std::uint8_t { HealthProbe, Watchdog, Memory, Readiness };
  Rule rule = Rule::HealthProbe;
  std::string figures;
  /// "health probe failed 3 times in a row within 2s: connection refused".
  [[nodiscard]] std::string text() const;
  bool operator==(Judgement const&) const = default;
};
/// "health probe", "watchdog", "memory", "readiness".
[[nodiscard]] std::string_view rule_name(Judgement::Rule rule);

/// Judges one revision, from its cutover to the end of its soak. Gives one judgement at most: what
/// it sees afterwards changes nothing.
class Judge {
 public:
  explicit Judge(JudgePolicy policy = {}, Instant cutover = {});

  [[nodiscard]] std::optional<Judgement> observe(ProbeOutcome const& outcome, Instant now);
  [[nodiscard]] std::optional<Judgement> observe(WatchdogSilence silence, Instant now);
  [[nodiscard]] std::optional<Judgement> observe(MemorySample sample, Instant now);
  [[nodiscard]] std::optional<Judgement> observe(StillNotReady, Instant now);

  /// Failed probes in a row, up to now.
  [[nodiscard]] int probe_failures() const { return probe_failures_; }
  [[nodiscard]] bool judged() const { return judged_; }

 private:
  std::optional<Judgement> judge(Judgement::Rule rule, std::string figures);

  JudgePolicy policy_;
  Instant cutover_;
  Instant first_failure_{};
  int probe_failures_ = 0;
  int memory_samples_ = 0;
  bool judged_ = false;
};

}  // namespace aether::relay
