// SPDX-License-Identifier: Apache-2.0
#include "os/signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace aether::os {

Result<SignalFd> SignalFd::open(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (int signal : signals) ::sigaddset(&set, signal);
  if (int reason = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); reason != 0)
    return fail(system_error_from(reason, "block signals"));
  if (::sigismember(&set, SIGCHLD) == 1) {
    // Ends only: what a thread of ours traces stops many times a second.
    struct sigaction ends{};
    ends.sa_handler = SIG_DFL;
    ends.sa_flags = SA_NOCLDSTOP;
    ::sigaction(SIGCHLD, &ends, nullptr);
  }
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail(system_error("signalfd"));
  return SignalFd(std::move(fd));
}

Result<std::optional<SignalInfo>> SignalFd::read() const {
  signalfd_siginfo info{};
  ssize_t count = 0;
  do {
    count = ::read(fd_.get(), &info, sizeof(info));
  } while (count < 0 && errno == EINTR);
  if (count < 0 && errno == EAGAIN) return std::nullopt;
  if (count != static_cast<ssize_t>(sizeof(info))) return fail(system_error("read a signalfd"));
  return SignalInfo{.signal = static_cast<int>(info.ssi_signo),
                    .sender = static_cast<pid_t>(info.ssi_pid),
                    .sender_uid = info.ssi_uid};
}

Status block_all_early() {
  sigset_t set;
  ::sigfillset(&set);
  // Blocking these would turn a fault into an endless loop or an unexplained kill (man 7 signal).
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS})
    ::sigdelset(&set, fault);
  if (int reason = ::pthread_sigmask(SIG_SETMASK, &set, nullptr); reason != 0)
    return fail(system_error_from(reason, "block signals"));
  return {};
}

Status unblock_all() {
  sigset_t none;
  ::sigemptyset(&none);
  if (int reason = ::pthread_sigmask(SIG_SETMASK, &none, nullptr); reason != 0)
    return fail(system_error_from(reason, "unblock signals"));
  return {};
}

void ignore_sigpipe() {
  ::signal(SIGPIPE, SIG_IGN);
}

Status become_subreaper() {
  if (::getpid() == 1) return {};
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
    return fail(system_error("become a subreaper"));
  return {};
}

}  // namespace aether::os
