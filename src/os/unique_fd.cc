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

}  // namespace aether::os
