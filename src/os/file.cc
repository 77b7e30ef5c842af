// SPDX-License-Identifier: Apache-2.0
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include <fmt/format.h>

#include "os/unique_fd.h"

namespace aether::os {
namespace {

constexpr std::size_t kReadStep = 16 * 1024;

Status write_all(int fd, std::string_view content, std::string const& path) {
  while (!content.empty()) {
    ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(system_error("write", path));
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<std::string> read_file(std::string const& path, std::size_t bytes_max) {
  // O_NONBLOCK: opening a FIFO must not wait for its writer.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return fail(system_error("open", path));
  std::string content;
  while (true) {
    std::size_t before = content.size();
    content.resize(before + kReadStep);
    ssize_t count = ::read(fd.get(), content.data() + before, kReadStep);
    int reason = errno;
    content.resize(before + (count > 0 ? static_cast<std::size_t>(count) : 0));
    if (count < 0 && reason == EINTR) continue;
    if (count < 0) return fail(system_error_from(reason, "read", path));
    if (count == 0) return content;
    if (content.size() > bytes_max)
      return fail(ErrorCode::LimitReached,
                  fmt::format("{} is longer than {} bytes", path, bytes_max));
  }
}

Status write_file_atomically(std::string const& path, std::string_view content, mode_t mode) {
  std::string temporary = path + ".XXXXXX";
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return fail(system_error("create a temporary file beside", path));
  Status written = write_all(fd.get(), content, temporary);
  if (written && ::fchmod(fd.get(), mode) != 0) written = fail(system_error("fchmod", temporary));
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0)
    written = fail(system_error("rename to", path));
  if (!written) ::unlink(temporary.c_str());
  return written;
}

}  // namespace aether::os
