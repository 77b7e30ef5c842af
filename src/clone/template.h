// SPDX-License-Identifier: Apache-2.0
// Template: a program that was started, made ready and then frozen, of which copies are made in
// about a millisecond: fork() for programs that know nothing of it. Each copy has its own memory
// (copied on write), threads, epolls, pipes, eventfds, timers and, if wished, TCP listeners;
// devices and what else has no owner are shared with the original, as after fork().
//
// The idea: SOCK's zygotes (Oakes et al., USENIX ATC 2018) and Catalyzer's sfork (Du et al., ASPLOS
// 2020), without the program's help, by ptrace as CRIU does for dumps.
//
// Thread: the one that called freeze(), for all calls; each blocks until `patience` is over at the
// longest. Who destroys a Template lets its program die: it is traced with PTRACE_O_EXITKILL and
// its owner ends it by its pidfd.
#pragma once
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "clone/rebuild.h"
#include "os/child.h"

namespace aether::clone {

struct CopyWishes {
  RebuildWishes files;
  /// Folder of a cgroup v2 that the copy lives in, from its birth if the original's user may write
  /// there. Borrowed. -1: the original's.
  int cgroup = -1;
  /// It dies with the thread that spawned the original (man 2 prctl, PR_SET_PDEATHSIG).
  bool ends_with_parent = true;
  /// From the call of copy() until it runs: over it the copy is killed, and the fault is Timeout.
  Duration patience = std::chrono::seconds(2);
};

struct Copied {
  /// Our child, as the original is. In a pid namespace of its own it is the original's, but its end
  /// is seen and its status had just the same. It leads a session, or a group, if the original
  /// does.
  os::Child child;
  /// Each TCP listener of the original, and where the copy's stands.
  std::vector<CopiedListener> listeners;
  /// Whether it was in its cgroup from birth. To be moved there takes the kernel 10 ms and more.
  bool born_in_cgroup = false;
};

class Template {
 public:
  /// Freezes a running child of ours, which should be at rest: every thread waiting. `reconnects`:
  /// unix sockets to which copies connect anew. Unsupported, with all reasons, if it cannot be
  /// copied; it runs on then. Timeout if it does not stand still in time.
  [[nodiscard]] static Result<Template> freeze(pid_t pid, std::vector<std::string> reconnects = {},
                                               Duration patience = std::chrono::seconds(5));
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  [[nodiscard]] pid_t pid() const;
  [[nodiscard]] std::size_t threads() const;
  /// Whether it is the first process of a pid namespace (SpawnSpec::new_pid_namespace). Its copies
  /// are so too, with the numbers that the program knows, and all of them die with it.
  [[nodiscard]] bool has_own_numbers() const;
  /// A running copy. The fault names the step; nothing is left of a copy that failed, nor of what
  /// the original did for it, and the next one may succeed, unless it is NotRunning: the original
  /// is gone. It is ended when it cannot be brought back to how it was.
  [[nodiscard]] Result<Copied> copy(CopyWishes const& wishes = {});
  /// False: it was killed. To be asked from time to time: the end of an original with several
  /// threads is not seen by its pidfd before this, or a copy, was asked for.
  [[nodiscard]] bool lives();
  /// The original runs on, as if it had never been stopped.
  Status thaw();

 private:
  struct State;
  explicit Template(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Why a process cannot be copied: all reasons, none if it can. It stands still meanwhile, and runs
/// on afterwards.
[[nodiscard]] Result<std::vector<std::string>> why_not(pid_t pid,
                                                       std::vector<std::string> reconnects = {});

/// Whether every thread of it waits for something at this moment: the time to freeze it.
[[nodiscard]] bool is_at_rest(pid_t pid);

}  // namespace aether::clone
