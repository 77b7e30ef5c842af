// SPDX-License-Identifier: Apache-2.0
#include "steer/waiting_listener.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include <fmt/format.h>

#include "steer/bpf_steer.h"
#include "steer/sock_diag.h"
#include "steer/socket_address.h"

namespace aether::steer {
namespace {

Error cannot_hold(RouteSpec const& spec, std::string_view call, int errno_value) {
  auto const who = fmt::format("\"{}\" on {}", spec.name, spec.address.text());
  if (errno_value == EADDRINUSE)
    return {ErrorCode::AddressInUse,
            fmt::format("{}: the address is held by {}; stop it, or choose another address", who,
                        describe_holder(spec.address)),
            errno_value};
  if (errno_value == EADDRNOTAVAIL)
    return {ErrorCode::ListenFailed,
            fmt::format("{}: no network interface of this machine has that address", who),
            errno_value};
  if (errno_value == EACCES)
    return {ErrorCode::ListenFailed,
            fmt::format("{}: Aether may not bind the port: it lacks CAP_NET_BIND_SERVICE", who),
            errno_value};
  return {ErrorCode::ListenFailed,
          fmt::format("{}: {}", who, system_error_from(errno_value, call).message()), errno_value};
}

bool set_flag(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

int option_of(int fd, int option, int level = SOL_SOCKET) {
  int value = -1;
  socklen_t length = sizeof(value);
  getsockopt(fd, level, option, &value, &length);
  return value;
}

Result<os::UniqueFd> bound_socket(RouteSpec const& spec) {
  TRY_ASSIGN(auto const address, to_socket_address(spec.address));
  bool const tcp = spec.address.transport == Transport::Tcp;
  bool const v6_only = spec.v6_only && !spec.address.host.empty();
  os::UniqueFd fd(socket(address.family(), socket_type(spec.address.transport) | SOCK_CLOEXEC, 0));
  if (!fd) return fail(cannot_hold(spec, "socket", errno));
  // Connections of earlier times in TIME_WAIT do not hold the port; a listener still does.
  bool flags = !tcp || set_flag(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.family() == AF_INET6)
    flags = flags && set_flag(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, v6_only ? 1 : 0);
  if (!flags) return fail(cannot_hold(spec, "setsockopt", errno));
  if (bind(fd.get(), address.get(), address.length) != 0)
    return fail(cannot_hold(spec, "bind", errno));
  return fd;
}

}  // namespace

Result<os::UniqueFd> open_waiting_listener(RouteSpec const& spec) {
  TRY_ASSIGN(auto fd, bound_socket(spec));
  bool const tcp = spec.address.transport == Transport::Tcp;
  // The check of UDP's bind() asks both sockets: ours was bound alone, now others may come.
  if (!tcp && !set_flag(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1))
    return fail(cannot_hold(spec, "setsockopt", errno));
  if (tcp && listen(fd.get(), spec.backlog) != 0) return fail(cannot_hold(spec, "listen", errno));
  return fd;
}

Families families_of(int socket) {
  if (option_of(socket, SO_DOMAIN) != AF_INET6) return {.ipv4 = true, .ipv6 = false};
  // A socket bound to an IPv6 address of its own is for IPv6 only, too (inet6_bind).
  return {.ipv4 = option_of(socket, IPV6_V6ONLY, IPPROTO_IPV6) == 0, .ipv6 = true};
}

Status check_serving(int socket, Transport transport, std::uint64_t network) {
  bool const tcp = transport == Transport::Tcp;
  int const protocol = option_of(socket, SO_PROTOCOL);
  if (protocol != (tcp ? IPPROTO_TCP : IPPROTO_UDP))
    return fail(ErrorCode::RequestInvalid,
                fmt::format("a socket of protocol {} cannot serve a {} address{}", protocol,
                            tcp ? "TCP" : "UDP",
                            protocol == IPPROTO_MPTCP ? " (multipath TCP has to be turned off in "
                                                        "the program)"
                                                      : ""));
  if (tcp && option_of(socket, SO_ACCEPTCONN) != 1)
    return fail(ErrorCode::RequestInvalid, "a socket that does not listen cannot serve an address");
  sockaddr_storage peer{};
  socklen_t length = sizeof(peer);
  if (!tcp && getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &length) == 0)
    return fail(ErrorCode::RequestInvalid, "a connected UDP socket cannot serve an address");
  TRY_ASSIGN(auto const theirs, network_of(socket));
  if (theirs != network)
    return fail(ErrorCode::RequestInvalid,
                "a socket of another network namespace cannot serve an address of this one");
  return {};
}

}  // namespace aether::steer
