// SPDX-License-Identifier: Apache-2.0
#include "supervise/notify_socket.h"

#include <unistd.h>

#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "supervise/fd_store.h"

namespace aether::supervise {
namespace {

/// Descriptors taken with one datagram; the kernel closes nothing for us beyond (os says so).
constexpr std::size_t kFdsPerDatagramMax = os::kFdsPerMessageMax;

}  // namespace

Result<NotifySocket> NotifySocket::open(std::string path, std::optional<uid_t> speaker) {
  mode_t const mode = speaker.value_or(::geteuid()) == 0 ? 0666 : 0600;
  TRY_ASSIGN(os::UniqueFd socket, os::listen_unix(path, os::UnixKind::Datagram, mode));
  NotifySocket notify(std::move(path), std::move(socket));
  TRY(os::pass_credentials(notify.fd()));
  if (speaker && *speaker != ::geteuid() &&
      ::lchown(notify.path().c_str(), *speaker, static_cast<gid_t>(-1)) != 0)
    return fail(system_error("chown", notify.path()));
  return notify;
}

NotifySocket::NotifySocket(std::string path, os::UniqueFd socket)
    : path_(std::move(path)), socket_(std::move(socket)) {}

NotifySocket::NotifySocket(NotifySocket&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      socket_(std::move(other.socket_)),
      buffer_(std::move(other.buffer_)),
      counts_(other.counts_) {}

NotifySocket::~NotifySocket() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

bool NotifySocket::drain(std::size_t messages_max, Judge const& may_speak, Sink const& sink) {
  buffer_.resize(kNotifyBytesMax);
  for (std::size_t taken = 0; taken < messages_max; ++taken) {
    auto received =
        os::receive_with_fds(socket_.get(), std::span<char>(buffer_), kFdsPerDatagramMax);
    if (!received) {
      log::warn("reading {}: {}", path_, received.error().describe());
      break;
    }
    if (!*received) {
      buffer_ = {};  // Most children speak twice in their lives: 64 KiB each would be a waste.
      return false;
    }
    os::Received& datagram = **received;
    if (datagram.fds_truncated && counts_.fds_lost++ == 0)
      log::warn(
          "{}: descriptors were lost on their way: Aether's own limit of open files was reached",
          path_);
    if (datagram.bytes_truncated || !datagram.sender || !may_speak(*datagram.sender)) {
      ++counts_.dropped;
    } else {
      ++counts_.messages;
      sink(parse_notify_message({buffer_.data(), datagram.bytes}), datagram.fds);
    }
    for (os::UniqueFd& fd : datagram.fds) close_received(std::move(fd));
  }
  return true;
}

}  // namespace aether::supervise
