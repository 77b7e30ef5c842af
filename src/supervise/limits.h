// SPDX-License-Identifier: Apache-2.0
// LimitSet: the resource limits of one instance: rlimits for what a process may have, control
// groups for what the whole tree may have. A limit that this machine cannot hold is named in a
// warning, never dropped in silence.
#pragma once
#include <sys/types.h>

#include <cstdint>
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

/// Our own folder in the v1 hierarchy of a controller; empty if there is none we may write to.
[[nodiscard]] std::string v1_folder(std::string_view controller);

/// Puts processes into a v1 group; their later children are in it by birth. Blocks for as long as
/// the kernel waits for a grace period, about 10 ms: not for the loop's thread.
void put_into(std::string const& folder, std::span<pid_t const> pids);

class LimitSet {
 public:
  /// Prepares control groups for memory, processes and cpu: in `cgroup` (v2; may be null) if it has
  /// the controller, else in a v1 hierarchy. `name` names them.
  static LimitSet create(config::Limits const& limits, os::Cgroup const* cgroup,
                         std::string const& name);
  LimitSet(LimitSet&&) noexcept = default;
  LimitSet& operator=(LimitSet&&) = delete;
  ~LimitSet();  ///< Removes the v1 groups that are empty.

  /// One sentence for each limit that cannot be held, naming its key.
  [[nodiscard]] std::vector<std::string> const& warnings() const { return warnings_; }
  /// v1 groups made by this set, into which the processes have to be put.
  [[nodiscard]] std::vector<std::string> const& folders() const { return folders_; }
  /// How often the kernel ended a process for the memory limit (memory.events, memory.oom_control);
  /// 0 if that cannot be read.
  [[nodiscard]] std::uint64_t memory_kills() const;
  /// The one among them that counts time on the processors; empty: none.
  [[nodiscard]] std::string const& cpu_folder() const { return cpu_folder_; }

 private:
  LimitSet() = default;
  struct Knob;
  void set(Knob const& knob, os::Cgroup const* cgroup, std::string const& name);

  std::vector<std::string> folders_;
  std::string cpu_folder_;
  std::string memory_events_;  ///< The file with the count of kills; empty: no such limit.
  std::vector<std::string> warnings_;
};

}  // namespace aether::supervise
