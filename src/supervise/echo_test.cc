// SPDX-License-Identifier: Apache-2.0
#include "supervise/echo.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/testing.h"
#include "async/timers.h"
#include "os/signals.h"
#include "os/unix_socket.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

struct Pipe {
  os::UniqueFd read_end;
  os::UniqueFd write_end;
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
};

std::string read_some(int fd) {
  std::array<char, 65536> buffer{};
  ssize_t const count = ::read(fd, buffer.data(), buffer.size());
  return count > 0 ? std::string(buffer.data(), static_cast<std::size_t>(count)) : std::string();
}

CORO_TEST(Echo, ShowsServiceRevisionAndLine) {
  Pipe pipe;
  Echo echo(loop.executor(), pipe.write_end.get());
  echo.line("web", {2}, "hello");
  echo.line("db", {1}, "");
  co_await echo.stop(10s);
  EXPECT_EQ(read_some(pipe.read_end.get()), "[web r2] hello\n[db r1] \n");
}

// Edge: H4
CORO_TEST(Echo, NeitherWaitsForAnUnreadPipeNorMarksItNonBlocking) {
  Pipe pipe;
  Echo echo(loop.executor(), pipe.write_end.get());
  for (int i = 0; i < 100'000; ++i) echo.line("web", {1}, std::string(100, 'x'));
  co_await async::sleep_for(20ms);
  EXPECT_GT(echo.lines_dropped(), 0U);
  EXPECT_EQ(::fcntl(pipe.write_end.get(), F_GETFL) & O_NONBLOCK, 0);
  std::string seen;
  int const flags = ::fcntl(pipe.read_end.get(), F_GETFL);
  ::fcntl(pipe.read_end.get(), F_SETFL, flags | O_NONBLOCK);
  while (seen.size() < kEchoBytesMax / 2) {
    seen += read_some(pipe.read_end.get());
    co_await async::yield();
  }
  echo.line("web", {1}, "after");
  for (int i = 0; i < 1000 && !seen.contains("after"); ++i) {
    seen += read_some(pipe.read_end.get());
    co_await async::sleep_for(1ms);
  }
  EXPECT_THAT(seen, HasSubstr("lines were not shown"));
  EXPECT_THAT(seen, HasSubstr("[web r1] after\n"));
  co_await echo.stop(10s);
}

// Edge: H4
CORO_TEST(Echo, ShowsWholeLinesAtOnceAndNeverWaitsForAReader) {
  Pipe pipe;
  Echo echo(loop.executor(), pipe.write_end.get());
  echo.text("now\n");
  EXPECT_EQ(read_some(pipe.read_end.get()), "now\n");
  for (int i = 0; i < 20'000; ++i) echo.text(std::string(100, 'x') + "\n");
  EXPECT_GT(echo.lines_dropped(), 0U);
  co_await echo.stop(1ms);
}

CORO_TEST(Echo, OutlivesAReaderThatIsGone) {
  os::ignore_sigpipe();
  Pipe pipe;
  auto sockets = or_throw(os::unix_pair());
  Echo to_pipe(loop.executor(), pipe.write_end.get());
  Echo to_socket(loop.executor(), sockets.first.get());
  pipe.read_end.reset();
  sockets.second.reset();
  for (Echo* echo : {&to_pipe, &to_socket}) {
    echo->line("web", {1}, "one");
    co_await async::sleep_for(5ms);
    echo->line("web", {1}, "two");
    co_await echo->stop(10s);
  }
}

}  // namespace
}  // namespace aether::supervise
