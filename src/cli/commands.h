// SPDX-License-Identifier: Apache-2.0
// The commands. Each prints its result to stdout and returns its exit code; faults are returned and
// printed in one place (command_line.cc).
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/globals.h"

namespace aether::cli {

struct UpOptions {
  bool foreground = false;
  bool jobs_alone = false;  ///< Works on jobs, and listens on no port of `api`.
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
/// Of a service or a function.
[[nodiscard]] Result<int> rollback(Globals const& globals, std::string const& named);

[[nodiscard]] Result<int> status(Globals const& globals, std::string const& service);
[[nodiscard]] Result<int> list(Globals const& globals);

/// Makes the functions of a file ready and puts them in the place of those that serve.
[[nodiscard]] Result<int> deploy(Globals const& globals, std::string const& file);

struct StatsOptions {
  bool dashboard = false;
  bool watch = false;
  bool prometheus = false;
};
[[nodiscard]] Result<int> stats(Globals const& globals, StatsOptions const& options);

struct InvokeOptions {
  std::string function;
  std::string path = "/";
  std::string method;  ///< Empty: POST with data, else GET.
  std::vector<std::string> headers;
  std::optional<std::string> data;  ///< "@FILE" is what the file holds, "@-" what stdin gives.
  bool head = false;                ///< Show the answer's head too.
};
/// Sends a request to a function. kFailed if it is answered with 400 or more.
[[nodiscard]] Result<int> invoke(Globals const& globals, InvokeOptions const& options);

struct LogsOptions {
  std::string service;  ///< Empty: the only one.
  bool follow = false;
  std::size_t lines = 100;
};
[[nodiscard]] Result<int> logs(Globals const& globals, LogsOptions const& options);

[[nodiscard]] Result<int> validate(Globals const& globals, std::string const& file);
/// All that is known of one service or function: what runs, what it was given, what waits.
[[nodiscard]] Result<int> inspect(Globals const& globals, std::string const& service);

struct TokenOptions {
  std::string name = "ci";
  std::string role = "viewer";
  std::string file;  ///< Where the token goes; empty: to stdout.
};
/// Makes a token for the API and prints the line for the configuration.
[[nodiscard]] Result<int> token(Globals const& globals, TokenOptions const& options);

enum class NamesOf : unsigned char { All, Services, Functions };
/// The names of what runs, a line each; for completion scripts.
[[nodiscard]] Result<int> print_names(Globals const& globals, NamesOf which);
/// What this machine offers, and what is missing for what.
[[nodiscard]] Result<int> doctor(Globals const& globals);
/// Sets LISTEN_PID to this process and executes the command: for wrappers like `sh -c`.
[[nodiscard]] Result<int> exec(Globals const& globals, std::vector<std::string> const& command);
/// The script that completes commands and options in a shell: bash, zsh or fish.
[[nodiscard]] Result<int> completion(std::string const& shell);

}  // namespace aether::cli
