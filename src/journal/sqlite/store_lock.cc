// SPDX-License-Identifier: Apache-2.0
#include "journal/sqlite/store_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace aether::journal {
namespace {

/// The pid that the holder wrote, or words for "it has not yet".
std::string holder_of(int fd) {
  char text[32] = {};
  ssize_t const size = ::pread(fd, text, sizeof text - 1, 0);
  std::string pid(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  while (pid.ends_with('\n')) pid.pop_back();
  return pid.empty() ? "that starts just now" : pid;
}

}  // namespace

Result<StoreLock> StoreLock::take(std::string const& store_path) {
  std::string const path = store_path + ".lock";
  os::UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) {
    return fail(ErrorCode::StoreUnavailable,
                fmt::format("opening {}, which guards the store {}", path, store_path), errno);
  }
  // Of the open file, not of the process: closing another descriptor of it does not end the lock.
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) {
      return fail(ErrorCode::StoreUnavailable, fmt::format("locking {}", path), errno);
    }
    return fail(ErrorCode::StoreInUse, fmt::format("the store {} is in use by process {}",
                                                   store_path, holder_of(file.get())));
  }
  std::string const pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(file.get(), 0) != 0 ||
      ::pwrite(file.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return fail(errno == ENOSPC ? ErrorCode::StoreFull : ErrorCode::StoreUnavailable,
                fmt::format("writing our pid to {}", path), errno);
  }
  return StoreLock(std::move(file));
}

}  // namespace aether::journal
