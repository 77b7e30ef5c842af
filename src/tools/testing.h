// SPDX-License-Identifier: Apache-2.0
// For this room's tests: a server on a thread of its own that reads each request whole, counts it,
// and does what the test says; and calls with arguments written as JSON.
#pragma once
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "async/testing.h"
#include "base/json.h"
#include "os/unique_fd.h"
#include "tools/tool.h"

namespace aether::tools::testing {

/// A wait that hangs fails the test by this.
inline constexpr Duration kPatience = std::chrono::seconds(30);

class Counterpart {
 public:
  /// Called on the server's thread with the connection and the request; it is closed afterwards.
  using Play = std::function<void(int client, std::string const& request)>;

  explicit Counterpart(Play play) : play_(std::move(play)) {
    listener_ = os::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    end_ = os::UniqueFd(::eventfd(0, EFD_CLOEXEC));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const raw = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(listener_.get(), raw, size), 0);
    EXPECT_EQ(::listen(listener_.get(), 64), 0);
    EXPECT_EQ(::getsockname(listener_.get(), raw, &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Counterpart() {
    std::uint64_t const one = 1;
    EXPECT_EQ(::write(end_.get(), &one, sizeof(one)), 8);
    thread_.join();
  }
  Counterpart(Counterpart const&) = delete;
  Counterpart& operator=(Counterpart const&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] std::string url(std::string_view target) const {
    return "http://127.0.0.1:" + std::to_string(port_) + std::string(target);
  }
  [[nodiscard]] std::vector<std::string> requests() const {
    std::lock_guard const held(mutex_);
    return requests_;
  }
  /// Waits on the server's thread until the peer has left, or the test is over.
  void wait_until_left(int client) const {
    while (true) {
      pollfd waits[2] = {{client, POLLIN | POLLRDHUP, 0}, {end_.get(), POLLIN, 0}};
      ::poll(waits, 2, -1);
      char byte = 0;
      if (waits[1].revents != 0 || ::recv(client, &byte, 1, 0) <= 0) return;
    }
  }

 private:
  void serve() {
    while (true) {
      pollfd waits[2] = {{listener_.get(), POLLIN, 0}, {end_.get(), POLLIN, 0}};
      ::poll(waits, 2, -1);
      if (waits[1].revents != 0) return;
      os::UniqueFd const client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::string const request = read_request(client.get());
      if (request.empty()) continue;
      {
        std::lock_guard const held(mutex_);
        requests_.push_back(request);
      }
      play_(client.get(), request);
    }
  }
  static std::size_t length_of(std::string const& request) {
    std::size_t const at = request.find("Content-Length: ");
    std::size_t const head = request.find("\r\n\r\n");
    if (head == std::string::npos) return request.size() + 1;
    return head + 4 + (at < head ? std::stoul(request.substr(at + 16)) : 0);
  }
  static std::string read_request(int client) {
    std::string request;
    char bytes[4096];
    while (request.size() < length_of(request)) {
      ssize_t const got = ::recv(client, bytes, sizeof(bytes), 0);
      if (got <= 0) return {};
      request.append(bytes, static_cast<std::size_t>(got));
    }
    return request;
  }

  Play play_;
  os::UniqueFd listener_;
  os::UniqueFd end_;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

inline void say(int client, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t const sent = ::send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}
/// An answer with its length.
inline std::string answer(std::string_view status, std::string_view body,
                          std::string_view more = "") {
  return "HTTP/1.1 " + std::string(status) + "\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n" + std::string(more) + "\r\n" + std::string(body);
}
/// The peer sees a reset when the connection is closed.
inline void reset(int client) {
  linger const now{.l_onoff = 1, .l_linger = 0};
  EXPECT_EQ(::setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
}
/// Answers all alike.
inline Counterpart::Play always(std::string bytes) {
  return [bytes = std::move(bytes)](int client, std::string const&) { say(client, bytes); };
}
/// A port where nobody listens.
inline std::uint16_t deserted_port() {
  os::UniqueFd const fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(fd.get(), raw, size), 0);
  EXPECT_EQ(::getsockname(fd.get(), raw, &size), 0);
  return ntohs(address.sin_port);
}

inline boost::json::value value_of(std::string_view text) {
  auto value = parse_json(text, "test");
  EXPECT_TRUE(value.has_value()) << text;
  return value ? std::move(*value) : boost::json::value();
}
inline Call call_with(boost::json::value args, Duration timeout = kPatience) {
  return {.args = std::move(args), .key = "key-1", .timeout = timeout, .progress = {}};
}
/// What became of a call that was begun in a group and may be cancelled there.
struct Outcome {
  CallResult result;
  async::Event ended;
};
inline async::Task<void> call_into(Tool* tool, Call call, Outcome* outcome) {
  async::Task<CallResult> calling = tool->call(std::move(call));
  CallResult result = co_await std::move(calling);
  outcome->result = std::move(result);
  outcome->ended.set();
}

}  // namespace aether::tools::testing
