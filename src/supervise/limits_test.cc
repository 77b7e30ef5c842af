// SPDX-License-Identifier: Apache-2.0
#include "supervise/limits.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>
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

}  // namespace
}  // namespace aether::supervise
