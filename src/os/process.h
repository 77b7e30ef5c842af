// SPDX-License-Identifier: Apache-2.0
// spawn: starts a program with exactly the descriptors, environment, rights and signals it is told
// to have, and nothing else of ours. It never copies a big parent: the child borrows our memory
// until it executes (CLONE_VM|CLONE_VFORK), so the time does not grow with our size.
#pragma once
#include <sys/resource.h>
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "os/child.h"
#include "os/sandbox.h"
#include "os/unique_fd.h"

namespace aether::os {

/// Child descriptor `target` becomes a duplicate of our `source`. Both lists may overlap in any
/// way, and source == target is fine. `source` is borrowed for the call.
struct ChildFd {
  int source = -1;
  int target = -1;
  bool operator==(ChildFd const&) const = default;
};

/// Who the child is. All three ids (real, effective, saved) are set; `groups` replaces ours.
struct Credentials {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
  std::string name;  ///< login name, empty if the uid has none
  std::string home;  ///< home folder, empty if unknown
  bool operator==(Credentials const&) const = default;
};
/// "alice", "alice:staff", "1000", "1000:1000" through the system's user database. UserUnknown if
/// there is none such. May read files or ask the network (NSS): call it at load time.
[[nodiscard]] Result<Credentials> find_credentials(std::string_view user);

/// One resource limit, as `man 2 setrlimit` numbers and counts it.
struct ResourceLimit {
  int resource = 0;
  rlim_t soft = RLIM_INFINITY;
  rlim_t hard = RLIM_INFINITY;
};

/// All that makes a process. Borrows nothing beyond the call of spawn().
struct SpawnSpec {
  std::vector<std::string> argv;         ///< argv[0] without '/' is looked up in the child's PATH
  std::vector<std::string> environment;  ///< "NAME=value", complete: nothing of ours is added
  std::vector<ChildFd> fds;              ///< 0 is /dev/null, 1 and 2 are ours, unless given here
  std::string workdir;                   ///< empty: ours
  std::optional<Credentials> user;       ///< nullopt: ours
  int cgroup = -1;                       ///< folder of a cgroup v2 to start in; -1: ours. Borrowed.
  bool new_session = true;               ///< setsid(): own session, group, and no terminal
  bool new_pid_namespace = false;        ///< it is process 1 of a namespace (man 7 pid_namespaces):
                                         ///< its tree dies with it; signals it has no handler for
                                         ///< do not end it, but SIGKILL. Needs CAP_SYS_ADMIN
  bool set_listen_pid = false;           ///< LISTEN_PID=<the child's own pid> (man 3 sd_listen_fds)
                                         ///< and LISTEN_PIDFDID, where pidfd_id() is known
  bool set_watchdog_pid = false;         ///< WATCHDOG_PID, likewise (man 3 sd_watchdog_enabled)
  std::vector<ResourceLimit> limits;
  SandboxSpec sandbox = {};  ///< taken on last, for life
};

/// Starts the program and returns when it has been executed: success means that execve() succeeded.
/// The child has default signal dispositions, an empty mask, no other descriptor, and no
/// controlling terminal. Errors: CommandNotFound, CommandNotExecutable, WorkdirInvalid, UserUnknown
/// (rights to become that user are missing), Unsupported (the kernel lacks what the sandbox needs),
/// SpawnFailed; each with what to do. Nothing is left behind then.
[[nodiscard]] Result<Child> spawn(SpawnSpec const& spec);

/// Where spawn() would find `argv0`: an absolute path, or a path with '/' relative to `workdir` as
/// given. Only looks; errors as spawn(). For preflight.
[[nodiscard]] Result<std::string> find_command(std::string_view argv0,
                                               std::vector<std::string> const& environment,
                                               std::string const& workdir);

}  // namespace aether::os
