// SPDX-License-Identifier: Apache-2.0
// Finding the program that a command names, and saying in words why it cannot be executed. Private
// to spawn().
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace aether::os {

/// The path to execute: argv0 itself if it has a '/', else where the child's PATH has it.
[[nodiscard]] Result<std::string> resolve_command(std::string_view argv0,
                                                  std::vector<std::string> const& environment,
                                                  std::string const& workdir);

/// Why execve(path) in workdir failed with this errno: a missing program or interpreter, a mode, a
/// wrong architecture, Windows line ends. Looks at the file.
[[nodiscard]] Error explain_exec_failure(std::string const& path, std::string const& workdir,
                                         int errno_value);

}  // namespace aether::os
