// SPDX-License-Identifier: Apache-2.0
// LimitSet: the resource limits of one instance: rlimits for what a process may have, control
// groups for what the whole tree may have. A limit that this machine cannot hold is named in a
// warning, never dropped in silence.
#pragma once
#include <sys/types.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "os/cgroup.h"
#include "os/process.h"

namespace aether::supervise {

/// RLIMIT_NOFILE and RLIMIT_CORE, for SpawnSpec::limits. The hard limit is kept where it is lower
/// than ours and may not be raised.
[[nodiscard]] std::vector<os::ResourceLimit> resource_limits(config::Limits const& limits);

class LimitSet {
 public:
  /// Prepares control groups for memory, processes and cpu: in `cgroup` (v2; may be null) if it has
  /// the controller, else in a v1 hierarchy. `name` names them.
  static LimitSet create(config::Limits const& limits, os::Cgroup const* cgroup,
                         std::string const& name);
  LimitSet(LimitSet&&) noexcept = default;
  LimitSet& operator=(LimitSet&&) = delete;
  ~LimitSet();  ///< Removes the v1 groups that are empty.

  /// Puts processes under the limits. Their later children are under them by birth.
  void hold(std::span<pid_t const> pids) const;
  /// One sentence for each limit that cannot be held, naming its key.
  [[nodiscard]] std::vector<std::string> const& warnings() const { return warnings_; }
  /// v1 groups made by this set.
  [[nodiscard]] std::vector<std::string> const& folders() const { return folders_; }

 private:
  LimitSet() = default;
  struct Knob;
  void set(Knob const& knob, os::Cgroup const* cgroup, std::string const& name);

  std::vector<std::string> folders_;
  std::vector<std::string> warnings_;
};

}  // namespace aether::supervise
