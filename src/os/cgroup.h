// SPDX-License-Identifier: Apache-2.0
// Cgroup: a leaf in the cgroup v2 tree for one instance, so that its whole process tree can be
// listed and killed, whatever it forked. Best effort: needs a writable cgroup v2 (as root, or a
// delegated folder); without it os/process_tree.h finds the tree by other marks.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "os/unique_fd.h"

namespace aether::os {

/// One cgroup v2 folder below our own cgroup, owned: removed on destruction if it is empty. Move
/// only. Blocking calls are short (a few system calls), except wait_empty.
class Cgroup {
 public:
  /// Makes `<our cgroup>/<name>`; characters other than [A-Za-z0-9._-] become '_'. A left-over of
  /// that name is used again if it is empty. Unsupported if there is no cgroup v2 we may write to.
  static Result<Cgroup> create(std::string_view name);

  Cgroup(Cgroup&& other) noexcept;
  Cgroup& operator=(Cgroup&& other) noexcept;
  ~Cgroup();

  /// For SpawnSpec::cgroup. Borrowed.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// The folder in the file system.
  [[nodiscard]] std::string const& path() const { return path_; }
  /// Live processes in it and in cgroups below it.
  [[nodiscard]] std::vector<pid_t> members() const;
  [[nodiscard]] bool contains(pid_t pid) const;
  /// True if a live process is in it or below it.
  [[nodiscard]] bool populated() const;
  /// Sends SIGKILL to every process in it, at once, forks in flight included (cgroup.kill, Linux
  /// 5.14; before that by freezing and killing one by one). Returns before they are gone.
  Status kill() const;
  /// Yes: nothing in it runs any more, as soon as each has left the kernel; SIGKILL still ends it.
  /// No: all go on. cgroup.freeze, Linux 5.2: SystemCall (ENOENT) before that.
  enum class Frozen : std::uint8_t { No, Yes };
  Status freeze(Frozen frozen) const;
  /// Each of them has left the kernel, and nothing of it runs.
  [[nodiscard]] bool is_frozen() const;
  /// Readable with POLLPRI when `populated` changes (cgroup.events). Borrowed; read it again from
  /// offset 0 to rearm.
  [[nodiscard]] int events_fd() const { return events_.get(); }
  /// Waits until nothing lives in it. Blocks: for shutdown and tests.
  [[nodiscard]] bool wait_empty(Duration patience) const;
  /// Removes the folder and what the tree made below it. EBUSY while something lives in it.
  Status remove();

 private:
  Cgroup(std::string path, std::string name, UniqueFd fd);
  Status kill_one_by_one() const;
  [[nodiscard]] bool has_event(std::string_view line) const;

  std::string path_;
  std::string name_;  ///< as /proc/PID/cgroup has it
  UniqueFd fd_;
  // Open from the beginning, so that a tree can be ended when there are no descriptors left.
  UniqueFd events_;
  UniqueFd kill_;  ///< Missing before Linux 5.14.
};

/// Our own cgroup v2 folder in the file system, e.g. "/sys/fs/cgroup/system.slice/aether.service".
/// Unsupported if no cgroup v2 is mounted.
[[nodiscard]] Result<std::string> own_cgroup_path();

}  // namespace aether::os
