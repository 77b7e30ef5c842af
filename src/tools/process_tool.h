// SPDX-License-Identifier: Apache-2.0
// The tool `process`: one program, with all that it starts, until it ends.
//
// args {command [...], stdin (a string, or a value as JSON), env {}, cwd, timeout = the call's}
// result {exit, stdout (a value if it is JSON, else text), stderr, truncated?}
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"
#include "supervise/known_children.h"
#include "tools/tool.h"

namespace aether::tools {

/// Of a program's output this much is kept; the rest is read and dropped, so that it never waits.
inline constexpr std::size_t kStdoutBytesMax = std::size_t{1} * 1024 * 1024;
inline constexpr std::size_t kStderrBytesMax = std::size_t{16} * 1024;

struct ProcessOptions {
  /// "NAME=value", what each program is given besides its `env` (usually PATH, HOME, LANG ...).
  std::vector<std::string> environment;
  /// Programs that may be run, as args.command[0] names them. Empty: all.
  std::vector<std::string> commands;
  /// Borrowed, outlives the tool. Needed if somebody reaps orphans.
  supervise::KnownChildren* known = nullptr;
};

/// @param clock Must outlive the tool.
[[nodiscard]] std::unique_ptr<Tool> make_process_tool(Clock const& clock, ProcessOptions options);

}  // namespace aether::tools
