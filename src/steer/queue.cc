// SPDX-License-Identifier: Apache-2.0
#include "steer/queue.h"

#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "os/file.h"

namespace aether::steer {
namespace {

Result<tcp_info> read_tcp_info(int fd) {
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
    return fail(system_error("getsockopt", "TCP_INFO"));
  return info;
}

short poll_now(int fd, short events) {
  pollfd entry{.fd = fd, .events = events, .revents = 0};
  return poll(&entry, 1, 0) > 0 ? entry.revents : short{0};
}

}  // namespace

Result<QueueDepth> read_queue(int fd, Transport transport) {
  if (transport == Transport::Tcp) {
    // On a listener these two fields are the accept queue and its limit (tcp_get_info).
    TRY_ASSIGN(auto const info, read_tcp_info(fd));
    if (info.tcpi_state != TCP_LISTEN) return QueueDepth{};
    return QueueDepth{.empty = info.tcpi_unacked == 0,
                      .connections = info.tcpi_unacked,
                      .limit = info.tcpi_sacked};
  }
  bool const waiting = (poll_now(fd, POLLIN) & POLLIN) != 0;
  return QueueDepth{.empty = !waiting, .connections = waiting ? 1U : 0U};
}

bool has_left_listen(int fd, Transport transport) {
  switch (transport) {
    case Transport::Tcp: {
      auto const info = read_tcp_info(fd);
      return info && info->tcpi_state != TCP_LISTEN;
    }
    case Transport::UnixStream:
    case Transport::UnixSeqpacket:
      return (poll_now(fd, POLLIN) & POLLHUP) != 0;
    case Transport::Udp:
    case Transport::UnixDatagram:
      break;
  }
  return false;
}

std::uint32_t read_drops(int fd) {
  std::array<std::uint32_t, SK_MEMINFO_VARS> values{};
  socklen_t length = sizeof(values);
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values.data(), &length) != 0) return 0;
  return values[SK_MEMINFO_DROPS];
}

Result<bool> tcp_migrate_req() {
  TRY_ASSIGN(auto const text, os::read_file("/proc/sys/net/ipv4/tcp_migrate_req", 64));
  return text.starts_with('1');
}

}  // namespace aether::steer
