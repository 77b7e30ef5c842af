// SPDX-License-Identifier: Apache-2.0
// TcpListener: a listening socket as far as a copy of a process makes one like it, on a port of the
// loopback interface that the kernel chooses.
#pragma once
#include <cstdint>
#include <vector>

#include "clone/call_list.h"

namespace aether::clone {

struct TcpListener {
  struct Option {
    int level = 0;
    int name = 0;
    int value = 0;
    bool operator==(Option const&) const = default;
  };
  std::uint64_t inode = 0;
  int family = 0;    ///< AF_INET or AF_INET6.
  int protocol = 0;  ///< IPPROTO_TCP, or IPPROTO_MPTCP as Go opens them.
  std::uint16_t port = 0;
  bool only_ipv6 = false;
  int backlog = 0;
  std::vector<Option> options;  ///< Of those that accepted connections inherit; not 0.
};

/// What the open socket says of itself.
[[nodiscard]] TcpListener read_tcp_listener(int fd, std::uint64_t inode);

/// The calls that make one like it; the new socket gets this number. Returns where its address will
/// be found (see made_port()). An IPv6 one that takes IPv4 as well is at ::ffff:127.0.0.1, so that
/// 127.0.0.1 reaches it as it reaches all others; one that does not is at ::1.
CallList::Argument add_listener_calls(TcpListener const& like, int number, CallList& list);
/// Its port, once the calls were made.
[[nodiscard]] std::uint16_t made_port(CallList const& performed, CallList::Argument address);

}  // namespace aether::clone
