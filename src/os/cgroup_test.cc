// SPDX-License-Identifier: Apache-2.0
#include "os/cgroup.h"

#include <sys/stat.h>

#include <algorithm>

#include <fmt/format.h>

#include "os/proc.h"
#include "os/process_tree.h"
#include "os/testing.h"

namespace aether::os {
namespace {

using testing::kPatience;
using testing::Program;

std::string unique_name(std::string_view what) {
  return fmt::format("aether-test-{}-{}", what, ::getpid());
}

#define MAKE_CGROUP_OR_SKIP(cgroup, what)            \
  auto made = Cgroup::create(unique_name(what));     \
  if (!made) GTEST_SKIP() << made.error().message(); \
  Cgroup cgroup = std::move(*made)

bool exists(std::string const& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0;
}

/// A daemon in a session of its own, without any environment, whose parent has ended.
SpawnSpec escaping(Cgroup const& cgroup) {
  SpawnSpec spec = testing::python(
      "import os, sys, time\n"
      "if os.fork() == 0:\n"
      "    os.setsid()\n"
      "    pid = os.fork()\n"
      "    if pid: print(pid); os._exit(0)\n"
      "    os.execve('/bin/sleep', ['sleep', '1000'], {})\n"
      "os.wait()\n"
      "sys.stdin.readline()\n");
  spec.cgroup = cgroup.fd();
  return spec;
}

TEST(Cgroup, HoldsEveryProcessWhateverItDoesToEscape) {
  MAKE_CGROUP_OR_SKIP(cgroup, "escape");
  EXPECT_FALSE(cgroup.populated());
  Program program(escaping(cgroup));
  pid_t const daemon = std::stoi(program.read_line());
  EXPECT_TRUE(cgroup.populated());
  EXPECT_TRUE(cgroup.contains(daemon));
  EXPECT_FALSE(cgroup.contains(::getpid()));
  TreeMarks const marks{.root = program.pid(), .session = program.pid(), .cgroup = &cgroup};
  EXPECT_TRUE(belongs_to(daemon, marks));
  std::vector<pid_t> expected{program.pid(), daemon};
  std::ranges::sort(expected);
  // The process between them ends by itself.
  EXPECT_TRUE(testing::wait_until([&] { return tree_members(marks).value() == expected; }));

  EXPECT_TRUE(kill_tree(marks, kPatience));
  EXPECT_FALSE(cgroup.populated());
  EXPECT_TRUE(cgroup.members().empty());
  auto const left = read_process(daemon);
  EXPECT_TRUE(!left || left->ended());
}

TEST(Cgroup, GoesAwayWithItsOwner) {
  std::string path;
  {
    MAKE_CGROUP_OR_SKIP(cgroup, "owner");
    path = cgroup.path();
    EXPECT_TRUE(exists(path));
    Cgroup moved = std::move(cgroup);
    EXPECT_TRUE(exists(moved.path()));
  }
  EXPECT_FALSE(exists(path));
}

TEST(Cgroup, CannotBeRemovedWhileSomethingLivesInIt) {
  MAKE_CGROUP_OR_SKIP(cgroup, "busy");
  SpawnSpec spec = testing::shell("echo ready; read line");
  spec.cgroup = cgroup.fd();
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_EQ(cgroup.remove().error().errno_value(), EBUSY);
  EXPECT_FALSE(Cgroup::create(unique_name("busy"))) << "the name is taken";
  EXPECT_TRUE(cgroup.kill());
  EXPECT_TRUE(cgroup.wait_empty(kPatience));
  EXPECT_TRUE(cgroup.remove());
}

TEST(Cgroup, IsRemovedWithWhatTheTreeMadeBelowIt) {
  MAKE_CGROUP_OR_SKIP(cgroup, "nested");
  ASSERT_EQ(::mkdir((cgroup.path() + "/inner").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir((cgroup.path() + "/inner/most").c_str(), 0755), 0);
  SpawnSpec spec = testing::shell(
      fmt::format("echo $$ > {}/inner/most/cgroup.procs; echo ready; read line", cgroup.path()));
  spec.cgroup = cgroup.fd();
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_EQ(cgroup.members(), std::vector{program.pid()});
  EXPECT_TRUE(cgroup.contains(program.pid()));
  EXPECT_TRUE(cgroup.kill());
  EXPECT_TRUE(cgroup.wait_empty(kPatience));
  std::string const path = cgroup.path();
  EXPECT_TRUE(cgroup.remove());
  EXPECT_FALSE(exists(path));
}

TEST(Cgroup, UsesALeftOverOfItsNameAgain) {
  MAKE_CGROUP_OR_SKIP(cgroup, "left-over");
  EXPECT_EQ(::mkdir((cgroup.path() + "/inner").c_str(), 0755), 0);
  auto again = Cgroup::create(unique_name("left-over"));
  ASSERT_TRUE(again) << again.error().describe();
  EXPECT_FALSE(exists(again->path() + "/inner"));
}

TEST(Cgroup, CannotBeNamedOutOfItsPlace) {
  for (char const* name : {"../../escape", "a/b", "", ".", ".."}) {
    auto const cgroup = Cgroup::create(name);
    if (!cgroup && cgroup.error().code() == ErrorCode::Unsupported)
      GTEST_SKIP() << cgroup.error().message();
    ASSERT_TRUE(cgroup) << name;
    std::string const parent = own_cgroup_path().value();
    EXPECT_EQ(cgroup->path().substr(0, cgroup->path().rfind('/')), parent) << name;
  }
}

TEST(Cgroup, WithoutTheRightIsUnsupportedAndSaysWhatToDo) {
  EXPECT_TRUE(testing::as_ordinary_user([] {
    auto const cgroup = Cgroup::create(unique_name("denied"));
    if (cgroup) return;  // a delegated tree
    EXPECT_EQ(cgroup.error().code(), ErrorCode::Unsupported) << cgroup.error().describe();
  }));
}

}  // namespace
}  // namespace aether::os
