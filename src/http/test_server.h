// SPDX-License-Identifier: Apache-2.0
// For this room's tests: a server with a few routes, and a client that sends what it is told, byte
// for byte.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "async/event.h"
#include "async/loop.h"
#include "async/task.h"
#include "async/timers.h"
#include "base/error.h"
#include "base/log.h"
#include "http/client.h"
#include "http/limits.h"
#include "http/listen.h"
#include "http/server.h"
#include "http/socket.h"
#include "os/unique_fd.h"

namespace aether::http::testing {

/// A wait that hangs fails the test by this.
inline constexpr Duration kPatience = std::chrono::seconds(30);

/// What the routes do, and what they saw.
struct Site {
  async::Event release;  // /slow answers when it is set
  int slow_waiting = 0;  // requests inside /slow
  int streams_running = 0;
  int streams_cancelled = 0;
  std::size_t bytes_written = 0;  // by streams
  async::Event stream_over;       // set when a stream's task has ended
  std::optional<Request> last;
};

/// Counts a stream for as long as its task lives.
class StreamCount {
 public:
  explicit StreamCount(Site& site) : site_(site) { ++site_.streams_running; }
  ~StreamCount() {
    --site_.streams_running;
    if (!whole) ++site_.streams_cancelled;
    site_.stream_over.set();
  }
  StreamCount(StreamCount const&) = delete;
  StreamCount& operator=(StreamCount const&) = delete;
  bool whole = false;

 private:
  Site& site_;
};

inline async::Task<void> write_chunks(Site& site, BodyWriter& out, int count) {
  StreamCount counted(site);
  for (int i = 0; i < count; ++i) {
    std::string chunk = "chunk " + std::to_string(i) + "\n";
    co_await out.write(std::move(chunk));
  }
  counted.whole = true;
}

inline async::Task<void> write_forever(Site& site, BodyWriter& out) {
  StreamCount const counted(site);
  while (true) {
    std::string block(64 * 1024, 'x');
    co_await out.write(std::move(block));
    site.bytes_written += 64 * 1024;
  }
}

inline async::Task<void> write_once_then_wait(Site& site, BodyWriter& out) {
  StreamCount const counted(site);
  co_await out.write("hello\n");
  co_await async::sleep_for(std::chrono::hours(1));
}

inline async::Task<void> write_then_fail(Site& site, BodyWriter& out) {
  StreamCount const counted(site);
  co_await out.write("half of it\n");
  throw Error(ErrorCode::Internal, "the disk is on fire");
}

inline Response stream_response(std::function<async::Task<void>(BodyWriter&)> stream,
                                bool endless) {
  Response response = text_response(200, "");
  response.stream = std::move(stream);
  response.endless = endless;
  return response;
}

inline async::Task<Response> route(Site& site, Request request) {
  site.last = request;
  std::string const path = request.path;
  if (path == "/hello") co_return text_response(200, "hello");
  if (path == "/echo") co_return text_response(200, request.body);
  if (path == "/empty") co_return Response{.status = 204};
  if (path == "/big") co_return text_response(200, std::string(8 * 1024 * 1024, 'b'));
  if (path == "/throw") throw Error(ErrorCode::Internal, "thrown");
  if (path == "/inject") {
    co_return Response{.headers = {{"X-Name", "a\r\nSet-Cookie: b"}}};
  }
  if (path == "/slow") {
    ++site.slow_waiting;
    co_await site.release.wait();
    --site.slow_waiting;
    co_return text_response(200, "slow");
  }
  if (path == "/chunks") {
    co_return stream_response([&site](BodyWriter& out) { return write_chunks(site, out, 5); },
                              false);
  }
  if (path == "/flood") {
    co_return stream_response([&site](BodyWriter& out) { return write_forever(site, out); }, false);
  }
  if (path == "/feed") {
    co_return stream_response([&site](BodyWriter& out) { return write_once_then_wait(site, out); },
                              true);
  }
  if (path == "/broken") {
    co_return stream_response([&site](BodyWriter& out) { return write_then_fail(site, out); },
                              false);
  }
  co_return text_response(404, "no such page");
}

/// Listens on a port of its own. The test awaits stop().
class TestServer {
 public:
  explicit TestServer(async::Loop& loop, Limits limits = {})
      : server(loop.executor(), limits,
               [this](Request request) { return route(site, std::move(request)); }) {
    Status const listening = server.listen_tcp("127.0.0.1", 0);
    EXPECT_TRUE(listening) << listening.error().describe();
  }

  [[nodiscard]] async::Task<void> stop() { return server.stop(std::chrono::seconds(10)); }
  [[nodiscard]] Endpoint endpoint() const { return Endpoint::tcp("127.0.0.1", server.port()); }

  Site site;
  Server server;
};

/// A connection that says exactly what the test says.
class RawClient {
 public:
  RawClient(async::Loop& loop, std::uint16_t port)
      : fd_(connect_to(port)), socket_(loop.executor(), os::UniqueFd(fd_)) {}

  [[nodiscard]] async::Task<void> send(std::string bytes) {
    co_await socket_.write_all(bytes, kPatience);
  }
  /// What arrives, up to and with `end`; less if the server closes before.
  [[nodiscard]] async::Task<std::string> read_to(std::string end) {
    std::size_t found = received_.find(end);
    while (found == std::string::npos) {
      std::size_t const got = co_await read_more();
      if (got == 0) co_return std::exchange(received_, {});
      found = received_.find(end);
    }
    std::string text = received_.substr(0, found + end.size());
    received_.erase(0, found + end.size());
    co_return text;
  }
  /// What arrives until the server closes.
  [[nodiscard]] async::Task<std::string> read_all() {
    while (true) {
      std::size_t const got = co_await read_more();
      if (got == 0) co_return std::exchange(received_, {});
    }
  }
  void shut_writes() { socket_.shut_writes(); }
  /// The next close sends a reset.
  void reset_when_closed() { socket_.reset_when_closed(); }

 private:
  static int connect_to(std::uint16_t port) {
    int const fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SocketAddress const address = ip_address("127.0.0.1", port).value();
    EXPECT_EQ(::connect(fd, address.get(), address.length), 0);
    return fd;
  }
  async::Task<std::size_t> read_more() {
    std::size_t got = 0;
    try {
      got = co_await socket_.read_some(received_, 65536);
    } catch (Error const&) {
      got = 0;  // a reset is an end
    }
    co_return got;
  }

  int fd_;
  Socket socket_;
  std::string received_;
};

/// Errors logged while it lives. A server that logs an error for what a client did is wrong.
class ErrorLog {
 public:
  ErrorLog() {
    log::set_sink([this](log::Level level, std::string_view line) {
      if (level >= log::Level::Error) lines.emplace_back(line);
    });
  }
  ~ErrorLog() { log::set_sink({}); }
  ErrorLog(ErrorLog const&) = delete;
  ErrorLog& operator=(ErrorLog const&) = delete;
  std::vector<std::string> lines;
};

/// The status of a response text; 0 if there is none.
inline int status_of(std::string_view response) {
  if (!response.starts_with("HTTP/1.1 ") || response.size() < 12) return 0;
  return std::stoi(std::string(response.substr(9, 3)));
}

inline std::string get(std::string_view path, std::string_view more = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(more) + "\r\n";
}

}  // namespace aether::http::testing
