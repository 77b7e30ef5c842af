// SPDX-License-Identifier: Apache-2.0
#include "os/requirements.h"

#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "os/child.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace aether::os {

Status check_proc() {
  std::array<char, 32> text{};
  ssize_t const length = ::readlink("/proc/self", text.data(), text.size());
  if (length <= 0)
    return fail(ErrorCode::Unsupported,
                "/proc is not mounted, and the processes of a service could not be found; mount it "
                "before Aether starts: mount -t proc proc /proc",
                errno);
  std::string_view const shown(text.data(), static_cast<std::size_t>(length));
  if (shown == fmt::to_string(::getpid())) return {};
  return fail(ErrorCode::Unsupported,
              fmt::format("/proc belongs to another PID namespace: it calls this process {}, which "
                          "has the number {} for itself; mount one of this namespace before Aether "
                          "starts: mount -t proc proc /proc (unshare --mount-proc does)",
                          shown, ::getpid()));
}

Status check_pidfd() {
  auto const refuse = [](std::string_view call, int reason) {
    return fail(ErrorCode::Unsupported,
                fmt::format("{} does not work: {}; Aether needs Linux 5.4 or newer, or a sandbox "
                            "that allows it",
                            call, system_error_from(reason, call).message()),
                reason);
  };
  auto const self = Child::adopt(::getpid());
  if (!self) return refuse("pidfd_open", self.error().errno_value());
  if (::syscall(SYS_pidfd_send_signal, self->pidfd(), 0, nullptr, 0) != 0)
    return refuse("pidfd_send_signal", errno);
  siginfo_t info{};
  // We are no child of ours: any other answer than that means that the kernel did not understand.
  auto const held = static_cast<id_t>(self->pidfd());
  if (::waitid(static_cast<idtype_t>(P_PIDFD), held, &info, WEXITED | WNOHANG) != 0 &&
      errno != ECHILD)
    return refuse("waitid(P_PIDFD)", errno);
  return {};
}

Status check_requirements() {
  TRY(check_proc());
  return check_pidfd();
}

}  // namespace aether::os
