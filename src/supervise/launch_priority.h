// SPDX-License-Identifier: Apache-2.0
// LaunchPriority: a program that starts beside the one that serves gives way to it on the
// processor until it is ready: imports and JIT warm-up are long computations, and a scheduler that
// shares fairly lets each request of the old one wait behind them (measured: up to 4 ms, a tick).
#pragma once
#include <sys/types.h>

#include <optional>
#include <span>
#include <string>

#include "base/time.h"

namespace aether::supervise {

/// When a starting program has given way for long enough. Pure.
struct LaunchPatience {
  Instant launched{};
  Duration time_max{};  ///< Whatever happens, not longer than this.

  /// `ran` and `waited`: what the kernel counts of the program's time on a processor, and of its
  /// time ready to run without one. None: the kernel does not count it.
  struct Share {
    Duration ran{};
    Duration waited{};
  };
  /// On a machine with processors to spare nothing waits, and the program may stay low for as long
  /// as it takes. On a full one it would starve: when it has waited longer than it ran, and some
  /// more, it competes like everybody else. So giving way costs a start at most its own time again.
  [[nodiscard]] bool is_over(Instant now, std::optional<Share> share) const;
};

/// The levers that were moved for one tree, and what they were before. Only what can be moved back
/// is moved: a nice value can be raised by everybody, but lowered only with CAP_SYS_NICE or
/// RLIMIT_NICE; the nice value of a session's autogroup, and the weight of a control group that is
/// ours, can be moved both ways without rights.
class LaunchPriority {
 public:
  LaunchPriority() = default;
  /// Right after the start of `root`, which leads a session of its own. `cgroup_folder`: its own
  /// control group (v2); empty: none.
  static LaunchPriority lower(pid_t root, std::string const& cgroup_folder);

  [[nodiscard]] bool is_low() const { return autogroup_ || weight_ || nice_; }
  /// Gives back what was taken, for every thread of `tree` that still has the lowered value: a
  /// program that chose a priority of its own keeps it. False: try again soon (the kernel takes an
  /// unprivileged change of an autogroup only ten times a second; a thread may just be made).
  bool restore(std::span<pid_t const> tree);
  /// What the kernel counted for the main threads of these processes so far.
  [[nodiscard]] static std::optional<LaunchPatience::Share> share(std::span<pid_t const> tree);

 private:
  // What each was before; set if it was moved.
  std::optional<std::string> autogroup_;
  std::optional<std::string> weight_;
  std::optional<int> nice_;
  std::string weight_path_;
};

}  // namespace aether::supervise
