// SPDX-License-Identifier: Apache-2.0
// What a swap did and how long each phase took: kept for the status page, printed by `reload`.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"

namespace aether::relay {

struct PhaseTime {
  std::string name;  ///< As phase_name() of the swap machine.
  Duration took;
  bool operator==(PhaseTime const&) const = default;
};

enum class Verdict : std::uint8_t { Running, Succeeded, RolledBack };
[[nodiscard]] std::string_view verdict_name(Verdict verdict);

/// The memory that one swap moved.
struct HandoffReport {
  std::uint64_t bytes = 0;
  std::string mechanism;                 ///< "pipe" or "shm".
  std::optional<Duration> quiesce_took;  ///< As the old revision's SDK told it.
  std::optional<Duration> export_took;   ///< The program's own export, as its SDK told it.
  std::uint32_t state_version = 0;       ///< The program's own number; 0: it has none.
  std::uint32_t taken_as_version = 0;    ///< What the new revision made of it; 0: it has none.
};

struct SwapReport {
  SwapId id;
  RevisionId old;
  RevisionId next;
  pid_t old_pid = 0;
  pid_t next_pid = 0;
  std::string reason;  ///< Who or what asked: "SIGHUP", "api", text of the caller.
  WallTime began{};
  Verdict verdict = Verdict::Running;
  std::string why;     ///< Of a rollback: the rule and the figures. Else a note.
  RevisionId serving;  ///< Who serves since the verdict; 0: nobody.
  /// From the moment at which the new one was known to be sick or gone until new connections went
  /// to the old one again. Absent if they never left it.
  std::optional<Duration> rollback_took;
  std::vector<PhaseTime> phases;  ///< In order; complete up to the verdict.
  /// From the last moment at which the old one could accept to the first at which the new one
  /// could. Zero when both could for a while. Absent if there was no cutover.
  std::optional<Duration> blackout;
  std::optional<HandoffReport> handoff;
};

/// Cuts a swap's time into phases.
class PhaseTimer {
 public:
  void enter(std::string_view phase, Instant now);
  /// Ends the phase that runs, and returns all of them.
  [[nodiscard]] std::vector<PhaseTime> finish(Instant now);

 private:
  std::vector<PhaseTime> done_;
  std::string current_;
  Instant since_{};
};

}  // namespace aether::relay
