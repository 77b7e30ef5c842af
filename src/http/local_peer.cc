// SPDX-License-Identifier: Apache-2.0
#include "http/local_peer.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <sstream>
#include <string>

#include <fmt/format.h>

#include "os/file.h"
#include "os/unique_fd.h"

namespace aether::http {
namespace {

/// /proc/net/tcp has 150 bytes a socket.
constexpr std::size_t kSocketListBytesMax = 16 * 1024 * 1024;

/// An address as the kernel's lists have it: IPv4 in IPv6 is IPv4.
struct End {
  int family = AF_INET;
  std::array<unsigned char, 16> bytes{};  // network order; 4 are used by IPv4
  std::uint16_t port = 0;                 // host order
};

End end_of(SocketAddress const& address) {
  End end{.family = address.family(), .port = address.port()};
  if (end.family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address.storage, sizeof(v4));
    std::memcpy(end.bytes.data(), &v4.sin_addr, 4);
    return end;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &address.storage, sizeof(v6));
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    end.family = AF_INET;
    std::memcpy(end.bytes.data(), &v6.sin6_addr.s6_addr[12], 4);
  } else {
    std::memcpy(end.bytes.data(), &v6.sin6_addr, 16);
  }
  return end;
}

/// In these states the socket may still be held by the process that made it.
bool may_be_held(int state) {
  return state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 ||
         state == TCP_CLOSE_WAIT;
}

/// What the kernel answered: the socket's owner, nobody, or no answer at all.
struct Answer {
  bool asked = false;
  std::optional<uid_t> user;
};

Answer read_answer(int netlink, End const& theirs, End const& ours) {
  alignas(nlmsghdr) std::array<char, 4096> buffer{};
  ssize_t const got = ::recv(netlink, buffer.data(), buffer.size(), 0);
  if (got < static_cast<ssize_t>(sizeof(nlmsghdr))) return {};
  auto const* header = reinterpret_cast<nlmsghdr const*>(buffer.data());
  if (header->nlmsg_type == NLMSG_ERROR) {
    nlmsgerr error{};
    if (got < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(error)))) return {};
    std::memcpy(&error, NLMSG_DATA(header), sizeof(error));
    return {.asked = error.error == -ENOENT, .user = std::nullopt};
  }
  inet_diag_msg body{};
  bool const whole = header->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
                     got >= static_cast<ssize_t>(NLMSG_LENGTH(sizeof(body)));
  if (!whole) return {};
  std::memcpy(&body, NLMSG_DATA(header), sizeof(body));
  // A listener on that port is answered when the connection is gone. What no process holds has no
  // inode, and is shown as root's.
  bool const is_it = ntohs(body.id.idiag_sport) == theirs.port &&
                     ntohs(body.id.idiag_dport) == ours.port && body.idiag_inode != 0 &&
                     may_be_held(body.idiag_state);
  return {.asked = true, .user = is_it ? std::optional<uid_t>(body.idiag_uid) : std::nullopt};
}

Answer ask_kernel(End const& theirs, End const& ours) {
  os::UniqueFd const netlink(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!netlink) return {};
  struct {
    nlmsghdr header;
    inet_diag_req_v2 body;
  } request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_family = static_cast<__u8>(theirs.family);
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = ~0U;
  request.body.id.idiag_sport = htons(theirs.port);
  request.body.id.idiag_dport = htons(ours.port);
  std::memcpy(request.body.id.idiag_src, theirs.bytes.data(), theirs.bytes.size());
  std::memcpy(request.body.id.idiag_dst, ours.bytes.data(), ours.bytes.size());
  request.body.id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (::send(netlink.get(), &request, sizeof(request), 0) < 0) return {};
  return read_answer(netlink.get(), theirs, ours);
}

/// "0100007F:1F90" for IPv4; `mapped`: as it stands in the list of IPv6 sockets.
std::string in_list(End const& end, bool mapped) {
  std::string text = mapped ? "0000000000000000FFFF0000" : "";
  std::size_t const size = end.family == AF_INET ? 4 : 16;
  for (std::size_t i = 0; i < size; i += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, &end.bytes[i], sizeof(word));
    text += fmt::format("{:08X}", word);
  }
  return fmt::format("{}:{:04X}", text, end.port);
}

std::optional<uid_t> search(std::string const& path, SocketAddress const& theirs,
                            SocketAddress const& ours) {
  auto const list = os::read_file(path, kSocketListBytesMax);
  if (!list) return std::nullopt;
  std::istringstream lines(*list);
  for (std::string line; std::getline(lines, line);) {
    if (auto const user = user_in_line(line, theirs, ours)) return user;
  }
  return std::nullopt;
}

}  // namespace

std::optional<uid_t> user_in_line(std::string_view line, SocketAddress const& theirs,
                                  SocketAddress const& ours) {
  // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
  End const them = end_of(theirs);
  End const us = end_of(ours);
  std::istringstream fields{std::string(line)};
  std::array<std::string, 10> field;
  for (std::string& one : field) fields >> one;
  if (!fields) return std::nullopt;
  bool const plain = field[1] == in_list(them, false) && field[2] == in_list(us, false);
  bool const mapped =
      them.family == AF_INET && field[1] == in_list(them, true) && field[2] == in_list(us, true);
  if (!plain && !mapped) return std::nullopt;
  int state = 0;
  std::from_chars(field[3].data(), field[3].data() + field[3].size(), state, 16);
  if (field[9] == "0" || !may_be_held(state)) return std::nullopt;
  uid_t user = 0;
  auto const [end, failed] =
      std::from_chars(field[7].data(), field[7].data() + field[7].size(), user);
  if (failed != std::errc{} || end != field[7].data() + field[7].size()) return std::nullopt;
  return user;
}

std::optional<uid_t> user_of_connection(SocketAddress const& theirs, SocketAddress const& ours) {
  Answer const answer = ask_kernel(end_of(theirs), end_of(ours));
  if (answer.asked) return answer.user;
  if (auto const user = search("/proc/net/tcp", theirs, ours)) return user;
  return search("/proc/net/tcp6", theirs, ours);
}

}  // namespace aether::http
