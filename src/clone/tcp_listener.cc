// SPDX-License-Identifier: Apache-2.0
#include "clone/tcp_listener.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>

namespace aether::clone {
namespace {

constexpr std::array kOptions{
    TcpListener::Option{.level = SOL_SOCKET, .name = SO_REUSEADDR},
    TcpListener::Option{.level = SOL_SOCKET, .name = SO_REUSEPORT},
    TcpListener::Option{.level = SOL_SOCKET, .name = SO_KEEPALIVE},
    TcpListener::Option{.level = SOL_SOCKET, .name = SO_OOBINLINE},
    TcpListener::Option{.level = IPPROTO_TCP, .name = TCP_NODELAY},
    TcpListener::Option{.level = IPPROTO_TCP, .name = TCP_KEEPIDLE},
    TcpListener::Option{.level = IPPROTO_TCP, .name = TCP_KEEPINTVL},
    TcpListener::Option{.level = IPPROTO_TCP, .name = TCP_KEEPCNT},
    TcpListener::Option{.level = IPPROTO_TCP, .name = TCP_USER_TIMEOUT},
    TcpListener::Option{.level = IPPROTO_TCP, .name = TCP_DEFER_ACCEPT},
};

int option_of(int fd, int level, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : 0;
}

union AnyAddress {
  sockaddr_in v4;
  sockaddr_in6 v6;
};

AnyAddress loopback_of(TcpListener const& like) {
  AnyAddress address{.v6 = {}};
  if (like.family == AF_INET) {
    address.v4.sin_family = AF_INET;
    address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  address.v6.sin6_family = AF_INET6;
  inet_pton(AF_INET6, like.only_ipv6 ? "::1" : "::ffff:127.0.0.1", &address.v6.sin6_addr);
  return address;
}

std::uint64_t size_of(TcpListener const& like) {
  return like.family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

}  // namespace

TcpListener read_tcp_listener(int fd, std::uint64_t inode) {
  TcpListener listener{.inode = inode,
                       .family = option_of(fd, SOL_SOCKET, SO_DOMAIN),
                       .protocol = option_of(fd, SOL_SOCKET, SO_PROTOCOL)};
  AnyAddress address{.v6 = {}};
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    listener.port = ntohs(address.v4.sin_port);  // At the same place in both.
  }
  listener.only_ipv6 = listener.family == AF_INET6 && option_of(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0;
  tcp_info info{};
  size = sizeof info;
  // Of a listener: how long its queue may become (tcp_get_info in net/ipv4/tcp.c).
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
    listener.backlog = static_cast<int>(info.tcpi_sacked);
  }
  if (listener.backlog == 0) listener.backlog = SOMAXCONN;  // MPTCP does not say.
  for (auto option : kOptions) {
    option.value = option_of(fd, option.level, option.name);
    if (option.value != 0) listener.options.push_back(option);
  }
  return listener;
}

CallList::Argument add_listener_calls(TcpListener const& like, int number, CallList& list) {
  auto const fd = arg(number);
  list.call("socket", SYS_socket,
            {arg(like.family), SOCK_STREAM | SOCK_CLOEXEC, arg(like.protocol)});
  if (like.family == AF_INET6) {
    auto const only = list.place_value(like.only_ipv6 ? 1 : 0);
    list.call("setsockopt(IPV6_V6ONLY)", SYS_setsockopt,
              {fd, IPPROTO_IPV6, IPV6_V6ONLY, only, sizeof(int)});
  }
  for (auto const& option : like.options) {
    list.call("setsockopt", SYS_setsockopt,
              {fd, arg(option.level), arg(option.name), list.place_value(option.value),
               sizeof option.value});
  }
  auto const address = list.place_value(loopback_of(like));
  auto const size = list.place_value(static_cast<socklen_t>(sizeof(AnyAddress)));
  list.call("bind to the loopback interface", SYS_bind, {fd, address, size_of(like)});
  list.call("listen", SYS_listen, {fd, arg(like.backlog)});
  list.call("getsockname", SYS_getsockname, {fd, address, size});
  return address;
}

std::uint16_t made_port(CallList const& performed, CallList::Argument address) {
  return ntohs(performed.value_at<AnyAddress>(address).v4.sin_port);
}

}  // namespace aether::clone
