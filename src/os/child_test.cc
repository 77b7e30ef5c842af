// SPDX-License-Identifier: Apache-2.0
#include "os/child.h"

#include <signal.h>

#include "os/proc.h"
#include "os/testing.h"

namespace aether::os {
namespace {

using testing::kPatience;
using testing::Program;
using testing::shell;

TEST(ExitStatus, IsDescribedForPeopleAndForShells) {
  EXPECT_EQ((ExitStatus{.code = 3}).describe(), "exited with code 3");
  EXPECT_EQ((ExitStatus{.signal = SIGKILL}).describe(), "was killed by signal 9 (SIGKILL)");
  EXPECT_EQ((ExitStatus{.signal = SIGSEGV, .core_dumped = true}).describe(),
            "was killed by signal 11 (SIGSEGV) and left a core dump");
  EXPECT_EQ((ExitStatus{.signal = SIGTERM}).shell_code(), 143);
  EXPECT_EQ((ExitStatus{.code = 3}).shell_code(), 3);
  EXPECT_TRUE(ExitStatus{}.success());
  EXPECT_FALSE((ExitStatus{.signal = SIGTERM}).success());
}

TEST(Signals, HaveNamesAndNumbers) {
  EXPECT_EQ(signal_name(SIGTERM), "SIGTERM");
  EXPECT_EQ(signal_name(SIGRTMIN + 1), "SIGRTMIN+1");
  EXPECT_EQ(signal_name(99), "signal 99");
  EXPECT_EQ(signal_number("SIGTERM"), SIGTERM);
  EXPECT_EQ(signal_number("QUIT"), SIGQUIT);
  EXPECT_EQ(signal_number("15"), 15);
  EXPECT_EQ(signal_number("SIGRTMIN+1"), SIGRTMIN + 1);
  for (char const* wrong : {"", "SIG", "0", "-1", "65", "SIGNOPE", "term", "15x"})
    EXPECT_EQ(signal_number(wrong), std::nullopt) << wrong;
}

TEST(Child, TellsItsStatusAgainAndAgain) {
  auto child = spawn({.argv = {"/bin/false"}});
  ASSERT_TRUE(child);
  EXPECT_EQ(child->reap_within(kPatience).value(), (ExitStatus{.code = 1}));
  EXPECT_EQ(child->try_reap().value(), (ExitStatus{.code = 1}));
}

TEST(Child, HasNoStatusWhileItRuns) {
  Program program(shell("read line; exit 4"));
  EXPECT_EQ(program.child().try_reap().value(), std::nullopt);
  EXPECT_EQ(program.child().reap_within(std::chrono::milliseconds(5)).value(), std::nullopt);
  program.write_line("go");
  EXPECT_EQ(program.wait(), (ExitStatus{.code = 4}));
}

TEST(Child, IsSignalledByWhatItIsAndNotByNumber) {
  Program program(shell("trap 'echo caught; exit 0' TERM; echo ready; read line"));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_TRUE(program.child().signal(SIGTERM));
  EXPECT_EQ(program.read_line(), "caught");
  EXPECT_TRUE(program.wait().success());
  EXPECT_TRUE(program.child().signal(SIGTERM)) << "there is nobody to tell: no fault";
}

TEST(Child, WithAWrongSignalIsAFault) {
  Program program(shell("read line"));
  EXPECT_EQ(program.child().signal(1000).error().errno_value(), EINVAL);
}

TEST(Child, CanBeAdoptedByNumber) {
  Program program(shell("read line"));
  auto adopted = Child::adopt(program.pid());
  ASSERT_TRUE(adopted);
  EXPECT_TRUE(adopted->signal(SIGKILL));
  EXPECT_EQ(program.wait(), (ExitStatus{.signal = SIGKILL}));
  EXPECT_FALSE(Child::adopt(program.pid()));
}

TEST(Child, ReapedByAnotherTellsItsStatusWhereTheKernelKeepsIt) {
  Program program(shell("read line; exit 7"));
  auto adopted = Child::adopt(program.pid());
  ASSERT_TRUE(adopted);
  program.write_line("go");
  EXPECT_EQ(program.wait(), (ExitStatus{.code = 7}));
  auto const status = adopted->try_reap();
  if (!status) GTEST_SKIP() << "this kernel keeps no status: " << status.error().describe();
  EXPECT_EQ(*status, (ExitStatus{.code = 7}));
}

TEST(Child, OfAnotherParentHasNoStatusWhileItRuns) {
  Program program(shell("sleep 1000 & echo $!; wait"));
  auto grandchild = Child::adopt(std::stoi(program.read_line()));
  ASSERT_TRUE(grandchild);
  EXPECT_EQ(grandchild->try_reap().value(), std::nullopt);
  EXPECT_TRUE(grandchild->signal(SIGTERM));
  auto const status = grandchild->reap_within(kPatience);
  if (!status) GTEST_SKIP() << "this kernel keeps no status: " << status.error().describe();
  EXPECT_EQ(*status, (ExitStatus{.signal = SIGTERM}));
}

}  // namespace
}  // namespace aether::os
