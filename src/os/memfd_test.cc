// SPDX-License-Identifier: Apache-2.0
#include "os/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>

#include "os/proc.h"
#include "os/testing.h"

namespace aether::os {
namespace {

std::span<std::byte const> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(std::span<std::byte const> bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

TEST(Memfd, HoldsWhatWasWrittenAndShowsItToOthers) {
  auto memory = Memfd::create("state", 11);
  ASSERT_TRUE(memory);
  EXPECT_TRUE(memory->write(0, bytes_of("hello")));
  EXPECT_TRUE(memory->write(5, bytes_of(" world")));
  ASSERT_TRUE(memory->seal());
  auto copy = Memfd::adopt(duplicate(memory->fd()).value());
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->size(), 11U);
  EXPECT_TRUE(copy->sealed());
  auto const view = Mapping::map_read(copy->fd(), 11);
  ASSERT_TRUE(view);
  EXPECT_EQ(text_of(view->bytes()), "hello world");
}

TEST(Memfd, CannotBeChangedOnceItIsSealed) {
  auto memory = Memfd::create("state", 4096);
  EXPECT_FALSE(memory->sealed());
  ASSERT_TRUE(memory->seal());
  EXPECT_TRUE(memory->sealed());
  EXPECT_TRUE(memory->seal()) << "sealing twice is fine";
  EXPECT_EQ(memory->write(0, bytes_of("x")).error().errno_value(), EPERM);
  EXPECT_NE(::ftruncate(memory->fd(), 1), 0);
  EXPECT_NE(::ftruncate(memory->fd(), 10'000), 0);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd(), 0), MAP_FAILED);
}

TEST(Memfd, CannotBeSealedWhileSomebodyMayWrite) {
  auto memory = Memfd::create("state", 4096);
  void* const writable = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd(), 0);
  ASSERT_NE(writable, MAP_FAILED);
  Status const busy = memory->seal();
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().errno_value(), EBUSY);
  EXPECT_NE(busy.error().message().find("mapped writable"), std::string::npos);
  ::munmap(writable, 4096);
  EXPECT_TRUE(memory->seal());
}

TEST(Memfd, IsNotReadWhileItMayBeShortenedUnderTheReader) {
  auto memory = Memfd::create("state", 8192);
  EXPECT_EQ(Mapping::map_read(memory->fd(), 8192).error().code(), ErrorCode::ProtocolViolation);
  ASSERT_EQ(::ftruncate(memory->fd(), 100), 0);
  auto const shortened = Memfd::adopt(duplicate(memory->fd()).value());
  EXPECT_EQ(shortened->size(), 100U);
  EXPECT_FALSE(shortened->sealed());
}

TEST(Memfd, IsNotReadBeyondItsEnd) {
  auto memory = Memfd::create("state", 100);
  ASSERT_TRUE(memory->seal());
  EXPECT_TRUE(Mapping::map_read(memory->fd(), 100));
  EXPECT_EQ(Mapping::map_read(memory->fd(), 101).error().code(), ErrorCode::ProtocolViolation);
  EXPECT_EQ(Mapping::map_read(memory->fd(), std::numeric_limits<std::size_t>::max()).error().code(),
            ErrorCode::ProtocolViolation);
}

TEST(Memfd, MayBeEmpty) {
  auto memory = Memfd::create("nothing", 0);
  ASSERT_TRUE(memory->seal());
  EXPECT_TRUE(Mapping::map_read(memory->fd(), 0)->bytes().empty());
}

TEST(Memfd, IsNotTakenFromAPipeAFileOrASocket) {
  UniqueFd file(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  testing::Pipe pipe;
  for (UniqueFd* fd : {&file, &pipe.read_end}) {
    auto const adopted = Memfd::adopt(std::move(*fd));
    ASSERT_FALSE(adopted);
    EXPECT_EQ(adopted.error().code(), ErrorCode::ProtocolViolation);
  }
}

TEST(Memfd, RefusesWhatDoesNotFit) {
  auto memory = Memfd::create("small", 10);
  EXPECT_EQ(memory->write(8, bytes_of("xyz")).error().code(), ErrorCode::LimitReached);
  EXPECT_EQ(memory->write(std::numeric_limits<std::uint64_t>::max(), bytes_of("x")).error().code(),
            ErrorCode::LimitReached);
  EXPECT_EQ(Memfd::create("huge", std::numeric_limits<std::uint64_t>::max()).error().code(),
            ErrorCode::LimitReached);
}

TEST(Memfd, IsReadWithoutMappingButNotBeyondItsEnd) {
  auto memory = Memfd::create("state", 5);
  ASSERT_TRUE(memory->write(0, bytes_of("hello")));
  std::array<std::byte, 3> some{};
  EXPECT_TRUE(memory->read(2, some));
  EXPECT_EQ(text_of(some), "llo");
  EXPECT_EQ(memory->read(3, some).error().code(), ErrorCode::LimitReached);
  EXPECT_TRUE(memory->read(100, {})) << "nothing is everywhere";
}

TEST(Memfd, TakesANameOfAnyLength) {
  EXPECT_TRUE(Memfd::create(std::string(1000, 'n'), 1));
}

TEST(Mapping, OutlivesTheDescriptorAndMovesWithItsOwner) {
  Mapping view;
  {
    auto memory = Memfd::create("state", 5);
    ASSERT_TRUE(memory->write(0, bytes_of("alive")));
    ASSERT_TRUE(memory->seal());
    view = std::move(*Mapping::map_read(memory->fd(), 5));
  }
  Mapping const moved = std::move(view);
  EXPECT_EQ(text_of(moved.bytes()), "alive");
}

TEST(UniqueFd, ClosesWhatItOwnsOnce) {
  std::size_t const before = count_own_fds();
  {
    testing::Pipe pipe;
    UniqueFd moved = std::move(pipe.read_end);
    EXPECT_FALSE(pipe.read_end);  // NOLINT(bugprone-use-after-move)
    moved.reset(pipe.write_end.release());
    EXPECT_EQ(count_own_fds(), before + 1);
    int const kept = moved.release();
    EXPECT_FALSE(moved);
    ::close(kept);
  }
  EXPECT_EQ(count_own_fds(), before);
}

TEST(UniqueFd, KeepsErrnoWhenItCloses) {
  testing::Pipe pipe;
  errno = ENOENT;
  pipe.read_end.reset();
  EXPECT_EQ(errno, ENOENT);
}

TEST(UniqueFd, DuplicatesAboveTheNumbersThatChildrenGet) {
  testing::Pipe pipe;
  auto const copy = duplicate(pipe.read_end.get());
  ASSERT_TRUE(copy);
  EXPECT_GE(copy->get(), 10);
  EXPECT_EQ(::fcntl(copy->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(duplicate(-1).error().errno_value(), EBADF);
}

}  // namespace
}  // namespace aether::os
