// SPDX-License-Identifier: Apache-2.0
// Messages with descriptors and credentials over unix sockets (man 7 unix, man 3 cmsg).
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "os/unix_socket.h"

namespace aether::os {
namespace {

constexpr std::size_t kControlMax =
    CMSG_SPACE(sizeof(int) * kFdsPerMessageMax) + CMSG_SPACE(sizeof(ucred));

struct alignas(cmsghdr) ControlBuffer {
  std::array<std::byte, kControlMax> bytes{};
};

bool is_peer_gone(int reason) {
  return reason == EPIPE || reason == ECONNRESET || reason == ECONNREFUSED || reason == ENOTCONN;
}

Failure send_failure(int reason, std::size_t fd_count) {
  std::string message = system_error_from(reason, "send on a unix socket").message();
  if (is_peer_gone(reason)) return fail(ErrorCode::Unreachable, std::move(message), reason);
  if (reason == ETOOMANYREFS)
    return fail(ErrorCode::LimitReached,
                fmt::format("{}: {} more descriptors would be on their way at once than the limit "
                            "of open files allows; wait until the peer has received some",
                            message, fd_count),
                reason);
  if (reason == EMSGSIZE) return fail(ErrorCode::LimitReached, std::move(message), reason);
  return fail(ErrorCode::SystemCall, std::move(message), reason);
}

/// Takes every descriptor and the credentials out of a received message: nothing may stay behind,
/// because the kernel has given us the descriptors already.
void take_control(msghdr& message, Received& received) {
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
       item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_SOCKET) continue;
    std::size_t const size = item->cmsg_len - CMSG_LEN(0);
    if (item->cmsg_type == SCM_RIGHTS) {
      for (std::size_t at = 0; at + sizeof(int) <= size; at += sizeof(int)) {
        int fd = -1;
        ::memcpy(&fd, CMSG_DATA(item) + at, sizeof(fd));
        received.fds.emplace_back(fd);
      }
    } else if (item->cmsg_type == SCM_CREDENTIALS && size >= sizeof(ucred)) {
      ucred sender{};
      ::memcpy(&sender, CMSG_DATA(item), sizeof(sender));
      received.sender = PeerCredentials{.pid = sender.pid, .uid = sender.uid, .gid = sender.gid};
    }
  }
}

}  // namespace

Result<std::optional<std::size_t>> send_with_fds(int socket, std::span<std::byte const> bytes,
                                                 std::span<int const> fds) {
  if (fds.size() > kFdsPerMessageMax)
    return fail(ErrorCode::LimitReached,
                fmt::format("{} descriptors do not fit into one message, which takes {}",
                            fds.size(), kFdsPerMessageMax));
  iovec piece{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  ControlBuffer control;
  if (!fds.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(fds.size_bytes());
    ::memcpy(CMSG_DATA(item), fds.data(), fds.size_bytes());
  }
  while (true) {
    ssize_t const sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<std::size_t>(sent);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) return send_failure(errno, fds.size());
  }
}

Result<std::optional<std::size_t>> send_with_fds(int socket, std::string_view bytes,
                                                 std::span<int const> fds) {
  return send_with_fds(socket, std::as_bytes(std::span(bytes)), fds);
}

Result<std::optional<Received>> receive_with_fds(int socket, std::span<std::byte> buffer,
                                                 std::size_t fds_max) {
  fds_max = std::min(fds_max, kFdsPerMessageMax);
  iovec piece{.iov_base = buffer.data(), .iov_len = buffer.size()};
  ControlBuffer control;
  msghdr message{};
  ssize_t count = -1;
  while (count < 0) {
    message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds_max) + CMSG_SPACE(sizeof(ucred));
    count = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    int const reason = errno;
    if (count >= 0 || reason == EINTR) continue;
    if (reason == EAGAIN) return std::nullopt;
    return fail(is_peer_gone(reason) ? ErrorCode::Unreachable : ErrorCode::SystemCall,
                system_error_from(reason, "receive on a unix socket").message(), reason);
  }
  Received received;
  received.bytes = static_cast<std::size_t>(count);
  received.bytes_truncated = (message.msg_flags & MSG_TRUNC) != 0;
  take_control(message, received);
  // The buffer has room for more than fds_max, because of its padding and the credentials.
  received.fds_truncated = (message.msg_flags & MSG_CTRUNC) != 0 || received.fds.size() > fds_max;
  if (received.fds_truncated) received.fds.clear();
  return received;
}

Result<std::optional<Received>> receive_with_fds(int socket, std::span<char> buffer,
                                                 std::size_t fds_max) {
  return receive_with_fds(socket, std::as_writable_bytes(buffer), fds_max);
}

}  // namespace aether::os
