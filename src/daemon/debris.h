// SPDX-License-Identifier: Apache-2.0
// Debris: what an Aether that was killed with SIGKILL left behind. Its services live on without a
// supervisor and hold their ports, so that the next Aether could not start beside them.
#pragma once
#include <cstddef>
#include <string>

#include "base/result.h"

namespace aether::daemon {

/// Ends every process that an earlier Aether of this runtime folder started (its environment names
/// a socket in the folder). Call it only when no Aether runs for the folder. Returns how many there
/// were; Timeout names one that does not end. Blocks for some milliseconds.
[[nodiscard]] Result<std::size_t> end_debris(std::string const& folder);

/// Removes the control groups of earlier Aethers of this runtime folder, which its file `groups`
/// names, and notes there whose groups are to be removed next time: ours, and those of earlier ones
/// in which something lives still. After end_debris(); waits a moment for what that ended.
void remove_old_groups(std::string const& folder);

}  // namespace aether::daemon
