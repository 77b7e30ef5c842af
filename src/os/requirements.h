// SPDX-License-Identifier: Apache-2.0
// What a supervisor cannot do without, asked before anything is started. A kernel or sandbox that
// lacks one of these would have it lose processes, or signal strangers.
#pragma once
#include "base/result.h"

namespace aether::os {

/// /proc is there and shows this process by the number it has for itself. Unsupported else: with
/// the /proc of another PID namespace every number in it would name a stranger.
[[nodiscard]] Status check_proc();
/// Processes can be held, signalled and awaited by descriptor (Linux 5.4). Unsupported else.
[[nodiscard]] Status check_pidfd();
/// All of them.
[[nodiscard]] Status check_requirements();

}  // namespace aether::os
