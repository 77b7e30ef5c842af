// SPDX-License-Identifier: Apache-2.0
// exec: for programs started through a wrapper. sh, npm and the like change the pid, and a program
// takes LISTEN_FDS only if LISTEN_PID is its own (man 3 sd_listen_fds).
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "cli/commands.h"

namespace aether::cli {

Result<int> exec(Globals const&, std::vector<std::string> const& command) {
  if (std::getenv("LISTEN_FDS") != nullptr) {
    ::setenv("LISTEN_PID", fmt::to_string(::getpid()).c_str(), 1);
  }
  std::vector<char*> arguments;
  for (std::string const& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments.front(), arguments.data());
  ErrorCode const code =
      errno == ENOENT ? ErrorCode::CommandNotFound : ErrorCode::CommandNotExecutable;
  return fail(Error(code, system_error("execvp", command.front()).message(), errno));
}

}  // namespace aether::cli
