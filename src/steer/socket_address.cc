// SPDX-License-Identifier: Apache-2.0
#include "steer/socket_address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>

#include "os/unique_fd.h"

namespace aether::steer {
namespace {

template <class Native>
SocketAddress wrap_native(Native const& native, std::size_t length = sizeof(Native)) {
  SocketAddress address;
  std::memcpy(&address.storage, &native, sizeof(native));
  address.length = static_cast<socklen_t>(length);
  return address;
}

Result<SocketAddress> unix_native(Address const& address) {
  sockaddr_un native{};
  native.sun_family = AF_UNIX;
  if (address.path.size() > kUnixPathMax)
    return fail(ErrorCode::AddressInvalid,
                fmt::format("{}: the path has {} bytes and the kernel takes {}", address.text(),
                            address.path.size(), kUnixPathMax));
  std::size_t const shift = address.abstract_name ? 1 : 0;
  std::memcpy(native.sun_path + shift, address.path.data(), address.path.size());
  // Abstract names have no closing zero: the length says where they end (man 7 unix).
  return wrap_native(native, offsetof(sockaddr_un, sun_path) + address.path.size() + 1);
}

Result<std::uint32_t> scope_number(std::string const& zone, Address const& address) {
  if (unsigned const number = if_nametoindex(zone.c_str()); number != 0) return number;
  std::uint32_t number = 0;
  auto const [end, error] = std::from_chars(zone.data(), zone.data() + zone.size(), number);
  if (error == std::errc() && end == zone.data() + zone.size()) return number;
  return fail(ErrorCode::AddressInvalid,
              fmt::format("{}: there is no network interface \"{}\"", address.text(), zone));
}

Result<SocketAddress> ipv6_native(Address const& address) {
  sockaddr_in6 native{};
  native.sin6_family = AF_INET6;
  native.sin6_port = htons(address.port);
  if (address.host.empty()) return wrap_native(native);
  auto const percent = address.host.find('%');
  if (inet_pton(AF_INET6, address.host.substr(0, percent).c_str(), &native.sin6_addr) != 1)
    return fail(ErrorCode::AddressInvalid, fmt::format("{} is not an IPv6 address", address.host));
  if (percent != std::string::npos) {
    TRY_ASSIGN(native.sin6_scope_id, scope_number(address.host.substr(percent + 1), address));
  }
  return wrap_native(native);
}

Result<SocketAddress> ipv4_native(Address const& address) {
  sockaddr_in native{};
  native.sin_family = AF_INET;
  native.sin_port = htons(address.port);
  if (address.host.empty()) return wrap_native(native);
  if (inet_pton(AF_INET, address.host.c_str(), &native.sin_addr) != 1)
    return fail(ErrorCode::AddressInvalid, fmt::format("{} is not an IP address", address.host));
  return wrap_native(native);
}

Transport transport_of(int family, int type) {
  if (family != AF_UNIX) return type == SOCK_STREAM ? Transport::Tcp : Transport::Udp;
  if (type == SOCK_STREAM) return Transport::UnixStream;
  return type == SOCK_DGRAM ? Transport::UnixDatagram : Transport::UnixSeqpacket;
}

void read_unix_name(SocketAddress const& from, Address& to) {
  auto const* native = reinterpret_cast<sockaddr_un const*>(&from.storage);
  std::size_t const length = from.length - offsetof(sockaddr_un, sun_path);
  to.abstract_name = length > 0 && native->sun_path[0] == '\0';
  if (to.abstract_name)
    to.path.assign(native->sun_path + 1, length - 1);
  else
    to.path.assign(native->sun_path, strnlen(native->sun_path, length));
}

Address read_inet_name(SocketAddress const& from, Transport transport) {
  Address address{.transport = transport, .host = {}, .path = {}};
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (from.family() == AF_INET) {
    auto const* native = reinterpret_cast<sockaddr_in const*>(&from.storage);
    inet_ntop(AF_INET, &native->sin_addr, text.data(), text.size());
    address.port = ntohs(native->sin_port);
  } else {
    auto const* native = reinterpret_cast<sockaddr_in6 const*>(&from.storage);
    inet_ntop(AF_INET6, &native->sin6_addr, text.data(), text.size());
    address.port = ntohs(native->sin6_port);
  }
  address.host = text.data();
  return address;
}

}  // namespace

int socket_type(Transport transport) {
  switch (transport) {
    case Transport::Tcp:
    case Transport::UnixStream:
      return SOCK_STREAM;
    case Transport::Udp:
    case Transport::UnixDatagram:
      return SOCK_DGRAM;
    case Transport::UnixSeqpacket:
      break;
  }
  return SOCK_SEQPACKET;
}

bool has_ipv6() {
  os::UniqueFd const probe(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe) return false;
  // With net.ipv6.conf.*.disable_ipv6 sockets can be made but not bound.
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  return bind(probe.get(), reinterpret_cast<sockaddr*>(&any), sizeof(any)) == 0;
}

Result<SocketAddress> to_socket_address(Address const& address) {
  if (address.is_unix()) return unix_native(address);
  if (address.is_ipv6() || (address.host.empty() && has_ipv6())) return ipv6_native(address);
  return ipv4_native(address);
}

Result<SocketAddress> to_connect_address(Address const& address) {
  Address reachable = address;
  if (address.host.empty() || address.host == "0.0.0.0") reachable.host = "127.0.0.1";
  if (address.host == "::") reachable.host = "::1";
  return to_socket_address(address.is_unix() ? address : reachable);
}

Result<Address> local_address(int fd) {
  SocketAddress name;
  name.length = sizeof(name.storage);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&name.storage), &name.length) != 0)
    return fail(system_error("getsockname"));
  int type = 0;
  socklen_t length = sizeof(type);
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
    return fail(system_error("getsockopt", "SO_TYPE"));
  int const family = name.family();
  if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
    return fail(ErrorCode::AddressInvalid, fmt::format("a socket of family {} cannot be used as a "
                                                       "listener",
                                                       family));
  auto const transport = transport_of(family, type);
  if (family != AF_UNIX) return read_inet_name(name, transport);
  Address address{.transport = transport, .host = {}, .path = {}};
  read_unix_name(name, address);
  return address;
}

}  // namespace aether::steer
