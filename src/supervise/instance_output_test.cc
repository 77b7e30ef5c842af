// SPDX-License-Identifier: Apache-2.0
// An instance's output: nothing lost, nobody blocked, nothing kept alive.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "supervise/instance_rig.h"
#include "supervise/line_splitter.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;

CORO_TEST(InstanceOutput, LosesNoneOfTenThousandLinesNorThePartialLast) {
  InstanceRig rig(loop);
  auto const instance = rig.python(
      "sys.stdout.write(''.join('line %d\\n' % i for i in range(9999)) + 'unfinished')\n");
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  auto const lines = rig.lines();
  CO_ASSERT_EQ(lines.size(), 10'000U);
  for (std::size_t i = 0; i < 9999; ++i) CO_ASSERT_EQ(lines[i], fmt::format("line {}", i));
  EXPECT_EQ(lines.back(), "unfinished");
  EXPECT_EQ(exited->last_lines.back(), "unfinished");
  co_await instance->close();
}

CORO_TEST(InstanceOutput, TellsTheLastLinesOfACrash) {
  InstanceRig rig(loop);
  auto const instance = rig.python("say('starting')\nraise RuntimeError('no such model')\n");
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->status.code, 1);
  CO_ASSERT_FALSE(exited->last_lines.empty());
  EXPECT_LE(exited->last_lines.size(), kLastLines);
  EXPECT_EQ(exited->last_lines.back(), "RuntimeError: no such model");
  co_await instance->close();
}

CORO_TEST(InstanceOutput, TagsEachLine) {
  InstanceRig rig(loop);
  rig.spec.revision = {4};
  rig.spec.instance = {17};
  auto const instance = rig.shell("echo out; sleep 0.1; echo err >&2");
  co_await instance->ended();
  auto const lines = rig.logs.tail(10);
  CO_ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].stream, LogStream::Stdout);
  EXPECT_EQ(lines[1].stream, LogStream::Stderr);
  EXPECT_EQ(lines[0].revision, RevisionId{4});
  EXPECT_EQ(lines[0].instance, InstanceId{17});
  EXPECT_EQ(lines[1].sequence, 2U);
  co_await instance->close();
}

CORO_TEST(InstanceOutput, BoundsALineOfAMegabyte) {
  InstanceRig rig(loop);
  auto const instance = rig.python("sys.stdout.write('x' * (1 << 20) + '\\nend\\n')\n");
  co_await instance->ended();
  auto const lines = rig.logs.tail(1000);
  std::size_t bytes = 0;
  for (LogLine const& line : lines) {
    EXPECT_LE(line.text.size(), kLogLineBytesMax);
    bytes += line.text.size();
  }
  EXPECT_EQ(bytes, (1U << 20) + 3);
  EXPECT_EQ(lines.back().text, "end");
  EXPECT_TRUE(lines.front().continues);
  co_await instance->close();
}

// Edge: H4
CORO_TEST(InstanceOutput, NeverBlocksAChildThatWritesALot) {
  InstanceRig rig(loop);
  auto const instance = rig.python(
      "chunk = (b'y' * 127 + b'\\n') * 1024\n"
      "for i in range(400): os.write(1, chunk)\n"  // 50 MiB
      "say('written')\n");
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->last_lines.back(), "written");
  EXPECT_EQ(instance->counters().log_bytes, 400U * 1024 * 128 + 8);
  co_await instance->close();
}

/// Lines that the loop could do nothing else between would be a starving loop.
CORO_TEST(InstanceOutput, LeavesTheLoopToOthersWhileAChildWritesWithoutEnd) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("yes | head -c 2000000000");
  int turns = 0;
  for (; turns < 200; ++turns) co_await async::sleep_for(1ms);
  EXPECT_GT(instance->counters().log_bytes, 0U);
  co_await instance->close();
}

CORO_TEST(InstanceOutput, IsNotKeptAliveByWhoHoldsItsPipe) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("echo up; while :; do sleep 0.05; done");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  // A stranger (this process) holds the child's stdout beyond its end.
  os::UniqueFd const held(
      ::open(fmt::format("/proc/{}/fd/1", instance->pid()).c_str(), O_WRONLY | O_CLOEXEC));
  CO_ASSERT_TRUE(static_cast<bool>(held));
  instance->kill_tree();
  auto const ended = co_await rig.wait<event::TreeEnded>();
  CO_ASSERT_TRUE(ended.has_value());
  co_await instance->close();
  struct stat status{};
  EXPECT_EQ(::fstat(held.get(), &status), 0);
}

CORO_TEST(InstanceOutput, LeavesNoDescriptorBehind) {
  std::size_t before = 0;
  for (int round = 0; round < 12; ++round) {
    InstanceRig rig(loop);
    auto const instance = rig.shell("echo up; exec sleep 1000");
    bool const up = co_await rig.wait_line("up");
    CO_ASSERT_TRUE(up);
    co_await instance->stop(15, 30s);
    co_await instance->close();
    if (round == 1) before = os::count_own_fds();
    if (round == 11) {
      EXPECT_LE(os::count_own_fds(), before);
    }
  }
}

}  // namespace
}  // namespace aether::supervise
