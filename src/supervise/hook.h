// SPDX-License-Identifier: Apache-2.0
// Hooks and command probes: programs that run once, within a time, and whose whole tree is gone
// afterwards, whatever they started.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "os/process.h"
#include "supervise/known_children.h"
#include "supervise/log_book.h"

namespace aether::supervise {

/// Of a hook's output this many lines are kept for its result; the log gets up to kHookLogBytesMax.
inline constexpr std::size_t kHookLastLines = 20;
inline constexpr std::uint64_t kHookLogBytesMax = std::uint64_t{1} * 1024 * 1024;

struct HookSpec {
  std::string name;
  config::Command command;
  Duration timeout = std::chrono::seconds(30);
  std::vector<std::string> environment;  ///< Complete; see build_hook_environment.
  std::optional<std::string> workdir;
  std::optional<std::string> user;
  RevisionId revision;      ///< For its lines in the log.
  LogBook* logs = nullptr;  ///< Borrowed, outlives the call. None: the output is kept only here.
  KnownChildren* known =
      nullptr;  ///< Borrowed, outlives the call. Needed if somebody reaps orphans.
};
[[nodiscard]] HookSpec hook_spec(config::Hook const& hook);

struct HookResult {
  os::ExitStatus status;  ///< SIGKILL's if it timed out.
  bool timed_out = false;
  Duration took{};
  std::vector<std::string> last_lines;
  std::uint64_t output_bytes = 0;    ///< All that it wrote, kept or not.
  std::optional<Error> not_started;  ///< Set if it could not be executed at all.
  [[nodiscard]] bool succeeded() const { return !not_started && !timed_out && status.success(); }
};

/// Runs it. Never throws for what the hook does; when the task is cancelled the tree is killed.
/// `clock` outlives the call.
[[nodiscard]] async::Task<HookResult> run_hook(Clock const& clock, HookSpec spec);

/// The result as a Status: HookFailed with name, exit, and last lines of output.
[[nodiscard]] Status hook_status(std::string const& name, HookResult const& result);

}  // namespace aether::supervise
