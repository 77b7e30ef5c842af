// SPDX-License-Identifier: Apache-2.0
#include "os/process_tree.h"

#include <signal.h>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "os/proc.h"
#include "os/signals.h"
#include "os/testing.h"

namespace aether::os {
namespace {

using testing::as_ordinary_user;
using testing::in_own_process;
using testing::kPatience;
using testing::Program;
using testing::wait_until;

std::string unique_mark() {
  static int count = 0;
  return fmt::format("AETHER_INSTANCE_ID=test-{}-{}", ::getpid(), ++count);
}

/// Prints the pids of a child, of an orphan (its parent has ended), and of a daemon (an orphan in a
/// session of its own); then waits. With an argument the daemon also drops its environment.
constexpr char const* kFamily = R"(
import os, sys, time
def grandchild(new_session):
    r, w = os.pipe()
    if os.fork() == 0:
        if new_session: os.setsid()
        pid = os.fork()
        if pid == 0:
            os.close(w)
            time.sleep(1000)
        os.write(w, str(pid).encode())
        os._exit(0)
    os.close(w)
    pid = os.read(r, 20).decode()
    os.wait()
    return pid
child = os.fork()
if child == 0: time.sleep(1000)
print(child, grandchild(False), grandchild(True))
sys.stdin.readline()
)";

struct Family {
  pid_t child = 0;
  pid_t orphan = 0;
  pid_t daemon = 0;
};

Family read_family(Program& program) {
  std::string const line = program.read_line();
  Family family;
  char const* at = line.data();
  char const* const end = at + line.size();
  for (pid_t* pid : {&family.child, &family.orphan, &family.daemon}) {
    at = std::from_chars(at, end, *pid).ptr;
    if (at != end) ++at;
  }
  EXPECT_GT(family.daemon, 0) << line;
  return family;
}

bool is_alive(pid_t pid) {
  auto const process = read_process(pid);
  return process && !process->ended();
}

bool has(std::vector<pid_t> const& pids, pid_t pid) {
  return std::ranges::find(pids, pid) != pids.end();
}

SpawnSpec family_spec(std::string const& mark) {
  SpawnSpec spec = testing::python(kFamily);
  spec.environment.push_back(mark);
  return spec;
}

TEST(ProcessTree, FindsDescendantsParentsFirst) {
  Program program(testing::shell("sh -c 'sleep 1000 & echo ready; wait' & wait"));
  ASSERT_EQ(program.read_line(), "ready");
  std::vector<pid_t> const found = descendants(program.pid()).value();
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(read_parent(found[0]), program.pid());
  EXPECT_EQ(read_parent(found[1]), found[0]);
  EXPECT_TRUE(belongs_to(found[1], program.pid()));
  EXPECT_TRUE(belongs_to(program.pid(), program.pid()));
  EXPECT_FALSE(belongs_to(program.pid(), found[0]));
  EXPECT_FALSE(belongs_to(::getpid(), program.pid()));
  EXPECT_TRUE(kill_tree({.root = program.pid(), .session = program.pid()}));
  EXPECT_FALSE(is_alive(found[1]));
}

TEST(ProcessTree, KnowsOrphansBySessionAndDaemonsByEnvironment) {
  EXPECT_TRUE(as_ordinary_user([] {
    std::string const mark = unique_mark();
    Program program(family_spec(mark));
    Family const family = read_family(program);
    pid_t const root = program.pid();

    EXPECT_EQ(descendants(root).value(), std::vector{family.child});
    auto const by_session = tree_members({.root = root, .session = root}).value();
    EXPECT_TRUE(has(by_session, family.orphan));
    EXPECT_FALSE(has(by_session, family.daemon));
    TreeMarks const marks{.root = root, .session = root, .environment = mark};
    for (pid_t pid : {root, family.child, family.orphan, family.daemon}) {
      EXPECT_TRUE(has(tree_members(marks).value(), pid));
      EXPECT_TRUE(belongs_to(pid, marks));
    }
    EXPECT_FALSE(belongs_to(::getpid(), marks));
    EXPECT_FALSE(belongs_to(1, marks));

    EXPECT_TRUE(kill_tree(marks, kPatience));
    for (pid_t pid : {root, family.child, family.orphan, family.daemon})
      EXPECT_FALSE(is_alive(pid)) << pid;
    EXPECT_TRUE(tree_members(marks).value().empty());
  }));
}

TEST(ProcessTree, KillsWhatIsLeftAfterItsRootHasEnded) {
  EXPECT_TRUE(as_ordinary_user([] {
    std::string const mark = unique_mark();
    Program program(family_spec(mark));
    Family const family = read_family(program);
    program.write_line("end");
    EXPECT_TRUE(wait_until([&] { return read_process(program.pid())->state == 'Z'; }));
    TreeMarks const marks{.root = program.pid(), .session = program.pid(), .environment = mark};
    EXPECT_TRUE(is_alive(family.orphan));
    EXPECT_TRUE(kill_tree(marks, kPatience));
    EXPECT_FALSE(is_alive(family.child));
    EXPECT_FALSE(is_alive(family.orphan));
    EXPECT_FALSE(is_alive(family.daemon));
  }));
}

TEST(ProcessTree, DoesNotTrustASessionWhoseNumberMayBeAStrangers) {
  // The leader is not our child: it may be anyone who got the number after ours was reaped.
  Program stranger(testing::shell("setsid sh -c 'echo $$; exec sleep 1000' & wait"));
  std::string const line = stranger.read_line();
  pid_t session = 0;
  std::from_chars(line.data(), line.data() + line.size(), session);
  ASSERT_GT(session, 0);
  EXPECT_TRUE(tree_members({.session = session}).value().empty());
  EXPECT_TRUE(kill_tree({.session = session}, kPatience));
  EXPECT_TRUE(is_alive(session));
  EXPECT_TRUE(kill_tree({.root = stranger.pid()}, kPatience));
}

TEST(ProcessTree, NeverContainsOurselves) {
  EXPECT_TRUE(in_own_process([] {
    std::string const mark = unique_mark();
    Program program(family_spec(mark));
    [[maybe_unused]] Family const family = read_family(program);
    auto const members = tree_members({.root = ::getpid(), .session = ::getsid(0)}).value();
    EXPECT_FALSE(has(members, ::getpid()));
    EXPECT_TRUE(kill_tree({.root = program.pid(), .environment = mark}, kPatience));
  }));
}

TEST(ProcessTree, KillsATreeThatForksWhileItIsKilled) {
  EXPECT_TRUE(as_ordinary_user([] {
    SpawnSpec spec = testing::python(
        "import os, time\n"
        "def breed(depth):\n"
        "    while True:\n"
        "        if os.fork() == 0:\n"
        "            if depth: breed(depth - 1)\n"
        "            time.sleep(0.2)\n"
        "            os._exit(0)\n"
        "        time.sleep(0.005)\n"
        "print('ready')\n"
        "breed(1)\n");
    std::string const mark = unique_mark();
    spec.environment.push_back(mark);
    Program program(std::move(spec));
    ASSERT_EQ(program.read_line(), "ready");
    TreeMarks const marks{.root = program.pid(), .session = program.pid(), .environment = mark};
    ASSERT_TRUE(wait_until([&] { return tree_members(marks).value().size() > 5; }));
    EXPECT_TRUE(kill_tree(marks, kPatience));
    EXPECT_TRUE(tree_members(marks).value().empty());
  }));
}

TEST(ProcessTree, SignalsEveryMemberOnce) {
  std::string const mark = unique_mark();
  SpawnSpec spec = testing::shell(
      "trap 'echo outer; exit 0' TERM; (trap 'echo inner; exit 0' TERM; echo ready; sleep 1000 & "
      "wait) & wait; wait");
  spec.environment.push_back(mark);
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  TreeMarks const marks{.root = program.pid(), .session = program.pid(), .environment = mark};
  EXPECT_TRUE(signal_tree(marks, SIGTERM));
  std::vector<std::string> lines{program.read_line(), program.read_line()};
  std::ranges::sort(lines);
  EXPECT_EQ(lines, (std::vector<std::string>{"inner", "outer"}));
  EXPECT_TRUE(kill_tree(marks, kPatience));
}

}  // namespace
}  // namespace aether::os
