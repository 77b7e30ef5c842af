// SPDX-License-Identifier: Apache-2.0
#include "async/wait_fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <utility>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "async/timers.h"
#include "base/error.h"
#include "os/unique_fd.h"

namespace aether::async {
namespace {

using boost::asio::posix::stream_descriptor;

constexpr Duration kPollPause = std::chrono::milliseconds(10);

// A set of its own around the fd. Asio is given the set, never the fd: it would make the fd
// O_NONBLOCK, for every process that shares it, and would refuse a second waiter.
Result<os::UniqueFd> watch(int fd, std::uint32_t events) {
  os::UniqueFd set(::epoll_create1(EPOLL_CLOEXEC));
  if (!set) return fail(system_error("epoll_create1"));
  epoll_event event{};
  event.events = events;
  if (::epoll_ctl(set.get(), EPOLL_CTL_ADD, fd, &event) == 0) return set;
  if (errno == EPERM) {
    return fail(
        ErrorCode::Unsupported,
        fmt::format("waiting for fd {}: it is a file without readiness (a regular file or a "
                    "directory); read it directly",
                    fd),
        EPERM);
  }
  return fail(system_error("epoll_ctl", fmt::format("fd {}", fd)));
}

bool is_ready(int set) {
  epoll_event event{};
  return ::epoll_wait(set, &event, 1, 0) > 0;
}

// Without a descriptor to spare: a child's output must be drained, and a peer answered, all the
// same.
Task<void> wait_by_polling(int fd, std::uint32_t events) {
  // poll() and epoll share the values of these bits (man 2 epoll_ctl).
  pollfd entry{.fd = fd, .events = static_cast<short>(events), .revents = 0};
  while (::poll(&entry, 1, 0) == 0) co_await sleep_for(kPollPause);
  co_await yield();
}

/// Out of descriptors, of memory, or of what one user may watch (man 2 epoll_ctl, ENOSPC).
bool is_scarcity(int reason) {
  return reason == EMFILE || reason == ENFILE || reason == ENOMEM || reason == ENOSPC;
}

Task<void> wait_for_events(int fd, std::uint32_t events) {
  Result<os::UniqueFd> watched = watch(fd, events);
  int const reason = watched ? 0 : watched.error().errno_value();
  if (is_scarcity(reason)) co_return co_await wait_by_polling(fd, events);
  os::UniqueFd set = or_throw(std::move(watched));
  if (is_ready(set.get())) co_return co_await yield();
  Executor const executor = co_await this_executor;
  stream_descriptor descriptor(executor);
  boost::system::error_code ec;
  // Asio's own set may have no room for ours either.
  if (descriptor.assign(set.get(), ec); !ec) {
    (void)set.release();
    co_await descriptor.async_wait(stream_descriptor::wait_read,
                                   boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  }
  if (ec == boost::asio::error::operation_aborted) throw_cancelled();
  if (ec && is_scarcity(ec.value())) co_return co_await wait_by_polling(fd, events);
  if (ec) throw system_error_from(ec.value(), "waiting for", fmt::format("fd {}", fd));
}

}  // namespace

Task<void> readable(int fd) {
  return wait_for_events(fd, EPOLLIN | EPOLLRDHUP);
}

Task<void> writable(int fd) {
  return wait_for_events(fd, EPOLLOUT);
}

Task<bool> readable_for(int fd, Duration duration) {
  return with_deadline(duration, readable(fd));
}

Task<bool> writable_for(int fd, Duration duration) {
  return with_deadline(duration, writable(fd));
}

}  // namespace aether::async
