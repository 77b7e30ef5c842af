// SPDX-License-Identifier: Apache-2.0
// Waiting until a borrowed file descriptor can be read or written.
#pragma once
#include "async/task.h"
#include "base/time.h"

namespace aether::async {

/// Waits until a read (or accept) would not block: there is data, an end of file, a hang-up or an
/// error. The fd stays the caller's: it is not closed, and its flags (O_NONBLOCK is shared with
/// everyone who inherited it) are not touched. It must stay open during the wait. Any number of
/// tasks may wait for the same fd. Returns on a later turn of the loop even if the fd is ready, so
/// that a busy fd starves nobody. Throws Error(Unsupported) for what has no readiness (a regular
/// file, a directory), SystemCall otherwise.
[[nodiscard]] Task<void> readable(int fd);
/// The same for writing.
[[nodiscard]] Task<void> writable(int fd);

/// False if it did not become ready within `duration`.
[[nodiscard]] Task<bool> readable_for(int fd, Duration duration);
[[nodiscard]] Task<bool> writable_for(int fd, Duration duration);

}  // namespace aether::async
