// SPDX-License-Identifier: Apache-2.0
#include "os/reap.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "os/proc.h"

namespace aether::os {
namespace {

ExitStatus status_of(siginfo_t const& info) {
  if (info.si_code == CLD_EXITED) return {.code = info.si_status};
  return {.signal = info.si_status, .core_dumped = info.si_code == CLD_DUMPED};
}

/// Takes the status of one child if it has ended. Its number cannot be reused before that.
std::optional<Reaped> reap_one(pid_t pid) {
  siginfo_t info{};
  auto const id = static_cast<id_t>(pid);
  if (::waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return std::nullopt;
  if (info.si_pid == 0 || info.si_code == CLD_TRAPPED) return std::nullopt;
  (void)::waitid(P_PID, id, nullptr, WEXITED | WNOHANG);
  return Reaped{.pid = pid, .status = status_of(info)};
}

/// The next ended child, left as it is (WNOWAIT); 0 if there is none. May be one that a thread of
/// ours traces and that only stands still.
Result<pid_t> peek_ended() {
  siginfo_t info{};
  while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
    if (errno == ECHILD) return 0;
    if (errno != EINTR) return fail(system_error("waitid for any child"));
  }
  return info.si_pid;
}

}  // namespace

Result<std::vector<Reaped>> reap_orphans(std::function<bool(pid_t)> const& is_known) {
  std::vector<Reaped> reaped;
  while (true) {
    TRY_ASSIGN(pid_t const ended, peek_ended());
    if (ended == 0) return reaped;
    if (is_known(ended)) break;
    auto const one = reap_one(ended);
    if (!one) break;
    reaped.push_back(*one);
  }
  // waitid shows the same one again until its owner takes it, so those behind it must be found
  // in another way. Rare: owners take theirs within a turn of the loop.
  TRY_ASSIGN(std::vector<ProcessInfo> const processes, read_all_processes());
  pid_t const self = ::getpid();
  for (ProcessInfo const& process : processes) {
    if (process.parent != self || !process.ended() || is_known(process.pid)) continue;
    if (auto one = reap_one(process.pid)) reaped.push_back(*one);
  }
  return reaped;
}

}  // namespace aether::os
