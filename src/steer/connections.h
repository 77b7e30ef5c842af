// SPDX-License-Identifier: Apache-2.0
// How many of a listener's connections some processes hold: the kernel's list of sockets, compared
// with the descriptors in /proc/PID/fd. Reads one link a descriptor (about a microsecond each): not
// for the loop's thread.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace aether::steer {

/// Where accepted connections say that they come from.
struct AcceptedFrom {
  std::vector<std::uint16_t> tcp_ports;
  std::vector<std::string> unix_names;  ///< As in /proc/net/unix; abstract ones with "@".
};

/// Connections accepted there and held by one of the processes, each counted once. A connection
/// counts until its program has closed it, whatever its client has done. Datagram sockets have
/// none. Unsupported if the kernel does not list sockets, or if not one of the processes lets us
/// see its descriptors.
[[nodiscard]] Result<std::size_t> count_connections(AcceptedFrom const& from,
                                                    std::span<pid_t const> processes);

}  // namespace aether::steer
