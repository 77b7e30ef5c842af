// SPDX-License-Identifier: Apache-2.0
// Process trees: which processes belong to an instance, and how to end all of them. Parents die and
// their children are adopted, daemons leave their session; so a process belongs if any mark of the
// instance is on it: its cgroup, its session, its line of parents, or the instance's entry in
// its environment.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "os/cgroup.h"

namespace aether::os {

/// The marks of one instance. Empty ones are not looked at. End a tree before its root is reaped:
/// only then is the session's number certainly not a stranger's.
struct TreeMarks {
  pid_t root = 0;     ///< the spawned process, as long as it has not been reaped; 0: none
  pid_t session = 0;  ///< with SpawnSpec::new_session the root's pid; looked at only while the
                      ///< session's leader is our own child, running or not yet reaped; 0: none
  std::string environment;  ///< "AETHER_INSTANCE_ID=…": the value must be unique on the machine
  Cgroup const* cgroup =
      nullptr;  ///< borrowed; when given it alone decides: nobody leaves it by accident
};

/// All live descendants of a process, without itself, parents before children. Orphans that were
/// adopted away are not among them.
[[nodiscard]] Result<std::vector<pid_t>> descendants(pid_t root);
/// True if pid is root, or a descendant of it by the line of parents.
[[nodiscard]] bool belongs_to(pid_t pid, pid_t root);
/// True if any mark is on the process.
[[nodiscard]] bool belongs_to(pid_t pid, TreeMarks const& marks);
/// All live processes that carry a mark or descend from one that does, root included. Zombies are
/// left out. Reads all of /proc unless there is a cgroup: milliseconds on a busy machine.
[[nodiscard]] Result<std::vector<pid_t>> tree_members(TreeMarks const& marks);
/// Whether none of them lives. An error is no "yes": without descriptors /proc cannot be read.
[[nodiscard]] Result<bool> is_tree_empty(TreeMarks const& marks);

/// Sends a signal to every member once, each held by a pidfd and checked again before it is sent.
Status signal_tree(TreeMarks const& marks, int signal);
/// SIGKILLs every member, again and again until none is left (a tree may fork while it is killed).
/// Does not reap: the caller's children stay as zombies. Never touches this process. Blocks at most
/// `patience`; Timeout names who is left (only a process in uninterruptible sleep can be).
Status kill_tree(TreeMarks const& marks, Duration patience = std::chrono::seconds(2));

}  // namespace aether::os
