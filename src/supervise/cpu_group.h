// SPDX-License-Identifier: Apache-2.0
// CpuGroup: the control group in which the kernel counts one tree's time on the processors, in
// either version of control groups, and the switch that lets everybody else go first (cpu.idle,
// Linux 5.15; Documentation/admin-guide/cgroup-v2.rst).
#pragma once
#include <optional>
#include <string>

#include "os/cgroup.h"
#include "supervise/limits.h"

namespace aether::supervise {

class CpuGroup {
 public:
  /// In order: `own` (v2; may be null) if it has the cpu controller; the v1 group in which a limit
  /// holds the tree already; a v1 group made for this, called `name`. None: there is none that
  /// Aether may write to, or the kernel is older.
  static std::optional<CpuGroup> find(os::Cgroup const* own, LimitSet const& limits,
                                      std::string const& name);
  CpuGroup(CpuGroup&& other) noexcept;
  CpuGroup& operator=(CpuGroup&& other) noexcept;
  ~CpuGroup();  ///< Removes the group if it was made for this and is empty.

  /// The folder that the tree has still to be put into; empty: it is there by birth, or by a limit.
  [[nodiscard]] std::string const& to_join() const { return made_; }
  /// True: what is in it runs only when nobody else wants to, and whoever wakes up interrupts it at
  /// once. False if that could not be written. Takes effect at once for all in it.
  bool set_idle(bool idle) const;

 private:
  CpuGroup(std::string switch_path, std::string made);

  std::string switch_;
  std::string made_;
};

}  // namespace aether::supervise
