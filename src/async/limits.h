// SPDX-License-Identifier: Apache-2.0
// The limits of this room, each with its reason.
#pragma once
#include <cstddef>

namespace aether::async {

/// Tasks alive in one TaskGroup: more than any owner in the control plane needs (the largest is the
/// HTTP server, one task a connection), few enough that a leak is seen before memory is gone.
inline constexpr std::size_t kTasksPerGroupMax = 8192;

/// Calls waiting for a thread of a ThreadPool: offloaded work is rare (checksums, file trees); a
/// queue this long means that the disk hangs, and more waiting would not help.
inline constexpr std::size_t kOffloadQueueMax = 1024;

}  // namespace aether::async
