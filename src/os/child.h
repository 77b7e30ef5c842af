// SPDX-License-Identifier: Apache-2.0
// Child: a process held by its pidfd. It is never signalled by number, because a number may belong
// to a stranger by the time the signal arrives (man 2 pidfd_send_signal).
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "base/time.h"
#include "os/unique_fd.h"

namespace aether::os {

/// How a process ended: by exit(code), or by a signal.
struct ExitStatus {
  int code = 0;              ///< exit code; meaningful if signal is 0
  int signal = 0;            ///< signal that ended it, 0 if it exited
  bool core_dumped = false;  ///< meaningful if signal is not 0

  bool operator==(ExitStatus const&) const = default;
  [[nodiscard]] bool success() const { return code == 0 && signal == 0; }
  /// What a shell would report: the code, or 128 + signal.
  [[nodiscard]] int shell_code() const { return signal != 0 ? 128 + signal : code; }
  /// "exited with code 3", "was killed by signal 9 (SIGKILL)".
  [[nodiscard]] std::string describe() const;
};

/// "SIGTERM", "SIGRTMIN+1", or "signal 99".
[[nodiscard]] std::string signal_name(int signal);
/// "SIGTERM", "TERM", "15" to the number; nullopt if there is none such.
[[nodiscard]] std::optional<int> signal_number(std::string_view name);

/// The number that no other process has or had since boot: the inode of a pidfd where the kernel
/// has a file system for them (pidfs, Linux 6.9); nullopt elsewhere. `pidfd` is borrowed.
[[nodiscard]] std::optional<std::uint64_t> pidfd_id(int pidfd);

/// One process, owned in the sense that nobody else reaps it (see reap.h). Move only, one thread.
/// Destruction closes the pidfd and leaves the process alone: to end it is its owner's decision.
class Child {
 public:
  Child(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  /// Holds a running process by number, as soon as possible after learning the number.
  static Result<Child> adopt(pid_t pid);

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Readable (poll, epoll) from the moment the process has ended. Borrowed.
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }
  [[nodiscard]] UniqueFd take_pidfd() && { return std::move(pidfd_); }

  /// Sends a signal. A process that has ended already is no error: there is nobody to tell.
  Status signal(int signal) const;
  /// The status if the process has ended (the same one every time), nullopt while it runs. Never
  /// blocks. Of one that is not our child, or that somebody else has reaped, the status is told
  /// where the kernel keeps it (Linux 6.15); elsewhere SystemCall with ECHILD once it has ended.
  Result<std::optional<ExitStatus>> try_reap();
  /// As try_reap, but waits. Blocks the thread: for tools and tests, never for the loop.
  Result<std::optional<ExitStatus>> reap_within(Duration patience);

 private:
  Result<std::optional<ExitStatus>> status_of_stranger();
  pid_t pid_;
  UniqueFd pidfd_;
  std::optional<ExitStatus> status_;
};

}  // namespace aether::os
