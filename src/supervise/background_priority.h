// SPDX-License-Identifier: Apache-2.0
// BackgroundPriority: a program that starts beside the one that serves, or ends beside it, gives
// way to it on the processor. Imports, JIT warm-up and the tidying of an interpreter's last moments
// are long computations, and a scheduler that shares fairly lets each request of the serving one
// wait behind them (measured: up to 4 ms, a tick).
#pragma once
#include <sys/types.h>

#include <optional>
#include <span>
#include <string>

#include "base/time.h"
#include "supervise/cpu_group.h"

namespace aether::supervise {

/// When a program has given way for long enough. Pure.
struct BackgroundPatience {
  Instant since{};
  Duration time_max{};  ///< Whatever happens, not longer than this.

  /// `ran` and `waited`: what the kernel counts of the program's time on a processor, and of its
  /// time ready to run without one. None: the kernel does not count it.
  struct Share {
    Duration ran{};
    Duration waited{};
  };
  Share before{};  ///< What was counted when it began to give way.

  /// On a machine with processors to spare nothing waits, and the program may stay low for as long
  /// as it takes. On a full one it would starve: when it has waited longer than it ran, and some
  /// more, it competes like everybody else. So giving way costs at most its own time again.
  [[nodiscard]] bool is_over(Instant now, std::optional<Share> share) const;
};

/// The levers that were moved for one tree, and what they were before. Only what can be moved back
/// is moved: a scheduling policy can be lowered by everybody, but raised only with CAP_SYS_NICE or
/// RLIMIT_NICE; the nice value of a session's autogroup, and a control group that is ours, can be
/// moved both ways without rights.
class BackgroundPriority {
 public:
  BackgroundPriority() = default;
  /// For a tree whose processes are these, the first of which leads a session of its own. `group`:
  /// its cpu control group, which must outlive this; null: none.
  static BackgroundPriority lower(std::span<pid_t const> tree, CpuGroup const* group);

  [[nodiscard]] bool is_low() const { return autogroup_ || group_ != nullptr || policy_; }
  /// Gives back what was taken, for every thread of `tree` that still has the lowered value: a
  /// program that chose a priority of its own keeps it. False: try again soon (the kernel takes an
  /// unprivileged change of an autogroup only ten times a second; a thread may just be made).
  bool restore(std::span<pid_t const> tree);
  /// What the kernel counted for the main threads of these processes so far.
  [[nodiscard]] static std::optional<BackgroundPatience::Share> share(std::span<pid_t const> tree);

 private:
  // What was moved, and what it was before.
  std::optional<std::string> autogroup_;
  std::optional<int> policy_;
  CpuGroup const* group_ = nullptr;
};

}  // namespace aether::supervise
