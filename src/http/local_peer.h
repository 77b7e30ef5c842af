// SPDX-License-Identifier: Apache-2.0
// Inside of this room: which user is at the other end of a loopback TCP connection. Asks the kernel
// (man 7 sock_diag), or reads /proc/net/tcp where that is not offered. No privilege is needed.
#pragma once
#include <sys/types.h>

#include <optional>
#include <string_view>

#include "http/listen.h"

namespace aether::http {

/// The owner of the socket that is bound to `theirs` and connected to `ours`. Nothing if its
/// process has closed it already: the kernel then shows root as the owner of what is left.
[[nodiscard]] std::optional<uid_t> user_of_connection(SocketAddress const& theirs,
                                                      SocketAddress const& ours);

/// One line of /proc/net/tcp or tcp6: the owner if it is that connection's, established, and held
/// by a process.
[[nodiscard]] std::optional<uid_t> user_in_line(std::string_view line, SocketAddress const& theirs,
                                                SocketAddress const& ours);

}  // namespace aether::http
