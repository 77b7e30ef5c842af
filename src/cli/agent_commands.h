// SPDX-License-Identifier: Apache-2.0
// The commands about agents with code: a first one, a talk with one, and whether an SDK keeps to
// the worker protocol. As commands.h: each prints its result and returns its exit code.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/globals.h"

namespace aether::cli {

struct InitOptions {
  std::string folder;
  bool in_node = false;  ///< Else in Python.
};
/// Makes a folder with an agent and the configuration that runs it. Nothing that is there is
/// overwritten.
[[nodiscard]] Result<int> init(Globals const& globals, InitOptions const& options);

struct ChatOptions {
  std::string agent;                 ///< Empty: the only one.
  std::vector<std::string> message;  ///< Empty: what is typed, line for line.
};
/// Each message is a job of the agent; what its steps do is shown as it happens.
[[nodiscard]] Result<int> chat(Globals const& globals, ChatOptions const& options);

struct ConformanceOptions {
  std::string command;  ///< Of the shell.
  bool verbose = false;
  int each = 1;  ///< The worker is killed at each so-many-th message.
};
/// Plays Aether to a worker. kFailed if one check fails, or if there was nothing to check.
[[nodiscard]] Result<int> conformance_worker(Globals const& globals,
                                             ConformanceOptions const& options);

}  // namespace aether::cli
