// SPDX-License-Identifier: Apache-2.0
#include "http/socket.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "async/timers.h"
#include "base/error.h"

namespace aether::http {
namespace {

using AsioSocket = boost::asio::generic::stream_protocol::socket;

Error gone(std::string_view doing, int errno_value) {
  Error const cause = system_error_from(errno_value, doing);
  return {ErrorCode::Unreachable, fmt::format("the connection was lost: {}", cause.message()),
          errno_value};
}

async::Task<void> wait_for(AsioSocket& socket, AsioSocket::wait_type what) {
  boost::system::error_code ec;
  co_await socket.async_wait(what, boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  if (ec == boost::asio::error::operation_aborted) async::throw_cancelled();
  if (ec) throw system_error_from(ec.value(), "waiting for a socket");
}

}  // namespace

Socket::Socket(async::Executor const& executor, os::UniqueFd fd)
    : socket_(executor, boost::asio::generic::stream_protocol(AF_UNSPEC, 0), fd.get()) {
  (void)fd.release();
}

int Socket::fd() {
  return socket_.native_handle();
}

async::Task<void> Socket::wait_readable() {
  return wait_for(socket_, AsioSocket::wait_read);
}

async::Task<void> Socket::wait_writable() {
  return wait_for(socket_, AsioSocket::wait_write);
}

async::Task<std::size_t> Socket::read_some(std::string& buffer, std::size_t max) {
  std::size_t const before = buffer.size();
  while (true) {
    ssize_t got = 0;
    auto receive = [&](char* data, std::size_t /*size*/) {
      got = ::recv(socket_.native_handle(), data + before, max, MSG_DONTWAIT);
      return got > 0 ? before + static_cast<std::size_t>(got) : before;
    };
    buffer.resize_and_overwrite(before + max, receive);
    if (got >= 0) co_return static_cast<std::size_t>(got);
    int const reason = errno;
    if (reason == EINTR) continue;
    if (reason != EAGAIN) throw gone("recv", reason);
    co_await wait_readable();
  }
}

async::Task<void> Socket::write_all(std::string_view bytes, Duration stall) {
  while (!bytes.empty()) {
    ssize_t const sent =
        ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      continue;
    }
    int const reason = errno;
    if (reason == EINTR) continue;
    if (reason != EAGAIN) throw gone("send", reason);
    bool const writable = co_await async::with_deadline(stall, wait_writable());
    if (!writable) {
      throw Error(ErrorCode::Timeout,
                  fmt::format("the peer took no byte for {}", format_duration(stall)));
    }
  }
}

async::Task<int> Socket::finish_connect() {
  co_await wait_writable();
  int reason = 0;
  socklen_t size = sizeof(reason);
  if (::getsockopt(socket_.native_handle(), SOL_SOCKET, SO_ERROR, &reason, &size) != 0) {
    throw system_error("getsockopt SO_ERROR");
  }
  co_return reason;
}

async::Task<void> Socket::wait_hang_up() {
  while (true) {
    pollfd now{.fd = socket_.native_handle(), .events = 0, .revents = 0};
    if (::poll(&now, 1, 0) > 0 && (now.revents & (POLLHUP | POLLERR)) != 0) co_return;
    co_await socket_.async_wait(boost::asio::socket_base::wait_error, boost::asio::use_awaitable);
  }
}

void Socket::shut_reads() noexcept {
  ::shutdown(socket_.native_handle(), SHUT_RD);
}

void Socket::shut_writes() noexcept {
  ::shutdown(socket_.native_handle(), SHUT_WR);
}

void Socket::reset_when_closed() noexcept {
  linger const now{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

}  // namespace aether::http
