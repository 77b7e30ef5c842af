// SPDX-License-Identifier: Apache-2.0
#include "http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/tcp.h>

#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "http/local_peer.h"
#include "os/unix_socket.h"

namespace aether::http {
namespace {

// More than the limit of connections: a burst waits here while the loop is busy.
constexpr int kBacklog = 1024;

// What the storage holds, by its family.
sockaddr_in as_v4(sockaddr_storage const& storage) {
  sockaddr_in address{};
  std::memcpy(&address, &storage, sizeof(address));
  return address;
}
sockaddr_in6 as_v6(sockaddr_storage const& storage) {
  sockaddr_in6 address{};
  std::memcpy(&address, &storage, sizeof(address));
  return address;
}

template <class Raw>
SocketAddress wrap(Raw const& raw) {
  SocketAddress address;
  std::memcpy(&address.storage, &raw, sizeof(raw));
  address.length = sizeof(raw);
  return address;
}

std::optional<in_addr> mapped_v4(in6_addr const& address) {
  if (!IN6_IS_ADDR_V4MAPPED(&address)) return std::nullopt;
  in_addr v4{};
  std::memcpy(&v4, &address.s6_addr[12], sizeof(v4));
  return v4;
}

std::string v4_text(in_addr const& address, std::uint16_t port) {
  std::array<char, INET_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET, &address, text.data(), text.size());
  return fmt::format("{}:{}", text.data(), port);
}

bool is_v4_loopback(in_addr const& address) {
  return (ntohl(address.s_addr) >> 24U) == 127U;
}

void set_option(int fd, int level, int option, int value) {
  // An option that a socket does not know changes nothing that a client would see.
  (void)::setsockopt(fd, level, option, &value, sizeof(value));
}

/// A client that is gone without a word, or waits for an answer no more, is known after two minutes
/// (60 + 4 * 15 s) and not after two hours.
void probe_when_silent(int fd) {
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

Failure cannot_listen(SocketAddress const& address) {
  int const reason = errno;
  std::string const where = address.text();
  if (reason == EADDRINUSE) {
    return fail(
        ErrorCode::AddressInUse,
        fmt::format("another program listens on {} already: stop it, or choose another port",
                    where),
        reason);
  }
  std::string_view const hint =
      reason == EACCES ? "; ports below 1024 need CAP_NET_BIND_SERVICE" : "";
  return fail(ErrorCode::ListenFailed,
              fmt::format("{}{}", system_error_from(reason, "listen on", where).message(), hint),
              reason);
}

Result<TcpListener> listen_on(SocketAddress const& address) {
  os::UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return cannot_listen(address);
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.family() == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (::bind(fd.get(), address.get(), address.length) != 0) return cannot_listen(address);
  if (::listen(fd.get(), kBacklog) != 0) return cannot_listen(address);
  SocketAddress bound;
  bound.length = sizeof(bound.storage);
  auto* out = reinterpret_cast<sockaddr*>(&bound.storage);
  if (::getsockname(fd.get(), out, &bound.length) != 0) return fail(system_error("getsockname"));
  return TcpListener{.fd = std::move(fd), .port = bound.port()};
}

Peer unix_peer(int fd) {
  Peer peer{.unix_socket = true, .address = "unix"};
  if (auto const credentials = os::peer_credentials(fd)) {
    peer.pid = credentials->pid;
    peer.uid = credentials->uid;
    peer.gid = credentials->gid;
  }
  return peer;
}

Peer tcp_peer(int fd, SocketAddress const& from) {
  Peer peer{.address = from.text(), .loopback = from.is_loopback()};
  if (!peer.loopback) return peer;
  SocketAddress ours;
  ours.length = sizeof(ours.storage);
  auto* out = reinterpret_cast<sockaddr*>(&ours.storage);
  if (::getsockname(fd, out, &ours.length) != 0) return peer;
  if (auto const user = user_of_connection(from, ours)) peer.uid = *user;
  return peer;
}

}  // namespace

std::uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(as_v4(storage).sin_port);
  if (family() == AF_INET6) return ntohs(as_v6(storage).sin6_port);
  return 0;
}

bool SocketAddress::is_loopback() const {
  if (family() == AF_INET) return is_v4_loopback(as_v4(storage).sin_addr);
  if (family() != AF_INET6) return false;
  sockaddr_in6 const v6 = as_v6(storage);
  auto const v4 = mapped_v4(v6.sin6_addr);
  return v4 ? is_v4_loopback(*v4) : IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) != 0;
}

std::string SocketAddress::text() const {
  if (family() == AF_INET) return v4_text(as_v4(storage).sin_addr, port());
  if (family() != AF_INET6) return "unknown";
  sockaddr_in6 const v6 = as_v6(storage);
  if (auto const v4 = mapped_v4(v6.sin6_addr)) return v4_text(*v4, port());
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  return fmt::format("[{}]:{}", text.data(), port());
}

std::optional<SocketAddress> ip_address(std::string_view host, std::uint16_t port) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  std::string name(host);
  if (name.contains('\0')) return std::nullopt;  // inet_pton would not look behind it
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  if (::inet_pton(AF_INET, name.c_str(), &v4.sin_addr) == 1) return wrap(v4);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (std::size_t const percent = name.find('%'); percent != std::string::npos) {
    v6.sin6_scope_id = ::if_nametoindex(name.c_str() + percent + 1);
    if (v6.sin6_scope_id == 0) return std::nullopt;
    name.resize(percent);
  }
  if (::inet_pton(AF_INET6, name.c_str(), &v6.sin6_addr) == 1) return wrap(v6);
  return std::nullopt;
}

Result<TcpListener> open_tcp_listener(std::string_view host, std::uint16_t port) {
  if (host.empty() || host == "*") {
    auto dual = listen_on(ip_address("::", port).value());
    bool const no_v6 = !dual && (dual.error().errno_value() == EAFNOSUPPORT ||
                                 dual.error().errno_value() == EADDRNOTAVAIL);
    return no_v6 ? listen_on(ip_address("0.0.0.0", port).value()) : std::move(dual);
  }
  auto const address = ip_address(host == "localhost" ? "127.0.0.1" : host, port);
  if (address) return listen_on(*address);
  return fail(ErrorCode::AddressInvalid,
              fmt::format("\"{}\" is no IP address to listen on: write one, or localhost, or * for "
                          "all",
                          host));
}

Result<std::optional<Accepted>> accept_client(int listener) {
  while (true) {
    SocketAddress from;
    from.length = sizeof(from.storage);
    auto* out = reinterpret_cast<sockaddr*>(&from.storage);
    os::UniqueFd fd(::accept4(listener, out, &from.length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd && from.family() == AF_UNIX) {
      Peer peer = unix_peer(fd.get());
      return Accepted{.fd = std::move(fd), .peer = std::move(peer)};
    }
    if (fd) {
      set_option(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1);
      probe_when_silent(fd.get());
      Peer peer = tcp_peer(fd.get(), from);
      return Accepted{.fd = std::move(fd), .peer = std::move(peer)};
    }
    int const reason = errno;
    if (reason == EAGAIN) return std::nullopt;
    if (reason == EMFILE || reason == ENFILE || reason == ENOBUFS || reason == ENOMEM) {
      return fail(ErrorCode::LimitReached, system_error_from(reason, "accept4").message(), reason);
    }
    if (reason == EBADF || reason == EINVAL || reason == ENOTSOCK) {
      return fail(system_error_from(reason, "accept4"));
    }
    // All else is the fate of that one connection (man 2 accept): the next one may be well.
  }
}

}  // namespace aether::http
