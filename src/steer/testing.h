// SPDX-License-Identifier: Apache-2.0
// Clients and servers for this room's tests: blocking, with deadlines, on real sockets. Only
// *_test.cc files include this.
#pragma once
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "os/unique_fd.h"
#include "steer/listener.h"
#include "steer/socket_address.h"

namespace aether::steer::testing {

/// A wait longer than this means that something is lost. Generous, for sanitizers under load.
inline constexpr int kTestPatienceMs = 20'000;

inline RevisionId revision(std::uint64_t number) {
  return RevisionId{number};
}

inline Address address_of(std::string_view text) {
  auto address = parse_address(text);
  EXPECT_TRUE(address.has_value()) << text;
  return *std::move(address);
}

inline ListenerGroup open_group(std::string_view address, ListenMode mode = ListenMode::Steered) {
  auto group = ListenerGroup::open({.name = "http", .address = address_of(address), .mode = mode});
  if (!group) throw std::move(group).error();
  return *std::move(group);
}

inline bool waits_for(int fd, short events, int patience_ms = kTestPatienceMs) {
  pollfd entry{.fd = fd, .events = events, .revents = 0};
  return poll(&entry, 1, patience_ms) > 0;
}

/// Connected, or empty with errno.
inline os::UniqueFd connect_to(Address const& address) {
  auto const to = to_connect_address(address);
  if (!to) return {};
  os::UniqueFd fd(socket(to->family(), socket_type(address.transport) | SOCK_CLOEXEC, 0));
  timeval const patience{.tv_sec = kTestPatienceMs / 1000, .tv_usec = 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  if (connect(fd.get(), to->get(), to->length) != 0) fd.reset();
  return fd;
}

/// Everything until the other side closes; nothing if it was reset.
inline std::optional<std::string> read_all(int fd) {
  std::string all;
  char buffer[4096];
  while (true) {
    ssize_t const got = recv(fd, buffer, sizeof(buffer), 0);
    if (got < 0) return std::nullopt;
    if (got == 0) return all;
    all.append(buffer, static_cast<std::size_t>(got));
  }
}

/// The next connection of a lane, or empty if none waits now.
inline os::UniqueFd accept_now(int lane) {
  if (!waits_for(lane, POLLIN, 0)) return {};
  return os::UniqueFd(accept4(lane, nullptr, nullptr, SOCK_CLOEXEC));
}

/// Answers everything that waits in a lane with `answer`; how many there were.
inline int answer_all(int lane, std::string_view answer) {
  int answered = 0;
  for (auto connection = accept_now(lane); connection; connection = accept_now(lane)) {
    send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    ++answered;
  }
  return answered;
}

/// What was sent up to a newline (or the end).
inline std::string read_line(int fd) {
  std::string line;
  char letter = 0;
  while (recv(fd, &letter, 1, 0) == 1) {
    line += letter;
    if (letter == '\n') break;
  }
  return line;
}

/// Serves a lane in a thread of its own, one connection after the other: answers with `answer`, or,
/// if that is empty, with the line that the client sent.
class LaneServer {
 public:
  explicit LaneServer(int fd, std::string answer = {})
      : fd_(*os::duplicate(fd)), answer_(std::move(answer)), thread_([this] { serve(); }) {}
  ~LaneServer() {
    stopped_ = true;
    thread_.join();
  }

 private:
  void serve() {
    while (!stopped_)
      if (waits_for(fd_.get(), POLLIN, 2)) serve_waiting();
    serve_waiting();
  }
  void serve_waiting() {
    if (!answer_.empty()) {
      answer_all(fd_.get(), answer_);
      return;
    }
    for (auto connection = accept_now(fd_.get()); connection; connection = accept_now(fd_.get())) {
      auto const line = read_line(connection.get());
      send(connection.get(), line.data(), line.size(), MSG_NOSIGNAL);
    }
  }

  os::UniqueFd fd_;
  std::string answer_;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

inline int lane(ListenerGroup& group, std::uint64_t number) {
  auto fd = group.lane_fd(revision(number));
  if (!fd) throw std::move(fd).error();
  return *fd;
}

/// Where one new connection goes: the number of the revision whose lane it waits in; 0 if lost.
inline std::uint64_t lands_on(ListenerGroup& group, std::vector<std::uint64_t> const& numbers) {
  auto const client = connect_to(group.bound());
  if (!client) return 0;
  for (auto const number : numbers)
    if (accept_now(lane(group, number))) return number;
  return 0;
}

}  // namespace aether::steer::testing
