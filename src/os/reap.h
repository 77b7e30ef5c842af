// SPDX-License-Identifier: Apache-2.0
// Reaping of orphans, which whoever is PID 1 or a subreaper must do, without ever taking a status
// that the owner of a Child waits for.
#pragma once
#include <sys/types.h>

#include <functional>
#include <vector>

#include "base/result.h"
#include "os/child.h"

namespace aether::os {

/// An orphan that ended and was reaped.
struct Reaped {
  pid_t pid = 0;
  ExitStatus status;
};

/// Reaps every ended child for which is_known(pid) is false, until none is left, and returns them.
/// Never blocks. Call it on SIGCHLD (one signal may stand for many), in the thread that owns the
/// Children: a known one is left as it is, and does not keep others from being found.
[[nodiscard]] Result<std::vector<Reaped>> reap_orphans(std::function<bool(pid_t)> const& is_known);

}  // namespace aether::os
