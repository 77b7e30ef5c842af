// SPDX-License-Identifier: Apache-2.0
// From argv to a command. Everything that a user can type is declared in command_line.cc.
#pragma once

namespace aether::cli {

/// Parses, runs, and returns the exit code: 0 done, 1 refused or failed, 2 usage.
[[nodiscard]] int run(int argc, char** argv);

}  // namespace aether::cli
