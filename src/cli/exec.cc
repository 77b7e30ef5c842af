// SPDX-License-Identifier: Apache-2.0
// exec: for programs started through a wrapper. sh, npm and the like change the pid, and a program
// takes LISTEN_FDS only if LISTEN_PID is its own (man 3 sd_listen_fds).
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "cli/commands.h"

namespace aether::cli {

namespace {

constexpr int kFirstListener = 3;  ///< SD_LISTEN_FDS_START.

/// Whether what LISTEN_FDS announces is here. node and npm close it to what they start; their child
/// would take some other file of its own for the listener, and fail in a way that explains nothing.
Status check_passed_on(char const* announced) {
  int const count = std::atoi(announced);
  for (int fd = kFirstListener; fd < kFirstListener + count; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    return fail(Error(ErrorCode::CommandNotExecutable,
                      fmt::format("LISTEN_FDS announces {} descriptors from 3 on, but {} is not "
                                  "open: what started `aether exec` closed it (node and npm do). "
                                  "Start the program itself as the service's command",
                                  count, fd)));
  }
  return {};
}

}  // namespace

Result<int> exec(Globals const&, std::vector<std::string> const& command) {
  std::string const pid = fmt::to_string(::getpid());
  if (char const* const announced = std::getenv("LISTEN_FDS"); announced != nullptr) {
    TRY(check_passed_on(announced));
    ::setenv("LISTEN_PID", pid.c_str(), 1);
  }
  if (std::getenv("WATCHDOG_USEC") != nullptr) ::setenv("WATCHDOG_PID", pid.c_str(), 1);
  ::unsetenv("LISTEN_PIDFDID");  // Of the wrapper; LISTEN_PID alone is as good.
  std::vector<char*> arguments;
  for (std::string const& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments.front(), arguments.data());
  ErrorCode const code =
      errno == ENOENT ? ErrorCode::CommandNotFound : ErrorCode::CommandNotExecutable;
  return fail(Error(code, system_error("execvp", command.front()).message(), errno));
}

}  // namespace aether::cli
