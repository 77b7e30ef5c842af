// SPDX-License-Identifier: Apache-2.0
#include "supervise/echo.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "async/wait_fd.h"

namespace aether::supervise {

namespace {

/// What a pipe that is writable takes at once (man 7 pipe, PIPE_BUF), and a terminal nearly always.
constexpr std::size_t kPieceMax = 512;

}  // namespace

Echo::Echo(async::Executor executor, int fd) : fd_(fd), tasks_(std::move(executor), "echo") {
  struct stat status{};
  if (::fstat(fd, &status) != 0) broken_ = true;
  if (S_ISSOCK(status.st_mode)) kind_ = Kind::Socket;
  if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
    // A second open file description has flags of its own. Files have a position of their own, too,
    // which must stay shared; but writing to them does not wait.
    std::string const path = fmt::format("/proc/self/fd/{}", fd);
    own_.reset(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (own_) fd_ = own_.get();
    // It may belong to another user, or /proc may be missing: then each piece is asked for.
    kind_ = own_ ? Kind::NonBlocking : Kind::Asked;
  }
  empty_.set();
  tasks_.spawn("show", show());
}

bool Echo::has_room_for(std::size_t bytes) {
  if (broken_) return false;
  if (pending_.size() + bytes > kEchoBytesMax) {
    ++dropped_;
    return false;
  }
  if (dropped_ != dropped_told_) {
    fmt::format_to(std::back_inserter(pending_),
                   "[aether] {} lines were not shown, because the output was not read\n",
                   dropped_ - dropped_told_);
    dropped_told_ = dropped_;
  }
  return true;
}

void Echo::line(std::string_view service, RevisionId revision, std::string_view text) {
  if (!has_room_for(text.size())) return;
  fmt::format_to(std::back_inserter(pending_), "[{} r{}] {}\n", service, revision, text);
  empty_.reset();
  grown_.set();
}

void Echo::text(std::string_view lines) {
  if (!has_room_for(lines.size())) return;
  pending_ += lines;
  if (flush() && pending_.empty()) return;
  empty_.reset();
  grown_.set();
}

async::Task<void> Echo::show() {
  while (!broken_) {
    co_await grown_.wait();
    grown_.reset();
    while (!flush()) {
      int const fd = fd_;
      co_await async::writable(fd);
    }
    empty_.set();
  }
}

ssize_t Echo::write_some(std::string_view bytes) const {
  if (kind_ == Kind::Socket)
    return ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (kind_ == Kind::Asked) {
    pollfd room{.fd = fd_, .events = POLLOUT, .revents = 0};
    if (::poll(&room, 1, 0) == 0) {
      errno = EAGAIN;
      return -1;
    }
    bytes = bytes.substr(0, kPieceMax);
  }
  return ::write(fd_, bytes.data(), bytes.size());
}

bool Echo::flush() {
  std::string_view rest = pending_;
  bool full = false;
  while (!rest.empty() && !full && !broken_) {
    ssize_t const count = write_some(rest);
    if (count >= 0)
      rest.remove_prefix(static_cast<std::size_t>(count));
    else if (errno == EAGAIN)
      full = true;
    else if (errno != EINTR)
      broken_ = true;  // EPIPE: nobody will ever read it.
  }
  if (broken_) rest = {};
  pending_.erase(0, pending_.size() - rest.size());
  return !full;
}

async::Task<void> Echo::stop(Duration patience) {
  co_await async::ignore_cancellation();
  if (!broken_) co_await empty_.wait_for(patience);
  async::Task<std::vector<std::string>> stopping = tasks_.stop(patience);
  co_await std::move(stopping);
}

}  // namespace aether::supervise
