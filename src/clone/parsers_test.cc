// SPDX-License-Identifier: Apache-2.0
// What the kernel prints, as it was printed by Linux 6.18.
#include <fcntl.h>
#include <sys/syscall.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "clone/call_list.h"
#include "clone/descriptors.h"
#include "clone/frozen_process.h"
#include "clone/mappings.h"

namespace aether::clone {
namespace {

using testing::ElementsAre;

TEST(Descriptors, AnEpollHasItsTargetsWithEventsAndData) {
  auto const epoll = parse_descriptor(3, "anon_inode:[eventpoll]",
                                      "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t1055\n"
                                      "tfd:        4 events:       19 data:     7f3600000004  "
                                      "pos:0 ino:10953d sdev:9\n"
                                      "tfd:       16 events: 8000001d data:               10  "
                                      "pos:0 ino:10953e sdev:9\n");
  EXPECT_TRUE(epoll.close_on_exec());
  EXPECT_THAT(std::get<EpollInstance>(epoll.kind).targets,
              ElementsAre(EpollInstance::Target{4, 0x19, 0x7f3600000004},
                          EpollInstance::Target{16, 0x8000001d, 0x10}));
}

TEST(Descriptors, AnEventCounterAndATimerAreReadWhole) {
  auto const event = parse_descriptor(8, "anon_inode:[eventfd]",
                                      "pos:\t0\nflags:\t02004002\neventfd-count:               1f\n"
                                      "eventfd-id: 42\neventfd-semaphore: 1\n");
  EXPECT_EQ(std::get<EventCounter>(event.kind).count, 0x1fU);
  EXPECT_EQ(std::get<EventCounter>(event.kind).id, 42U);
  EXPECT_TRUE(std::get<EventCounter>(event.kind).semaphore);
  auto const timer =
      parse_descriptor(9, "anon_inode:[timerfd]",
                       "pos:\t0\nflags:\t02\nclockid: 1\nticks: 2\n"
                       "settime flags: 01\nit_value: (3, 500)\nit_interval: (4, 0)\n");
  auto const& kind = std::get<TimerDescriptor>(timer.kind);
  EXPECT_EQ(kind.clock, 1);
  EXPECT_EQ(kind.ticks, 2U);
  EXPECT_EQ(kind.value_s, 3);
  EXPECT_EQ(kind.value_ns, 500);
  EXPECT_EQ(kind.interval_s, 4);
}

TEST(Descriptors, APipeKnowsItsEndAndAFileItsPosition) {
  auto const pipe = parse_descriptor(4, "pipe:[991]", "pos:\t0\nflags:\t0100001\n");
  EXPECT_TRUE(std::get<PipeEnd>(pipe.kind).writes);
  EXPECT_EQ(std::get<PipeEnd>(pipe.kind).inode, 991U);
  auto const file = parse_descriptor(5, "/var/log/a.log", "pos:\t123\nflags:\t0102001\n");
  EXPECT_EQ(std::get<RegularFile>(file.kind).position, 123U);
}

TEST(Descriptors, WhatIsUnknownCannotBeCopied) {
  auto const ring = parse_descriptor(5, "anon_inode:[io_uring]", "pos:\t0\nflags:\t02000002\n");
  EXPECT_EQ(std::get<Uncopyable>(ring.kind).reason, "of a kind that cannot be copied, [io_uring]");
}

TEST(Descriptors, LockedOrSignallingFilesCannotBeCopied) {
  auto const locked = parse_descriptor(
      5, "/run/a.lock", "pos:\t0\nflags:\t02\nlock:\t1: FLOCK  ADVISORY  WRITE 7 00:1a:9 0 EOF\n");
  EXPECT_EQ(std::get<Uncopyable>(locked.kind).reason, "a locked file, /run/a.lock");
  auto const signalling = parse_descriptor(5, "socket:[7]", "pos:\t0\nflags:\t020002\n");
  EXPECT_TRUE(std::holds_alternative<Uncopyable>(signalling.kind));
}

TEST(Descriptors, TheLowestFreeNumbersAreThoseOfNobody) {
  std::vector<Descriptor> const table{{.number = 0}, {.number = 1}, {.number = 4}};
  EXPECT_THAT(free_numbers(table, 3, 3), ElementsAre(2, 5, 6));
  EXPECT_THAT(free_numbers({}, -1, 2), ElementsAre(0, 1));
}

TEST(Mappings, HaveRangeModeNameAndWhetherTheyOutliveAFork) {
  auto const areas = parse_mappings(
      "7f00000000-7f00002000 rw-s 00000000 00:05 12    /tmp/hsperfdata_a b/1\n"
      "Size:                  8 kB\nVmFlags: rd wr sh mr mw me ms sd \n"
      "7f10000000-7f10001000 r-xp 00000000 00:00 0 \nVmFlags: rd ex mr mw me dc ac sd \n");
  ASSERT_EQ(areas.size(), 2U);
  EXPECT_EQ(areas[0].begin, 0x7f00000000U);
  EXPECT_EQ(areas[0].size(), 0x2000U);
  EXPECT_TRUE(areas[0].shared && areas[0].writable && !areas[0].absent_after_fork);
  EXPECT_EQ(areas[0].file, "00:05 12");
  EXPECT_EQ(areas[1].file, "");
  EXPECT_EQ(areas[0].name, "/tmp/hsperfdata_a b/1");
  EXPECT_TRUE(areas[1].executable && areas[1].absent_after_fork && !areas[1].shared);
  EXPECT_EQ(areas[1].name, "");
}

TEST(CallList, PutsItsDataBeforeItsCallsAndRefusesWhatDoesNotFit) {
  CallList list(0x1000, 16 + 64);
  EXPECT_EQ(list.place_text("a"), 0x1000U);
  list.call("close", SYS_close, {3});
  EXPECT_EQ(list.entries_at(), 0x1010U);
  ASSERT_TRUE(list.image());
  EXPECT_EQ(list.image()->size(), 80U);
  list.call("close", SYS_close, {4});
  EXPECT_FALSE(list.image());
}

TEST(CallList, NamesTheCallThatFailed) {
  CallList list(0x1000, 4096);
  list.call("close of 3", SYS_close, {3});
  EXPECT_EQ(list.failure(), "close of 3: was not reached");
  CallList::Entry entry{.result = static_cast<std::uint64_t>(-EBADF)};
  list.set_results({&entry, 1});
  EXPECT_EQ(list.failure(), "close of 3: Bad file descriptor");
  entry.result = 0;
  list.set_results({&entry, 1});
  EXPECT_EQ(list.failure(), std::nullopt);
}

TEST(FrozenProcess, AnInterruptedCallIsMadeAgain) {
  Registers stopped{};
  stopped.rip = 0x1002;
  stopped.orig_rax = SYS_read;
  stopped.rax = static_cast<std::uint64_t>(-512);
  EXPECT_EQ(continuing(stopped).rip, 0x1000U);
  EXPECT_EQ(continuing(stopped).rax, static_cast<std::uint64_t>(SYS_read));
  stopped.rax = static_cast<std::uint64_t>(-EINTR);
  EXPECT_EQ(continuing(stopped).rip, 0x1002U) << "a signal's handler has seen this end";
  stopped.orig_rax = SYS_epoll_wait;
  EXPECT_EQ(continuing(stopped).rip, 0x1000U) << "it was the freeze that ended it";
  stopped.orig_rax = ~std::uint64_t{0};
  EXPECT_EQ(continuing(stopped).rip, 0x1002U) << "it was not in a call";
}

}  // namespace
}  // namespace aether::clone
