// SPDX-License-Identifier: Apache-2.0
#include "daemon/debris.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/log.h"
#include "os/child.h"
#include "os/file.h"
#include "os/proc.h"

namespace aether::daemon {
namespace {

/// For a killed process to be gone; only one in uninterruptible sleep takes longer.
constexpr std::chrono::milliseconds kEnd{2000};
/// An environment longer than this is not looked into.
constexpr std::size_t kEnvironmentMax = std::size_t{1} << 20;

/// Whether the process was given a notify socket in the folder, as all of ours are.
bool is_of(pid_t pid, std::string const& folder) {
  auto const environment = os::read_file(fmt::format("/proc/{}/environ", pid), kEnvironmentMax);
  if (!environment) return false;
  std::string const entry = fmt::format("NOTIFY_SOCKET={}/", folder);
  return environment->starts_with(entry) ||
         environment->find(std::string(1, '\0') + entry) != std::string::npos;
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

}  // namespace aether::daemon
