// SPDX-License-Identifier: Apache-2.0
// Who holds an address: the kernel's list of sockets on a port (man 7 sock_diag), and the process
// behind one of them. No privilege is needed; processes of other users stay nameless.
#pragma once
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"

namespace aether::steer {

/// A listening TCP socket, or a bound UDP socket.
struct BoundSocket {
  std::uint64_t inode = 0;
  uid_t uid = 0;
  int family = 0;
  bool v6_only = false;
  std::array<unsigned char, 16> address{};  ///< Network order; 4 bytes used by IPv4.
  bool operator==(BoundSocket const&) const = default;
};

/// All such sockets on a port in our network namespace, both families. Unsupported if the kernel
/// was built without sock_diag.
[[nodiscard]] Result<std::vector<BoundSocket>> sockets_on_port(Transport transport,
                                                               std::uint16_t port);
/// All open TCP connections whose local port this is, both families. Those that nobody has accepted
/// yet, or that their program has closed, have inode 0.
[[nodiscard]] Result<std::vector<BoundSocket>> connections_on_port(std::uint16_t port);
/// Inodes of unix sockets bound to a path or abstract name (as it was written when it was bound).
[[nodiscard]] std::vector<std::uint64_t> unix_sockets_on(Address const& address);

/// "python3 (pid 123)", "a process of uid 33" or "another program": for messages. Slow (all of
/// /proc): only when something failed.
[[nodiscard]] std::string describe_holder(std::span<std::uint64_t const> inodes);
/// The holder of an address that could not be bound.
[[nodiscard]] std::string describe_holder(Address const& address);

}  // namespace aether::steer
