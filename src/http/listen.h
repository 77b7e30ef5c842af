// SPDX-License-Identifier: Apache-2.0
// Inside of this room: TCP sockets for the server and the client, and who is at the other end.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/message.h"
#include "os/unique_fd.h"

namespace aether::http {

/// An IP address with a port, as the kernel takes it.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  [[nodiscard]] sockaddr const* get() const { return reinterpret_cast<sockaddr const*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] bool is_loopback() const;
  /// "127.0.0.1:80", "[::1]:80"; an IPv4 address mapped into IPv6 is shown as IPv4.
  [[nodiscard]] std::string text() const;
};

/// "1.2.3.4", "::1", "[::1]", "fe80::1%eth0". Nothing for anything else.
[[nodiscard]] std::optional<SocketAddress> ip_address(std::string_view host, std::uint16_t port);

struct TcpListener {
  os::UniqueFd fd;  ///< Non-blocking.
  std::uint16_t port = 0;
};
/// As Server::listen_tcp.
[[nodiscard]] Result<TcpListener> open_tcp_listener(std::string_view host, std::uint16_t port);

/// One connection that waits, non-blocking; nothing if none does. LimitReached: no descriptor or
/// memory is left for it, try later.
struct Accepted {
  os::UniqueFd fd;
  Peer peer;
};
[[nodiscard]] Result<std::optional<Accepted>> accept_client(int listener);

}  // namespace aether::http
