// SPDX-License-Identifier: Apache-2.0
#include "os/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
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
  while (::waitid(type, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) != 0) {
    if (errno != EINTR) return fail(system_error("waitid for process", std::to_string(pid_)));
  }
  if (info.si_pid == 0) return std::nullopt;
  if (info.si_code == CLD_EXITED) {
    status_ = ExitStatus{.code = info.si_status};
  } else {
    status_ = ExitStatus{.signal = info.si_status, .core_dumped = info.si_code == CLD_DUMPED};
  }
  return status_;
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
