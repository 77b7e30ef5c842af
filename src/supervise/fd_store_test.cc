// SPDX-License-Identifier: Apache-2.0
#include "supervise/fd_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>

#include <gtest/gtest.h>

#include "async/testing.h"
#include "async/timers.h"
#include "base/result.h"
#include "os/unix_socket.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using Kept = FdStore::Kept;
using Watched = FdStore::Watched;

os::UniqueFd copy(int fd) {
  return os::UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

std::vector<std::string> names(FdStore const& store) {
  std::vector<std::string> all;
  for (FdStore::Stored const& one : store.stored()) all.push_back(one.name);
  return all;
}

CORO_TEST(FdStore, KeepsWhatItIsGivenInOrderUnderItsNames) {
  async::TaskGroup tasks(loop.executor(), "store");
  FdStore store(tasks, "test", 8);
  auto pair = or_throw(os::unix_pair());
  auto other = or_throw(os::unix_pair());
  EXPECT_EQ(store.keep(copy(pair.first.get()), "one", Watched::Yes), Kept::Yes);
  EXPECT_EQ(store.keep(copy(other.first.get()), "two", Watched::Yes), Kept::Yes);
  EXPECT_EQ(store.keep(copy(other.second.get()), "two", Watched::No), Kept::Yes);
  EXPECT_EQ(names(store), (std::vector<std::string>{"one", "two", "two"}));
  EXPECT_EQ(store.remove("two"), 2U);
  EXPECT_EQ(store.remove("two"), 0U);
  EXPECT_EQ(names(store), std::vector<std::string>{"one"});
  store.clear();
  EXPECT_EQ(store.size(), 0U);
  co_await tasks.stop(1s);
}

CORO_TEST(FdStore, KeepsTheSameOpenFileOnceAndTwoOpeningsOfAFileBoth) {
  async::TaskGroup tasks(loop.executor(), "store");
  FdStore store(tasks, "test", 8);
  os::UniqueFd const first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  os::UniqueFd const second(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(store.keep(copy(first.get()), "a", Watched::Yes), Kept::Yes);
  EXPECT_EQ(store.keep(copy(first.get()), "b", Watched::Yes), Kept::Known);
  EXPECT_EQ(store.keep(copy(second.get()), "a", Watched::Yes), Kept::Yes);
  EXPECT_EQ(store.size(), 2U);
  co_await tasks.stop(1s);
}

CORO_TEST(FdStore, ClosesWhatIsOverItsLimit) {
  async::TaskGroup tasks(loop.executor(), "store");
  FdStore store(tasks, "test", 1);
  auto pair = or_throw(os::unix_pair());
  auto full = or_throw(os::unix_pair());
  EXPECT_EQ(store.keep(std::move(pair.first), "a", Watched::Yes), Kept::Yes);
  EXPECT_EQ(store.keep(std::move(full.first), "b", Watched::Yes), Kept::Full);
  char byte = 0;
  EXPECT_EQ(::recv(full.second.get(), &byte, 1, MSG_DONTWAIT), 0) << "it was closed";
  EXPECT_LT(::recv(pair.second.get(), &byte, 1, MSG_DONTWAIT), 0) << "it is open";
  EXPECT_EQ(store.counts().refused, 1U);
  store.set_max(2);
  EXPECT_EQ(store.keep(std::move(full.second), "c", Watched::No), Kept::Yes);
  co_await tasks.stop(1s);
}

CORO_TEST(FdStore, DropsWhatHangsUpUnlessItIsToldNotTo) {
  async::TaskGroup tasks(loop.executor(), "store");
  FdStore store(tasks, "test", 8);
  auto watched = or_throw(os::unix_pair());
  auto kept = or_throw(os::unix_pair());
  auto alive = or_throw(os::unix_pair());
  store.keep(std::move(watched.first), "watched", Watched::Yes);
  store.keep(std::move(kept.first), "kept", Watched::No);
  store.keep(std::move(alive.first), "alive", Watched::Yes);
  watched.second.reset();
  kept.second.reset();
  for (int i = 0; i < 3000 && store.size() == 3; ++i) co_await async::sleep_for(10ms);
  EXPECT_EQ(names(store), (std::vector<std::string>{"kept", "alive"}));
  EXPECT_EQ(store.counts().hung_up, 1U);
  co_await tasks.stop(1s);
}

CORO_TEST(FdStore, KeepsMemoryThatCannotBeWatched) {
  async::TaskGroup tasks(loop.executor(), "store");
  FdStore store(tasks, "test", 8);
  os::UniqueFd const memory(::memfd_create("state", MFD_CLOEXEC));
  EXPECT_EQ(store.keep(copy(memory.get()), "state", Watched::Yes), Kept::Yes);
  EXPECT_EQ(store.size(), 1U);
  EXPECT_EQ(store.remove("state"), 1U);
  co_await tasks.stop(1s);
}

TEST(FdStore, DoesNotWaitForASocketThatLingers) {
  auto pair = or_throw(os::unix_pair());
  linger const hours{.l_onoff = 1, .l_linger = 36'000};
  ASSERT_EQ(::setsockopt(pair.first.get(), SOL_SOCKET, SO_LINGER, &hours, sizeof(hours)), 0);
  os::UniqueFd const other = copy(pair.first.get());
  close_received(std::move(pair.first));
  linger now{};
  socklen_t size = sizeof(now);
  ASSERT_EQ(::getsockopt(other.get(), SOL_SOCKET, SO_LINGER, &now, &size), 0);
  EXPECT_EQ(now.l_onoff, 0);
}

}  // namespace
}  // namespace aether::supervise
