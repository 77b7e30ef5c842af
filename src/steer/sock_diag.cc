// SPDX-License-Identifier: Apache-2.0
#include "steer/sock_diag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <sstream>

#include <fmt/format.h>

#include "os/file.h"
#include "os/proc.h"
#include "os/unique_fd.h"

namespace aether::steer {
namespace {

/// One netlink answer at most: the kernel fills up to 32 KiB (NLMSG_GOODSIZE grows to it).
constexpr std::size_t kDiagBufferBytes = 32 * 1024;
/// /proc/net/unix has about 60 bytes a socket.
constexpr std::size_t kUnixListBytesMax = 16 * 1024 * 1024;

struct DiagRequest {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

/// Listening TCP sockets; or unconnected UDP ones, whose state TCP calls closed, and connected
/// ones.
std::uint32_t bound_states(Transport transport) {
  if (transport == Transport::Tcp) return 1U << TCP_LISTEN;
  return 1U << TCP_CLOSE | 1U << TCP_ESTABLISHED;
}
/// Whatever a program may still read from or write to.
constexpr std::uint32_t kOpenStates =
    1U << TCP_ESTABLISHED | 1U << TCP_CLOSE_WAIT | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2;

Status ask_for_sockets(int netlink, int family, Transport transport, std::uint16_t port,
                       std::uint32_t states) {
  DiagRequest request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = static_cast<__u8>(family);
  bool const tcp = transport == Transport::Tcp;
  request.body.sdiag_protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP;
  request.body.idiag_states = states;
  request.body.id.idiag_sport = htons(port);
  if (send(netlink, &request, sizeof(request), 0) < 0)
    return fail(system_error("send", "sock_diag request"));
  return {};
}

BoundSocket read_diag(nlmsghdr const* header) {
  auto const* body = static_cast<inet_diag_msg const*>(NLMSG_DATA(header));
  BoundSocket socket{
      .inode = body->idiag_inode, .uid = body->idiag_uid, .family = body->idiag_family};
  std::memcpy(socket.address.data(), body->id.idiag_src, body->idiag_family == AF_INET ? 4 : 16);
  auto left = static_cast<int>(NLMSG_PAYLOAD(header, sizeof(*body)));
  auto const* attribute = reinterpret_cast<rtattr const*>(body + 1);
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
    if (attribute->rta_type == INET_DIAG_SKV6ONLY)
      socket.v6_only = *static_cast<unsigned char const*>(RTA_DATA(attribute)) != 0;
  return socket;
}

/// Reads one dump to its end. A kernel without this protocol answers with an error message.
Status read_dump(int netlink, std::uint16_t port, std::vector<BoundSocket>& into) {
  alignas(nlmsghdr) std::array<char, kDiagBufferBytes> buffer;
  while (true) {
    ssize_t const got = recv(netlink, buffer.data(), buffer.size(), 0);
    if (got < 0) return fail(system_error("recv", "sock_diag answer"));
    auto left = static_cast<unsigned>(got);
    auto const* header = reinterpret_cast<nlmsghdr const*>(buffer.data());
    for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return {};
      if (header->nlmsg_type == NLMSG_ERROR) {
        auto const* error = static_cast<nlmsgerr const*>(NLMSG_DATA(header));
        return fail(ErrorCode::Unsupported, "this kernel does not list sockets by sock_diag",
                    -error->error);
      }
      auto const* body = static_cast<inet_diag_msg const*>(NLMSG_DATA(header));
      if (body->id.idiag_sport == htons(port)) into.push_back(read_diag(header));
    }
  }
}

std::string describe_process(pid_t pid) {
  if (pid == getpid()) return fmt::format("this Aether itself (pid {}), for another listener", pid);
  return fmt::format("{} (pid {})", os::read_comm(pid), pid);
}

Result<std::vector<BoundSocket>> sockets_in(Transport transport, std::uint16_t port,
                                            std::uint32_t states) {
  os::UniqueFd const netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink) return fail(ErrorCode::Unsupported, "sock_diag is not available", errno);
  std::vector<BoundSocket> sockets;
  for (int const family : {AF_INET, AF_INET6}) {
    TRY(ask_for_sockets(netlink.get(), family, transport, port, states));
    TRY(read_dump(netlink.get(), port, sockets));
  }
  return sockets;
}

}  // namespace

Result<std::vector<BoundSocket>> sockets_on_port(Transport transport, std::uint16_t port) {
  return sockets_in(transport, port, bound_states(transport));
}

Result<std::vector<BoundSocket>> connections_on_port(std::uint16_t port) {
  return sockets_in(Transport::Tcp, port, kOpenStates);
}

std::vector<std::uint64_t> unix_sockets_on(Address const& address) {
  std::vector<std::uint64_t> inodes;
  auto const list = os::read_file("/proc/net/unix", kUnixListBytesMax);
  if (!list) return inodes;
  std::string const name = (address.abstract_name ? "@" : "") + address.path;
  std::istringstream lines(*list);
  for (std::string line; std::getline(lines, line);) {
    // Num RefCount Protocol Flags Type St Inode Path
    std::istringstream fields(line);
    std::string skipped;
    std::string path;
    std::uint64_t inode = 0;
    for (int i = 0; i < 6; ++i) fields >> skipped;
    fields >> inode >> std::ws;
    std::getline(fields, path);
    if (inode != 0 && path == name) inodes.push_back(inode);
  }
  return inodes;
}

std::string describe_holder(std::span<std::uint64_t const> inodes) {
  std::vector<std::string> links;
  for (auto const inode : inodes) links.push_back(fmt::format("socket:[{}]", inode));
  auto const pids = os::list_pids();
  if (!pids) return "another program";
  for (pid_t const pid : *pids) {
    auto const fds = os::list_fds(pid);
    auto const is_held = [&](int fd) {
      return std::ranges::find(links, os::read_fd_link(pid, fd)) != links.end();
    };
    if (std::ranges::any_of(fds, is_held)) return describe_process(pid);
  }
  return "another program";
}

std::string describe_holder(Address const& address) {
  if (address.is_unix()) return describe_holder(unix_sockets_on(address));
  auto const sockets = sockets_on_port(address.transport, address.port);
  if (!sockets || sockets->empty()) return "another program";
  std::vector<std::uint64_t> inodes;
  for (auto const& socket : *sockets) inodes.push_back(socket.inode);
  auto named = describe_holder(inodes);
  if (named == "another program" && sockets->front().uid != geteuid())
    return fmt::format("a process of uid {}", sockets->front().uid);
  return named;
}

}  // namespace aether::steer
