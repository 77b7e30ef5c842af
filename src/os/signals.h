// SPDX-License-Identifier: Apache-2.0
// Signals as events. PID 1 loses every signal that it neither handles nor blocks (man 7 signal), so
// Aether blocks all of them first thing and reads the ones it wants from a descriptor.
#pragma once
#include <sys/types.h>

#include <initializer_list>
#include <optional>
#include <utility>

#include "base/result.h"
#include "os/unique_fd.h"

namespace aether::os {

/// One signal that arrived. Several of one kind may have become one (man 7 signal).
struct SignalInfo {
  int signal = 0;
  pid_t sender = 0;
  uid_t sender_uid = 0;
};

/// Blocks a set of signals in the calling thread and reads them from a non-blocking descriptor.
class SignalFd {
 public:
  /// Call before other threads start: they inherit the mask. The mask stays when this is destroyed.
  static Result<SignalFd> open(std::initializer_list<int> signals);
  /// Readable when one waits. Borrowed.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// The next one, nullopt if none waits.
  [[nodiscard]] Result<std::optional<SignalInfo>> read() const;

 private:
  explicit SignalFd(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

/// Blocks every signal but those that mean a fault in this thread (SEGV, BUS, FPE, ILL, TRAP, ABRT,
/// SYS). The first call in main: nothing that arrives later is lost. spawn() undoes it for
/// children.
Status block_all_early();
/// For a process that has no more to do with services, e.g. one that only waits for its child.
Status unblock_all();
/// Ignores SIGPIPE in this process: a peer that went away is an EPIPE. spawn() undoes it for
/// children.
void ignore_sigpipe();
/// Orphans of our descendants become our children (PR_SET_CHILD_SUBREAPER), as they are PID 1's.
Status become_subreaper();

}  // namespace aether::os
