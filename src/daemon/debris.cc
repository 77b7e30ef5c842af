// SPDX-License-Identifier: Apache-2.0
#include "daemon/debris.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/log.h"
#include "os/child.h"
#include "os/file.h"
#include "os/proc.h"
#include "supervise/left_groups.h"
#include "supervise/tree.h"

namespace aether::daemon {
namespace {

/// For a killed process to be gone; only one in uninterruptible sleep takes longer.
constexpr std::chrono::milliseconds kEnd{2000};
/// For a process that is just being executed to have its environment. On a busy machine one that
/// was given a low priority is long about it.
constexpr int kExecuteTries = 100;
constexpr int kExecutePauseMs = 10;
/// Only what was started so shortly before us can still be: a minute, in clock ticks.
constexpr std::uint64_t kYoungTicks = 60 * 100;
/// An environment longer than this is not looked into.
constexpr std::size_t kEnvironmentMax = std::size_t{1} << 20;
/// Nine bytes for each earlier Aether some of whose groups are left.
constexpr std::size_t kTagsMax = 4096;
/// Together 200 ms for killed processes to leave their groups.
constexpr int kGroupTries = 20;
constexpr int kGroupPauseMs = 10;

enum class Origin : std::uint8_t { Others, Ours, Unknown };

/// Ours was given a notify socket in the folder. While a process is executed it has no environment
/// for a moment; that some have none for ever is why only young ones are Unknown.
Origin origin_of(pid_t pid, std::string const& folder) {
  auto const environment = os::read_file(fmt::format("/proc/{}/environ", pid), kEnvironmentMax);
  if (!environment) return Origin::Others;
  if (environment->empty()) {
    auto const process = os::read_process(pid);
    auto const own_start = os::read_start_ticks(::getpid()).value_or(0);
    bool const young = process && process->start_ticks + kYoungTicks > own_start;
    // Threads of the kernel are children of the number 2.
    return young && !process->ended() && process->parent != 2 ? Origin::Unknown : Origin::Others;
  }
  std::string const entry = fmt::format("NOTIFY_SOCKET={}/", folder);
  bool const ours = environment->starts_with(entry) ||
                    environment->find(std::string(1, '\0') + entry) != std::string::npos;
  return ours ? Origin::Ours : Origin::Others;
}

bool is_of(pid_t pid, std::string const& folder) {
  Origin origin = origin_of(pid, folder);
  for (int i = 0; origin == Origin::Unknown && i < kExecuteTries; ++i) {
    (void)::poll(nullptr, 0, kExecutePauseMs);
    origin = origin_of(pid, folder);
  }
  return origin == Origin::Ours;
}

}  // namespace

Result<std::size_t> end_debris(std::string const& folder) {
  TRY_ASSIGN(std::vector<pid_t> const pids, os::list_pids());
  std::vector<os::Child> killed;
  for (pid_t const pid : pids) {
    if (pid == ::getpid() || !is_of(pid, folder)) continue;
    auto held = os::Child::adopt(pid);
    // Looked at again, now that the number cannot become another's.
    if (!held || !is_of(pid, folder)) continue;
    log::warn("process {} ({}) was left by an Aether that is gone; it is ended", pid,
              os::read_comm(pid));
    TRY(held->signal(SIGKILL));
    killed.push_back(std::move(*held));
  }
  for (os::Child const& one : killed) {
    pollfd ended{.fd = one.pidfd(), .events = POLLIN, .revents = 0};
    if (::poll(&ended, 1, static_cast<int>(kEnd.count())) != 1) {
      return fail(ErrorCode::Timeout,
                  fmt::format("process {} of an earlier Aether does not end", one.pid()));
    }
  }
  return killed.size();
}

void remove_old_groups(std::string const& folder) {
  std::string const path = folder + "/groups";
  std::string next = supervise::own_tag() + "\n";
  std::size_t removed = 0;
  std::istringstream earlier(os::read_file(path, kTagsMax).value_or(""));
  for (std::string tag; std::getline(earlier, tag);) {
    supervise::LeftGroups left = supervise::remove_left_groups(tag);
    removed += left.removed;
    for (int i = 0; left.kept > 0 && i < kGroupTries; ++i) {
      (void)::poll(nullptr, 0, kGroupPauseMs);
      left = supervise::remove_left_groups(tag);
      removed += left.removed;
    }
    if (left.kept > 0) next += tag + "\n";
  }
  if (removed > 0) log::info("{} control groups of an Aether that is gone were removed", removed);
  std::ofstream file(path, std::ios::trunc);
  file << next;
  if (!file.flush()) log::warn("{} cannot be written: control groups may stay behind", path);
}

}  // namespace aether::daemon
