// SPDX-License-Identifier: Apache-2.0
// CRIU, the separate program that writes a process into files and makes it again from them: where
// it is, whether it works here, and how it is run (man 8 criu). What works is found out by trying:
// each kernel needs a CRIU that is new enough.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "os/process.h"

namespace aether::clone {

/// A child, and what keeps its end from being taken by who reaps orphans.
struct HeldChild {
  os::Child child;
  std::shared_ptr<void> hold;
};
/// Starts CRIU. It may be called on any thread.
using Spawner = std::function<Result<HeldChild>(os::SpawnSpec const&)>;
/// os::spawn, where nobody reaps orphans.
[[nodiscard]] Result<HeldChild> spawn_plainly(os::SpawnSpec const& spec);

struct Criu {
  std::string program;  ///< An absolute path.
  std::string version;  ///< "4.2.1".
  /// Its own folder, where it keeps what it has found out about the kernel. In memory (tmpfs): it
  /// keeps nothing elsewhere, and asks the kernel anew each time, which takes 20 ms.
  std::string folder;
  std::shared_ptr<os::UniqueFd const> nothing;  ///< /dev/null.
};

/// What it may use of a function's or a user's: nothing.
[[nodiscard]] os::SpawnSpec criu_spec(Criu const& criu, std::vector<std::string> words);
/// Runs it to its end. ImageFailed with the last lines of `log`, Timeout (it was killed then).
[[nodiscard]] Status run_criu(Criu const& criu, std::vector<std::string> words,
                              std::string const& log, Spawner const& spawner, Duration patience);
/// "what; CRIU's log ends so: ...": its errors, else its last lines, at most ten. Pure.
[[nodiscard]] std::string with_log(std::string what, std::string_view log);
[[nodiscard]] std::string with_log_file(std::string what, std::string const& path);

/// Where CRIU is: $AETHER_CRIU, else what scripts/install-criu installed below /usr/local or below
/// the prefix of this program, else criu on the PATH. ImageUnavailable if it is nowhere.
[[nodiscard]] Result<std::string> find_criu();
/// That CRIU, once it has dumped a process that listens on TCP and restored it. That it has is
/// remembered in `folder` for this boot, kernel and program. ImageUnavailable with the reason.
/// Blocks for some hundred milliseconds the first time.
[[nodiscard]] Result<Criu> check_criu(std::string const& folder, Spawner const& spawner);

/// Makes a folder, with those above it, that nobody but us may write to. One that is another
/// user's, or that others may write to, is refused: what lies there is run with our rights.
[[nodiscard]] Status make_private_folder(std::string const& path);

}  // namespace aether::clone
