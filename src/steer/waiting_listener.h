// SPDX-License-Identifier: Apache-2.0
// The listener by which Aether holds an address whose connections go elsewhere.
#pragma once
#include "base/address.h"
#include "base/result.h"
#include "os/unique_fd.h"
#include "steer/lookup_router.h"

namespace aether::steer {

/// Bound to the address alone (AddressInUse names whoever has it), and listening if it is TCP. UDP
/// sockets of others may be bound to it from then on if they have SO_REUSEADDR.
[[nodiscard]] Result<os::UniqueFd> open_waiting_listener(RouteSpec const& spec);

/// Families whose packets a bound socket can take.
struct Families {
  bool ipv4 = false;
  bool ipv6 = false;
};
[[nodiscard]] Families families_of(int socket);

/// RequestInvalid unless the socket can take what comes to an address of this transport: a TCP
/// listener, or an unconnected UDP socket, of the network namespace `network`.
Status check_serving(int socket, Transport transport, std::uint64_t network);

}  // namespace aether::steer
