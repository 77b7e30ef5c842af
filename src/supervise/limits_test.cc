// SPDX-License-Identifier: Apache-2.0
#include "supervise/limits.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "supervise/instance_rig.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

TEST(Limits, NamesEachLimitThatItCannotHold) {
  config::Limits const limits{.memory = 1 << 20, .cpu = 0.5, .processes = 10};
  std::string const name = fmt::format("aether-test-{}", ::getpid());
  LimitSet const set = LimitSet::create(limits, nullptr, name);
  // Each is either held by a folder or named in a warning.
  EXPECT_EQ(set.folders().size() + set.warnings().size(), 3U);
  for (std::string const& warning : set.warnings()) EXPECT_THAT(warning, HasSubstr("limits."));
}

TEST(Limits, LeavesNoFolderBehind) {
  std::vector<std::string> folders;
  {
    LimitSet const set =
        LimitSet::create({.memory = 1 << 20}, nullptr, fmt::format("aether-test-{}", ::getpid()));
    folders = set.folders();
  }
  for (std::string const& folder : folders) EXPECT_NE(::access(folder.c_str(), F_OK), 0) << folder;
}

TEST(Limits, GivesNoMoreFilesThanWeMayHave) {
  rlimit now{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &now), 0);
  auto const set = resource_limits({.open_files = std::uint64_t{now.rlim_max} * 2});
  ASSERT_EQ(set.size(), 1U);
  if (::geteuid() != 0) {
    EXPECT_EQ(set[0].hard, now.rlim_max);
  }
}

CORO_TEST(Limits, EndAProgramThatTakesMoreMemoryThanItMay) {
  config::Limits const limits{.memory = 64 << 20};
  LimitSet probe_set = LimitSet::create(limits, nullptr, fmt::format("aether-test-{}", ::getpid()));
  if (probe_set.folders().empty()) {
    CO_SKIP() << "needs a memory control group that the test may write to (root)";
  }
  InstanceRig rig(loop);
  rig.spec.limits = limits;
  auto const instance =
      rig.python("say('up')\nwait_for_usr1()\nhoard = b'x' * (256 << 20)\nsay('alive')\n");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  instance->signal_main(SIGUSR1);
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->status.signal, SIGKILL) << exited->status.describe();
  co_await instance->close();
}

CORO_TEST(Limits, TellThatTheKernelEndedItForItsMemory) {
  config::Limits const limits{.memory = 64 << 20};
  LimitSet probe_set = LimitSet::create(limits, nullptr, fmt::format("aether-test-{}", ::getpid()));
  if (probe_set.folders().empty()) {
    CO_SKIP() << "needs a memory control group that the test may write to (root)";
  }
  EXPECT_EQ(probe_set.memory_kills(), 0U);
  InstanceRig rig(loop);
  rig.spec.limits = limits;
  auto const instance = rig.python("say('up')\nwait_for_usr1()\nhoard = b'x' * (256 << 20)\n");
  co_await instance->grouped();
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  EXPECT_EQ(instance->memory_kills(), 0U);
  instance->signal_main(SIGUSR1);
  co_await instance->ended();
  EXPECT_EQ(instance->memory_kills(), 1U);
  co_await instance->close();
}

CORO_TEST(Limits, TellNoMemoryKillOfOneThatSomebodyElseKilled) {
  InstanceRig rig(loop);
  rig.spec.limits = {.memory = 64 << 20};
  auto const instance = rig.python("say('up')\ntime.sleep(1000)\n");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  instance->signal_main(SIGKILL);
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->status.signal, SIGKILL);
  EXPECT_EQ(instance->memory_kills(), 0U);
  co_await instance->close();
}

TEST(Limits, OfMemoryCountWhatIsSwappedOut) {
  config::Limits const limits{.memory = 64 << 20};
  LimitSet const set = LimitSet::create(limits, nullptr, fmt::format("aether-test-{}", ::getpid()));
  if (set.folders().empty()) GTEST_SKIP() << "needs a memory control group (root)";
  auto const both = os::read_file(set.folders()[0] + "/memory.memsw.limit_in_bytes", 64);
  if (!both) GTEST_SKIP() << "this kernel does not count what is swapped out";
  EXPECT_EQ(*both, fmt::format("{}\n", 64 << 20));
}

/// A bomb goes on for as long as it is let; that nothing is left of it is the end's promise.
CORO_TEST(Limits, ContainABombOfProcesses) {
  config::Limits const limits{.processes = 20};
  LimitSet probe_set = LimitSet::create(limits, nullptr, fmt::format("aether-test-{}", ::getpid()));
  if (probe_set.folders().empty()) {
    CO_SKIP() << "needs a pids control group that the test may write to (root)";
  }
  InstanceRig rig(loop);
  rig.spec.limits = limits;
  auto const instance = rig.python(
      "say('up')\n"
      "wait_for_usr1()\n"
      "refused = 0\n"
      "while refused < 100:\n"
      "    try: os.fork()\n"
      "    except OSError: refused += 1\n"
      "say('refused')\n"
      "time.sleep(1000)\n");
  co_await instance->grouped();
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  instance->signal_main(SIGUSR1);
  bool const refused = co_await rig.wait_line("refused");
  CO_ASSERT_TRUE(refused);
  EXPECT_LE(instance->tree().size(), 20U);
  EXPECT_GT(instance->tree().size(), 1U);
  instance->kill_tree();
  co_await instance->ended();
  EXPECT_TRUE(instance->tree().empty());
  co_await instance->close();
}

/// On a busy machine it may get less.
CORO_TEST(Limits, HoldTheShareOfTheProcessors) {
  config::Limits const limits{.cpu = 0.25};
  LimitSet probe_set = LimitSet::create(limits, nullptr, fmt::format("aether-test-{}", ::getpid()));
  if (probe_set.cpu_folder().empty()) {
    CO_SKIP() << "needs a cpu control group that the test may write to (root)";
  }
  InstanceRig rig(loop);
  rig.spec.limits = limits;
  auto const instance = rig.python(
      "say('up')\n"
      "wait_for_usr1()\n"
      "begun, used = time.monotonic(), time.process_time()\n"
      "while time.monotonic() - begun < 2: pass\n"
      "say('share', (time.process_time() - used) / (time.monotonic() - begun) < 0.4)\n");
  co_await instance->grouped();
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  instance->signal_main(SIGUSR1);
  bool const held = co_await rig.wait_line("share True");
  EXPECT_TRUE(held) << fmt::format("{}", fmt::join(rig.lines(), ", "));
  co_await instance->close();
}

}  // namespace
}  // namespace aether::supervise
