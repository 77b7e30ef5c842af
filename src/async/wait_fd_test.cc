// SPDX-License-Identifier: Apache-2.0
#include "async/wait_fd.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>

#include "async/task_group.h"
#include "async/testing.h"
#include "async/timers.h"
#include "base/error.h"
#include "os/unique_fd.h"

namespace aether::async {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
  os::UniqueFd read;
  os::UniqueFd write;
};

Task<void> count_readable(int fd, int& count) {
  co_await readable(fd);
  ++count;
}

CORO_TEST(Readable, WakesEveryTaskThatWaitsForTheSameFd) {
  Pipe const pipe;
  int count = 0;
  TaskGroup group(loop.executor(), "readers");
  for (int i = 0; i < 3; ++i) group.spawn("reader", count_readable(pipe.read.get(), count));
  co_await sleep_for(milliseconds(2));
  EXPECT_EQ(count, 0);
  CO_ASSERT_EQ(::write(pipe.write.get(), "x", 1), 1);
  co_await group.join();
  EXPECT_EQ(count, 3);
}

CORO_TEST(Readable, NeitherClosesTheFdNorTouchesItsFlags) {
  std::array<int, 2> ends{};
  CO_ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  os::UniqueFd const a(ends[0]);
  os::UniqueFd const b(ends[1]);
  int const before = ::fcntl(a.get(), F_GETFL);
  bool const early = co_await readable_for(a.get(), milliseconds(2));
  EXPECT_FALSE(early);
  CO_ASSERT_EQ(::write(b.get(), "x", 1), 1);
  co_await readable(a.get());
  co_await writable(a.get());
  EXPECT_EQ(::fcntl(a.get(), F_GETFL), before);
  char byte = 0;
  EXPECT_EQ(::read(a.get(), &byte, 1), 1);
}

CORO_TEST(Readable, ReturnsAtTheEndOfTheFile) {
  Pipe pipe;
  pipe.write.reset();
  co_await readable(pipe.read.get());
  char byte = 0;
  EXPECT_EQ(::read(pipe.read.get(), &byte, 1), 0);
}

CORO_TEST(Writable, WaitsForRoom) {
  Pipe const pipe;
  CO_ASSERT_EQ(::fcntl(pipe.write.get(), F_SETFL, O_NONBLOCK), 0);
  std::string const block(4096, 'x');
  while (::write(pipe.write.get(), block.data(), block.size()) > 0) {
  }
  bool const early = co_await writable_for(pipe.write.get(), milliseconds(2));
  EXPECT_FALSE(early);
  std::string room(65536, '\0');
  CO_ASSERT_GT(::read(pipe.read.get(), room.data(), room.size()), 0);
  bool const later = co_await writable_for(pipe.write.get(), seconds(30));
  EXPECT_TRUE(later);
}

// The stream of an fd that is always ready must not keep others from running.
Task<void> read_always(int fd, bool& stop, int& rounds) {
  while (!stop) {
    co_await readable(fd);
    ++rounds;
  }
}

CORO_TEST(Readable, LetsOthersRunWhenTheFdIsAlwaysReady) {
  Pipe pipe;
  pipe.write.reset();
  bool stop = false;
  int rounds = 0;
  TaskGroup group(loop.executor(), "greedy");
  group.spawn("reader", read_always(pipe.read.get(), stop, rounds));
  co_await sleep_for(milliseconds(2));
  stop = true;
  co_await group.join();
  EXPECT_GT(rounds, 0);
}

Task<std::optional<ErrorCode>> code_of(Task<void> task) {
  try {
    co_await std::move(task);
  } catch (Error const& error) {
    co_return error.code();
  }
  co_return std::nullopt;
}

CORO_TEST(Readable, RefusesWhatHasNoReadiness) {
  os::UniqueFd const file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  CO_ASSERT_TRUE(file);
  std::optional<ErrorCode> const regular = co_await code_of(readable(file.get()));
  EXPECT_EQ(regular, ErrorCode::Unsupported);
  std::optional<ErrorCode> const closed = co_await code_of(readable(-1));
  EXPECT_EQ(closed, ErrorCode::SystemCall);
}

CORO_TEST(Readable, WaitsEvenWhenNoDescriptorIsLeft) {
  Pipe const pipe;
  int count = 0;
  rlimit before{};
  CO_ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  co_await sleep_for(milliseconds(1));
  // Below the lowest number that is free no descriptor can be added.
  int const lowest = ::fcntl(pipe.read.get(), F_DUPFD_CLOEXEC, 0);
  ::close(lowest);
  rlimit const none{.rlim_cur = static_cast<rlim_t>(lowest), .rlim_max = before.rlim_max};
  CO_ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  TaskGroup group(loop.executor(), "readers");
  group.spawn("reader", count_readable(pipe.read.get(), count));
  co_await sleep_for(milliseconds(5));
  EXPECT_EQ(count, 0);
  EXPECT_EQ(::write(pipe.write.get(), "x", 1), 1);
  co_await group.join();
  EXPECT_EQ(count, 1);
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

CORO_TEST(Readable, EndsWhenItsTaskIsCancelled) {
  Pipe const pipe;
  int count = 0;
  TaskGroup group(loop.executor(), "readers");
  group.spawn("reader", count_readable(pipe.read.get(), count));
  co_await sleep_for(milliseconds(2));
  co_await group.stop(seconds(30));
  EXPECT_EQ(count, 0);
}

}  // namespace
}  // namespace aether::async
