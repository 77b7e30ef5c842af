// SPDX-License-Identifier: Apache-2.0
// Addresses as the kernel takes them.
#pragma once
#include <sys/socket.h>

#include "base/address.h"
#include "base/result.h"

namespace aether::steer {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  [[nodiscard]] sockaddr const* get() const { return reinterpret_cast<sockaddr const*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
};

/// SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
[[nodiscard]] int socket_type(Transport transport);
/// A host of "" is `::` (or 0.0.0.0 if IPv6 is missing). AddressInvalid for an unknown %interface,
/// or a path longer than the kernel takes.
[[nodiscard]] Result<SocketAddress> to_socket_address(Address const& address);
/// As above; for connecting: an address that means every interface becomes the loopback one.
[[nodiscard]] Result<SocketAddress> to_connect_address(Address const& address);
/// Where a socket is bound. `fd` is borrowed.
[[nodiscard]] Result<Address> local_address(int fd);
/// Whether this machine has IPv6 at all.
[[nodiscard]] bool has_ipv6();

}  // namespace aether::steer
