// SPDX-License-Identifier: Apache-2.0
#include "clone/obstacles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aether::clone {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Descriptor descriptor(int number, DescriptorKind kind) {
  return {.number = number, .kind = std::move(kind)};
}

TEST(Obstacles, ThereAreNoneInAProgramWithAListenerAndFiles) {
  Sight const sight{.descriptors = {descriptor(0, Shareable{}), descriptor(3, RegularFile{})}};
  EXPECT_THAT(obstacles(sight), IsEmpty());
}

TEST(Obstacles, AreToldAllAtOnce) {
  Sight const sight{
      .descriptors = {descriptor(5, Uncopyable{"an inotify instance"}),
                      descriptor(6, EpollInstance{.targets = {{.descriptor = 99}}})},
      .children = {"worker (pid 7)"},
      .has_posix_timers = true,
      .has_interval_timer = true,
      .has_shadow_stack = true,
  };
  EXPECT_THAT(
      obstacles(sight),
      ElementsAre("descriptor 5 is an inotify instance",
                  "descriptor 6 is an epoll that watches descriptor 99, which was closed "
                  "while a duplicate of it is open",
                  "it has child processes (worker (pid 7))", "it has timers of timer_create()",
                  "it has a running timer of setitimer()", "it runs with a shadow stack"));
}

TEST(Obstacles, AConnectionIsNoneIfItsOtherSideIsHereOrCopiesConnectAnew) {
  UnixConnection const one{.inode = 10, .peer = 11};
  UnixConnection const other{.inode = 11, .peer = 10};
  UnixConnection const outside{.inode = 20, .peer = 21, .peer_path = "/run/a.sock"};
  Sight sight{.descriptors = {descriptor(3, one), descriptor(4, other), descriptor(5, outside)}};
  EXPECT_THAT(obstacles(sight), ElementsAre("descriptor 5 is a connection to /run/a.sock"));
  sight.reconnects = {"/run/a.sock"};
  EXPECT_THAT(obstacles(sight), IsEmpty());
}

TEST(Obstacles, APipeMayHoldALittle) {
  PipeEnd const writer{.inode = 1, .writes = true};
  Sight sight{
      .descriptors = {descriptor(3, PipeEnd{.inode = 1, .unread = "x"}), descriptor(4, writer)}};
  EXPECT_THAT(obstacles(sight), IsEmpty());
  sight.descriptors[0].kind = PipeEnd{.inode = 1, .unread = std::string(kUnreadBytesMax + 1, 'x')};
  EXPECT_THAT(obstacles(sight),
              ElementsAre("descriptor 3 is a pipe with more than 4096 unread bytes"));
}

TEST(Obstacles, SharedMemoryIsCopiedUpToALimit) {
  Mapping const area{
      .begin = 0, .end = kSharedBytesMax, .readable = true, .writable = true, .shared = true};
  Sight sight{.mappings = {area}};
  EXPECT_THAT(obstacles(sight), IsEmpty());
  sight.mappings.push_back(area);
  EXPECT_THAT(obstacles(sight), ElementsAre("it shares 32 MiB of memory with others, more than "
                                            "the 16 MiB that a copy gets for itself"));
}

TEST(Obstacles, TheSameSharedMemoryAtTwoAddressesIsOne) {
  Mapping const writable{.begin = 0x10000,
                         .end = 0x12000,
                         .readable = true,
                         .writable = true,
                         .shared = true,
                         .file = "00:01 77",
                         .name = "/memfd:jit (deleted)"};
  auto other = writable;
  other.begin = 0x20000;
  other.end = 0x22000;
  other.writable = false;
  Sight sight{.mappings = {writable, other}};
  EXPECT_THAT(obstacles(sight),
              ElementsAre("it has the same shared memory (/memfd:jit (deleted)) at two addresses"));
  sight.mappings[1].offset = 0x2000;  // Another part of it.
  EXPECT_THAT(obstacles(sight), IsEmpty());
  sight.mappings[1].offset = 0;
  sight.mappings[0].writable = false;
  EXPECT_THAT(obstacles(sight), IsEmpty());
}

}  // namespace
}  // namespace aether::clone
