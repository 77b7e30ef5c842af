// SPDX-License-Identifier: Apache-2.0
// What the kernel tells about a listening socket's queue. File descriptors are borrowed.
#pragma once
#include <cstdint>

#include "base/address.h"
#include "base/result.h"
#include "steer/listener.h"

namespace aether::steer {

/// What waits for accept() or recv(). Does not change the socket.
[[nodiscard]] Result<QueueDepth> read_queue(int fd, Transport transport);
/// Whether the socket no longer listens: its program called shutdown() on it.
[[nodiscard]] bool has_left_listen(int fd, Transport transport);
/// Connections or datagrams dropped at this socket (SK_MEMINFO_DROPS; 0 for unix sockets).
[[nodiscard]] std::uint32_t read_drops(int fd);

}  // namespace aether::steer
