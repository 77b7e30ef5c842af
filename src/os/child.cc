// SPDX-License-Identifier: Apache-2.0
#include "os/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>

#include <fmt/format.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace aether::os {
namespace {

// Of linux/pidfd.h, which Debian 12 has not yet.
struct PidfdInfo {
  std::uint64_t mask = 0;
  std::uint64_t cgroup = 0;
  std::uint32_t numbers[11] = {};
  std::int32_t exit_code = 0;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr unsigned long kPidfdGetInfo = _IOWR(0xff, 11, PidfdInfo);
constexpr std::uint64_t kPidfdInfoExit = 1 << 3;

/// How a process ended whose zombie is gone, which its pidfd keeps since Linux 6.15. Nothing with
/// errno 0: it is not gone yet; with another errno: this kernel does not say.
std::optional<ExitStatus> kept_status(int pidfd) {
  PidfdInfo info{.mask = kPidfdInfoExit};
  errno = 0;
  if (::ioctl(pidfd, kPidfdGetInfo, &info) != 0) return std::nullopt;
  if ((info.mask & kPidfdInfoExit) == 0) return std::nullopt;
  int const status = info.exit_code;  // As of wait(2).
  if (WIFEXITED(status)) return ExitStatus{.code = WEXITSTATUS(status)};
  return ExitStatus{.signal = WTERMSIG(status),
                    .core_dumped = static_cast<bool>(WCOREDUMP(status))};
}

}  // namespace

std::string ExitStatus::describe() const {
  if (signal == 0) return fmt::format("exited with code {}", code);
  return fmt::format("was killed by signal {} ({}){}", signal, signal_name(signal),
                     core_dumped ? " and left a core dump" : "");
}

std::string signal_name(int signal) {
  if (char const* name = ::sigabbrev_np(signal)) return fmt::format("SIG{}", name);
  if (signal == SIGRTMIN) return "SIGRTMIN";
  if (signal > SIGRTMIN && signal <= SIGRTMAX) return fmt::format("SIGRTMIN+{}", signal - SIGRTMIN);
  return fmt::format("signal {}", signal);
}

std::optional<int> signal_number(std::string_view name) {
  int number = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error == std::errc() && end == name.data() + name.size())
    return number >= 1 && number <= SIGRTMAX ? std::optional(number) : std::nullopt;
  if (name.starts_with("SIG")) name.remove_prefix(3);
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    if (std::string_view(signal_name(signal)).substr(3) == name) return signal;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> pidfd_id(int pidfd) {
  constexpr std::uint64_t kPidfsMagic = 0x50494446;  // PID_FS_MAGIC of linux/magic.h
  struct statfs system{};
  struct stat file{};
  if (::fstatfs(pidfd, &system) != 0 || ::fstat(pidfd, &file) != 0) return std::nullopt;
  if (static_cast<std::uint64_t>(system.f_type) != kPidfsMagic) return std::nullopt;
  return file.st_ino;
}

Result<Child> Child::adopt(pid_t pid) {
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return fail(system_error("pidfd_open of process", std::to_string(pid)));
  return Child(pid, std::move(pidfd));
}

Status Child::signal(int signal) const {
  if (status_) return {};
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) == 0) return {};
  if (errno == ESRCH) return {};
  return fail(system_error("send", fmt::format("{} to process {}", signal_name(signal), pid_)));
}

Result<std::optional<ExitStatus>> Child::try_reap() {
  if (status_) return status_;
  siginfo_t info{};
  auto type = static_cast<idtype_t>(P_PIDFD);
  // A stop of a child that one of our threads traces is shown although only ends are asked for:
  // looked at first (WNOWAIT), because to take it would leave that thread waiting for ever.
  while (::waitid(type, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
    if (errno == ECHILD) return status_of_stranger();
    if (errno != EINTR) return fail(system_error("waitid for process", std::to_string(pid_)));
  }
  if (info.si_pid == 0 || info.si_code == CLD_TRAPPED) return std::nullopt;
  (void)::waitid(type, static_cast<id_t>(pidfd_.get()), nullptr, WEXITED | WNOHANG);
  if (info.si_code == CLD_EXITED) {
    status_ = ExitStatus{.code = info.si_status};
  } else {
    status_ = ExitStatus{.signal = info.si_status, .core_dumped = info.si_code == CLD_DUMPED};
  }
  return status_;
}

Result<std::optional<ExitStatus>> Child::status_of_stranger() {
  // Who takes its status is at it, once its end can be seen.
  constexpr int kReapingMs = 100;
  pollfd seen{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&seen, 1, 0) <= 0) return std::nullopt;
  status_ = kept_status(pidfd_.get());
  if (!status_ && errno == 0) {
    pollfd reaped{.fd = pidfd_.get(), .events = 0, .revents = 0};
    (void)::poll(&reaped, 1, kReapingMs);
    status_ = kept_status(pidfd_.get());
  }
  if (status_) return status_;
  return fail(system_error_from(ECHILD, "waitid for process", std::to_string(pid_)));
}

Result<std::optional<ExitStatus>> Child::reap_within(Duration patience) {
  Instant const deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    int ready = ::poll(&wait, 1, left.count() > 0 ? static_cast<int>(left.count()) : 0);
    if (ready < 0 && errno != EINTR) return fail(system_error("poll of a pidfd"));
    if (ready > 0 || left.count() <= 0) return try_reap();
  }
}

}  // namespace aether::os
