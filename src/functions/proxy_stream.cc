// SPDX-License-Identifier: Apache-2.0
#include "functions/proxy_stream.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace aether::functions {

Status Stream::open(os::UniqueFd fd, Watcher& watcher) {
  AETHER_CHECK(!fd_);
  readiness_ = {.watcher = &watcher, .writable = true};
  TRY(poller_.watch(fd.get(), readiness_));
  fd_ = std::move(fd);
  return {};
}

void Stream::close() {
  if (!fd_) return;
  poller_.unwatch(fd_.get());
  fd_.reset();
}

void Stream::reset() {
  if (!fd_) return;
  linger const at_once{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  close();
}

Stream::Got Stream::read(std::span<char> into) {
  while (true) {
    ssize_t const got = ::recv(fd_.get(), into.data(), into.size(), 0);
    if (got > 0) {
      auto const bytes = static_cast<std::size_t>(got);
      // Less than asked for: there is no more until the next edge (man 7 epoll), unless the end was
      // seen already, which makes no edge again.
      if (bytes < into.size() && !readiness_.peer_closed && !readiness_.broken)
        readiness_.readable = false;
      return {.io = Io::Some, .bytes = bytes};
    }
    if (got < 0 && errno == EINTR) continue;
    readiness_.readable = false;
    if (got == 0) return {.io = Io::End};
    if (errno == EAGAIN) return {.io = Io::Blocked};
    error_ = errno;
    cannot_send_ = true;
    return {.io = Io::Broken};
  }
}

Stream::Io Stream::failed() {
  if (errno == EAGAIN) {
    readiness_.writable = false;
    return Io::Blocked;
  }
  error_ = errno;
  cannot_send_ = true;
  kept_.clear();
  sent_ = 0;
  return Io::Broken;
}

Stream::Io Stream::offer(std::initializer_list<std::string_view> pieces) {
  if (cannot_send_) return Io::Broken;
  if (kept() > 0 || !readiness_.writable) return Io::Blocked;
  std::array<iovec, 4> parts{};
  std::size_t count = 0;
  std::size_t whole = 0;
  for (std::string_view const piece : pieces) {
    if (piece.empty()) continue;
    AETHER_CHECK(count < parts.size());
    parts.at(count++) = {.iov_base = const_cast<char*>(piece.data()), .iov_len = piece.size()};
    whole += piece.size();
  }
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = count;
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return failed();
  auto const taken = static_cast<std::size_t>(sent);
  bytes_sent_ += taken;
  if (taken < whole) {
    readiness_.writable = false;  // there was no room for more
    keep(pieces, taken);
  }
  return Io::Some;
}

void Stream::keep(std::initializer_list<std::string_view> pieces, std::size_t taken) {
  for (std::string_view const piece : pieces) {
    std::size_t const skipped = std::min(taken, piece.size());
    kept_.append(piece.substr(skipped));
    taken -= skipped;
  }
}

Stream::Io Stream::send(std::initializer_list<std::string_view> pieces) {
  Io const io = offer(pieces);
  if (io != Io::Blocked) return io;
  keep(pieces, 0);
  return Io::Some;
}

Stream::Io Stream::flush() {
  while (kept() > 0 && readiness_.writable) {
    ssize_t const sent = ::send(fd_.get(), kept_.data() + sent_, kept(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return failed();
    sent_ += static_cast<std::size_t>(sent);
    bytes_sent_ += static_cast<std::uint64_t>(sent);
  }
  if (kept() > 0) return Io::Blocked;
  sent_ = 0;
  // A slow peer's memory goes back; small pieces keep theirs.
  if (kept_.capacity() > 4096) std::string().swap(kept_);
  kept_.clear();
  if (shut_) end_writes();
  return Io::Some;
}

void Stream::shut_writes() {
  if (shut_ || !fd_) return;
  shut_ = true;
  if (kept() == 0) end_writes();
}

void Stream::end_writes() {
  (void)::shutdown(fd_.get(), SHUT_WR);
  cannot_send_ = true;
}

}  // namespace aether::functions
