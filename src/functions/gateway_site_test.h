// SPDX-License-Identifier: Apache-2.0
// For this room's tests: a gateway with one function, handlers that say what the test says, and
// clients that send what they are told, byte for byte.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/loop.h"
#include "async/timers.h"
#include "base/time.h"
#include "functions/gateway.h"
#include "os/unique_fd.h"

namespace aether::functions::fakes {

/// A wait that hangs fails the test by this.
inline constexpr int kPatienceSeconds = 30;

/// A connected socket that blocks, but not for ever.
class Wire {
 public:
  Wire() = default;
  explicit Wire(os::UniqueFd fd) : fd_(std::move(fd)) {
    timeval const patience{.tv_sec = kPatienceSeconds, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  }
  /// False: the other side is gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t const sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  /// What arrives, up to and with `end`; less if the other side closes before.
  std::string read_to(std::string_view end) {
    while (true) {
      if (auto const found = in_.find(end); found != std::string::npos)
        return take(found + end.size());
      if (!more()) return std::exchange(in_, {});
    }
  }
  std::string read_head() { return read_to("\r\n\r\n"); }
  std::string read_exactly(std::size_t size) {
    while (in_.size() < size && more()) {
    }
    return take(std::min(size, in_.size()));
  }
  /// Head and body, by its Content-Length.
  std::string read_message() {
    std::string head = read_head();
    auto const at = head.find("Content-Length: ");
    if (at == std::string::npos) return head;
    return head + read_exactly(std::stoul(head.substr(at + 16)));
  }
  std::string read_all() {
    while (more()) {
    }
    return std::exchange(in_, {});
  }
  /// How the last read ended: it was a reset, not an end.
  [[nodiscard]] bool was_reset() const { return reset_; }
  void shut_writes() { ::shutdown(fd_.get(), SHUT_WR); }
  // Thread-safe against each other.
  void shut_both() {
    std::scoped_lock const lock(closing_);
    ::shutdown(fd_.get(), SHUT_RDWR);
  }
  void close() {
    std::scoped_lock const lock(closing_);
    fd_.reset();
  }
  void reset() {
    std::scoped_lock const lock(closing_);
    linger const at_once{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    fd_.reset();
  }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  std::string take(std::size_t size) {
    std::string text = in_.substr(0, size);
    in_.erase(0, size);
    return text;
  }
  bool more() {
    std::string piece(65536, '\0');
    ssize_t const got = ::recv(fd_.get(), piece.data(), piece.size(), 0);
    if (got < 0 && errno == EAGAIN) ADD_FAILURE() << "nothing came for 30 s after: " << in_;
    reset_ = got < 0;
    if (got <= 0) return false;
    in_.append(piece, 0, static_cast<std::size_t>(got));
    return true;
  }

  std::mutex closing_;
  os::UniqueFd fd_;
  std::string in_;
  bool reset_ = false;
};

inline sockaddr_in local_address(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// Listens on a port of its own. Each connection is a thread that runs `talk`.
class FakeHandler {
 public:
  using Talk = std::function<void(Wire&)>;
  explicit FakeHandler(Talk talk) : talk_(std::move(talk)) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = local_address(0);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 128), 0);
    socklen_t size = sizeof(address);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept(); });
  }
  ~FakeHandler() { die(); }
  FakeHandler(FakeHandler const&) = delete;
  FakeHandler& operator=(FakeHandler const&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] int connections() const { return connections_; }
  /// As when its process ends: listener and connections are gone.
  void die() {
    if (!acceptor_.joinable()) return;
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    listener_.reset();
    {
      std::scoped_lock const lock(mutex_);
      for (auto& wire : wires_) wire.shut_both();
    }
    for (auto& thread : threads_) thread.join();
    wires_.clear();
  }

 private:
  void accept() {
    while (true) {
      os::UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!fd) return;
      std::scoped_lock const lock(mutex_);
      Wire& wire = wires_.emplace_back(std::move(fd));
      ++connections_;
      threads_.emplace_back([this, &wire] {
        talk_(wire);
        wire.shut_both();
      });
    }
  }

  Talk talk_;
  os::UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::atomic<int> connections_ = 0;
  std::mutex mutex_;
  std::list<Wire> wires_;
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

/// Answers each request on a connection with these bytes.
inline FakeHandler::Talk answering(std::string answer) {
  return [answer = std::move(answer)](Wire& wire) {
    while (!wire.read_head().empty()) wire.send(answer);
  };
}
inline std::string const kHello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// What the gateway tells its owner.
class Told final : public Demand {
 public:
  void wanted(std::string_view /*function*/, std::uint32_t waiting) override {
    wanted_times++;
    last_waiting = waiting;
  }
  void busy(std::string_view /*function*/, InstanceId instance, std::uint32_t in_flight) override {
    in_flight_of[instance] = in_flight;
  }
  void timed_out(std::string_view /*function*/, InstanceId instance) override {
    timed_out_instances.push_back(instance);
  }
  void unreachable(std::string_view /*function*/, InstanceId instance, std::string why) override {
    unreachable_instances.push_back(instance);
    last_why = std::move(why);
  }
  int wanted_times = 0;
  std::uint32_t last_waiting = 0;
  std::map<InstanceId, std::uint32_t> in_flight_of;
  std::vector<InstanceId> timed_out_instances;
  std::vector<InstanceId> unreachable_instances;
  std::string last_why;
};

/// A gateway with the function "f". The test's thread is the owner's.
class Site {
 public:
  explicit Site(RouteSpec route = {}, GatewayLimits const& limits = {})
      : loop(clock), gateway(loop.executor(), clock, told, limits) {
    route.function = "f";
    Status const opened = gateway.open(route);
    EXPECT_TRUE(opened) << opened.error().describe();
  }
  ~Site() {
    clients_.clear();
    loop.run_task(gateway.stop(std::chrono::seconds(1)));
  }
  Site(Site const&) = delete;
  Site& operator=(Site const&) = delete;

  /// A client of the trigger port.
  Wire& client() {
    os::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in const to = local_address(gateway.port("f"));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr const*>(&to), sizeof(to)), 0);
    return clients_.emplace_back(std::move(fd));
  }
  FakeHandler& add(std::uint64_t instance, FakeHandler::Talk talk,
                   StartTier tier = StartTier::Warm) {
    FakeHandler& handler = handlers_.emplace_back(std::move(talk));
    gateway.add("f", {.instance = {instance}, .port = handler.port(), .tier = tier});
    return handler;
  }
  /// Sends a request on a connection of its own; the whole answer.
  std::string ask(std::string_view request) {
    Wire& wire = client();
    wire.send(request);
    return wire.read_message();
  }
  /// Lets the owner's loop run for so long: for what must not happen, or lasts a known time.
  void pass(Duration duration) { loop.run_task(async::sleep_for(duration)); }
  /// Lets the owner's loop run until it is true; fails the test if it does not become so.
  template <class Condition>
  bool eventually(Condition condition) {
    Instant const end = clock.now() + std::chrono::seconds(kPatienceSeconds);
    while (clock.now() < end) {
      if (condition()) return true;
      pass(std::chrono::milliseconds(1));
    }
    ADD_FAILURE() << "it did not become true";
    return false;
  }

  SystemClock clock;
  async::Loop loop;
  Told told;
  Gateway gateway;

 private:
  std::list<FakeHandler> handlers_;
  std::list<Wire> clients_;
};

inline std::string get(std::string_view path, std::string_view more = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(more) + "\r\n";
}
inline int status_of(std::string_view answer) {
  if (!answer.starts_with("HTTP/1.1 ") || answer.size() < 12) return 0;
  return std::stoi(std::string(answer.substr(9, 3)));
}
/// The value of a field of a head; empty if there is none.
inline std::string field_of(std::string_view head, std::string const& name) {
  auto const at = head.find("\r\n" + name + ": ");
  if (at == std::string_view::npos) return {};
  std::string_view const rest = head.substr(at + name.size() + 4);
  return std::string(rest.substr(0, rest.find("\r\n")));
}
inline std::string body_of(std::string const& message) {
  return message.substr(std::min(message.find("\r\n\r\n") + 4, message.size()));
}

}  // namespace aether::functions::fakes
