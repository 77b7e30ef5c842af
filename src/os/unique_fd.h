// SPDX-License-Identifier: Apache-2.0
// UniqueFd: one file descriptor, owned. Every descriptor in Aether is close-on-exec from birth, so
// that no child sees one that was not given to it by name.
#pragma once
#include <utility>

#include "base/result.h"

namespace aether::os {

/// Owns a descriptor and closes it. Move only. Not thread-safe.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  /// The number, -1 if empty. Borrowed: valid while this object keeps it.
  [[nodiscard]] int get() const noexcept { return fd_; }
  /// Gives the descriptor away: the caller closes it.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  /// Closes what is held (errno stays as it was, so that this is safe in an error path) and takes
  /// fd.
  void reset(int fd = -1) noexcept;
  explicit operator bool() const noexcept { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Another descriptor for the same open file, close-on-exec and numbered 10 or more, so that low
/// numbers stay free for what children are given. `fd` is borrowed.
[[nodiscard]] Result<UniqueFd> duplicate(int fd);

/// Opens /dev/null on whichever of 0, 1 and 2 is closed, so that no listener or file of ours ever
/// gets one of these numbers. For the first lines of main.
Status fill_standard_fds();

}  // namespace aether::os
