// SPDX-License-Identifier: Apache-2.0
// Template: a program that was started, made ready and then frozen, of which copies are made in
// about a millisecond: fork() for programs that know nothing of it. Each copy has its own memory
// (copied on write), threads, epolls, pipes, eventfds and timers; listeners and devices are shared
// with the original, as after fork().
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
  Duration patience = std::chrono::seconds(2);
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
  /// A running copy: our child, as the original is. The fault names the step; nothing is left of a
  /// copy that failed.
  [[nodiscard]] Result<os::Child> copy(CopyWishes const& wishes = {});
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

}  // namespace aether::clone
