// SPDX-License-Identifier: Apache-2.0
#include "os/reap.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "os/file.h"
#include "os/proc.h"

namespace aether::os {
namespace {

/// Of one thread: a hundred thousand numbers.
constexpr std::size_t kChildrenMax = std::size_t{1} << 20;

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

/// The children of all our threads, from /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN); none
/// where the kernel does not list them.
std::optional<std::vector<pid_t>> list_children() {
  std::vector<pid_t> children;
  std::error_code ec;
  std::filesystem::directory_iterator task("/proc/self/task", ec);
  for (std::filesystem::directory_iterator const end; !ec && task != end; task.increment(ec)) {
    auto const list = read_file(task->path().string() + "/children", kChildrenMax);
    if (!list) return std::nullopt;
    char const* at = list->data();
    char const* const past = at + list->size();
    while (at < past) {
      pid_t child = 0;
      auto const [next, error] = std::from_chars(at, past, child);
      if (error == std::errc()) children.push_back(child);
      at = std::max(next, at) + 1;
    }
  }
  if (ec) return std::nullopt;
  return children;
}

/// As list_children(), from all processes there are: a hundred times as long.
Result<std::vector<pid_t>> find_children() {
  TRY_ASSIGN(std::vector<ProcessInfo> const processes, read_all_processes());
  std::vector<pid_t> children;
  for (ProcessInfo const& process : processes)
    if (process.parent == ::getpid() && process.ended()) children.push_back(process.pid);
  return children;
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
  // in another way. Owners take theirs within a turn of the loop; but a process that a thread of
  // ours traces and that stands still, as the template of a function does, is shown for as long as
  // it lives.
  std::optional<std::vector<pid_t>> children = list_children();
  if (!children) {
    TRY_ASSIGN(children, find_children());
  }
  for (pid_t const child : *children) {
    if (is_known(child)) continue;
    if (auto one = reap_one(child)) reaped.push_back(*one);
  }
  return reaped;
}

}  // namespace aether::os
