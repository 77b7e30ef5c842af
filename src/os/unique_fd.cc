// SPDX-License-Identifier: Apache-2.0
#include "os/unique_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "base/check.h"

namespace aether::os {
namespace {
// What children are given starts at 3 and is rarely more than a handful.
constexpr int kLowestDuplicate = 10;
}  // namespace

void UniqueFd::reset(int fd) noexcept {
  int old = std::exchange(fd_, fd);
  if (old < 0) return;
  int saved = errno;
  // EBADF means that somebody closed a descriptor that we own, and that the number may be another
  // file's by now: a bug that must not live on. On EINTR Linux has closed it (man 2 close).
  if (::close(old) != 0) AETHER_CHECK(errno != EBADF, "descriptor {} was closed behind us", old);
  errno = saved;
}

Result<UniqueFd> duplicate(int fd) {
  int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, kLowestDuplicate);
  if (copy < 0) return fail(system_error("duplicate descriptor", std::to_string(fd)));
  return UniqueFd(copy);
}

Status fill_standard_fds() {
  for (int wanted : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(wanted, F_GETFD) >= 0) continue;
    // The lowest free number is `wanted`, since those below it are open (man 2 open). Without
    // close-on-exec, as standard descriptors are.
    int const fd = ::open("/dev/null", O_RDWR);  // NOLINT(android-cloexec-open)
    if (fd != wanted)
      return fail(system_error("open /dev/null as descriptor", std::to_string(wanted)));
  }
  return {};
}

}  // namespace aether::os
