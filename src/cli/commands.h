// SPDX-License-Identifier: Apache-2.0
// The commands. Each prints its result to stdout and returns its exit code; faults are returned and
// printed in one place (command_line.cc).
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/globals.h"

namespace aether::cli {

struct UpOptions {
  bool foreground = false;
};
/// Starts Aether. In the background: returns when it serves, with its process left behind.
[[nodiscard]] Result<int> up(Globals const& globals, UpOptions const& options);
[[nodiscard]] Result<int> down(Globals const& globals);

struct ReloadOptions {
  std::string service;  ///< Empty: all.
  std::string reason = "aether reload";
  bool force = false;
  bool check_state = false;
  bool wait = true;
};
[[nodiscard]] Result<int> reload(Globals const& globals, ReloadOptions const& options);
[[nodiscard]] Result<int> rollback(Globals const& globals, std::string const& service);

[[nodiscard]] Result<int> status(Globals const& globals, std::string const& service);
[[nodiscard]] Result<int> list(Globals const& globals);

struct LogsOptions {
  std::string service;  ///< Empty: the only one.
  bool follow = false;
  std::size_t lines = 100;
};
[[nodiscard]] Result<int> logs(Globals const& globals, LogsOptions const& options);

[[nodiscard]] Result<int> validate(Globals const& globals, std::string const& file);
/// All that is known of one service: what runs, what it was given, what waits.
[[nodiscard]] Result<int> inspect(Globals const& globals, std::string const& service);

struct TokenOptions {
  std::string name = "ci";
  std::string role = "viewer";
  std::string file;  ///< Where the token goes; empty: to stdout.
};
/// Makes a token for the API and prints the line for the configuration.
[[nodiscard]] Result<int> token(Globals const& globals, TokenOptions const& options);

/// The names of the services that run, a line each; for completion scripts.
[[nodiscard]] Result<int> service_names(Globals const& globals);
/// What this machine offers, and what is missing for what.
[[nodiscard]] Result<int> doctor(Globals const& globals);
/// Sets LISTEN_PID to this process and executes the command: for wrappers like `sh -c`.
[[nodiscard]] Result<int> exec(Globals const& globals, std::vector<std::string> const& command);
/// The script that completes commands and options in a shell: bash, zsh or fish.
[[nodiscard]] Result<int> completion(std::string const& shell);

}  // namespace aether::cli
