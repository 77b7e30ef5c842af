// SPDX-License-Identifier: Apache-2.0
#include "os/reap.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <algorithm>

#include "os/proc.h"
#include "os/signals.h"
#include "os/testing.h"

namespace aether::os {
namespace {

using testing::in_own_process;
using testing::kPatience;
using testing::Program;
using testing::wait_until;

/// Makes many orphans: each is a grandchild whose parent ends at once, and ends itself with code 3.
std::string orphans(int count) {
  return "import os\nfor i in range(" + std::to_string(count) +
         "):\n"
         "    if os.fork() == 0:\n"
         "        if os.fork() == 0: os._exit(3)\n"
         "        os._exit(0)\n";
}

/// Reaps until so many have ended with code 3; true if none is missing and none came twice.
bool reaps_exactly(std::ptrdiff_t orphans, std::function<bool(pid_t)> const& is_known) {
  std::ptrdiff_t seen = 0;
  bool const all = wait_until([&] {
    auto const some = reap_orphans(is_known).value();
    seen += std::ranges::count(some, 3, [](Reaped const& one) { return one.status.code; });
    return seen >= orphans;
  });
  return all && seen == orphans;
}

TEST(Reaping, TakesEveryOrphanAndNoStatusThatSomebodyWaitsFor) {
  EXPECT_TRUE(in_own_process([] {
    ASSERT_TRUE(become_subreaper());
    auto early = spawn({.argv = {"/bin/sh", "-c", "exit 7"}});  // ends first: in front of the rest
    ASSERT_TRUE(early);
    EXPECT_TRUE(wait_until([&] { return read_process(early->pid())->ended(); }));
    Program maker(testing::python(orphans(500)));
    auto const is_known = [&](pid_t pid) { return pid == early->pid() || pid == maker.pid(); };

    EXPECT_TRUE(reaps_exactly(500, is_known));
    EXPECT_EQ(early->try_reap().value(), (ExitStatus{.code = 7}));
    EXPECT_TRUE(maker.wait().success());
    EXPECT_TRUE(reap_orphans([](pid_t) { return false; }));
    auto const left = read_all_processes().value();
    EXPECT_TRUE(std::ranges::none_of(left, [](ProcessInfo const& process) {
      return process.parent == ::getpid() && process.ended();
    }));
  }));
}

TEST(Reaping, TakesOrphansWhileAThreadOfOursHoldsAChildOfOurs) {
  EXPECT_TRUE(in_own_process([] {
    ASSERT_TRUE(become_subreaper());
    auto held = spawn({.argv = {"/bin/sleep", "1000"}});
    ASSERT_TRUE(held);
    // What waitid shows of it, again and again, is that it stands still.
    ASSERT_EQ(::ptrace(PTRACE_SEIZE, held->pid(), nullptr, nullptr), 0);
    ASSERT_EQ(::ptrace(PTRACE_INTERRUPT, held->pid(), nullptr, nullptr), 0);
    Program maker(testing::python(orphans(100)));
    auto const is_known = [&](pid_t pid) { return pid == held->pid() || pid == maker.pid(); };
    EXPECT_TRUE(reaps_exactly(100, is_known));
    EXPECT_TRUE(maker.wait().success());
    EXPECT_TRUE(held->signal(SIGKILL));
  }));
}

TEST(Reaping, WithoutChildrenFindsNothing) {
  EXPECT_TRUE(in_own_process(
      [] { EXPECT_TRUE(reap_orphans([](pid_t) { return false; }).value().empty()); }));
}

TEST(Reaping, LeavesRunningChildrenAlone) {
  EXPECT_TRUE(in_own_process([] {
    Program program(testing::shell("read line; exit 6"));
    EXPECT_TRUE(reap_orphans([](pid_t) { return false; }).value().empty());
    program.write_line("go");
    EXPECT_EQ(program.wait(), (ExitStatus{.code = 6}));
  }));
}

TEST(SignalFd, TellsWhoSentWhat) {
  EXPECT_TRUE(in_own_process([] {
    auto const signals = SignalFd::open({SIGTERM, SIGHUP});
    ASSERT_TRUE(signals);
    EXPECT_EQ(signals->read().value(), std::nullopt);
    ::kill(::getpid(), SIGHUP);
    auto const first = signals->read().value();
    ASSERT_TRUE(first);
    EXPECT_EQ(first->signal, SIGHUP);
    EXPECT_EQ(first->sender, ::getpid());
    EXPECT_EQ(signals->read().value(), std::nullopt);
  }));
}

TEST(SignalFd, ReadsWhatArrivedBeforeItWasOpenedIfAllWereBlockedEarly) {
  EXPECT_TRUE(in_own_process([] {
    ASSERT_TRUE(block_all_early());
    ::kill(::getpid(), SIGTERM);
    auto const signals = SignalFd::open({SIGTERM});
    EXPECT_EQ(signals->read().value()->signal, SIGTERM);
    sigset_t blocked;
    ::sigprocmask(SIG_SETMASK, nullptr, &blocked);
    EXPECT_EQ(::sigismember(&blocked, SIGUSR1), 1);
    EXPECT_EQ(::sigismember(&blocked, SIGSEGV), 0) << "a fault must end us, not hang us";
  }));
}

TEST(SignalFd, TellsThatAChildEnded) {
  EXPECT_TRUE(in_own_process([] {
    auto const signals = SignalFd::open({SIGCHLD});
    auto child = spawn({.argv = {"/bin/true"}});
    ASSERT_TRUE(child);
    EXPECT_TRUE(wait_until([&] { return signals->read().value().has_value(); }));
    EXPECT_TRUE(child->reap_within(kPatience).value());
  }));
}

// waitid shows a stop of what we trace even to who asks for ends only, and takes it away.
TEST(Reaping, LeavesAChildThatIsTracedAndStandsStill) {
  EXPECT_TRUE(in_own_process([] {
    Program program(testing::shell("read line; exit 3"));
    ASSERT_EQ(::ptrace(PTRACE_SEIZE, program.pid(), 0, 0), 0);
    ASSERT_EQ(::ptrace(PTRACE_INTERRUPT, program.pid(), 0, 0), 0);
    siginfo_t stop{};
    auto const seen = [&] {
      stop = {};
      return ::waitid(P_PID, static_cast<id_t>(program.pid()), &stop,
                      WSTOPPED | WEXITED | WNOHANG | WNOWAIT) == 0 &&
             stop.si_code == CLD_TRAPPED;
    };
    ASSERT_TRUE(wait_until(seen));
    EXPECT_EQ(program.child().try_reap().value(), std::nullopt);
    auto const reaped = reap_orphans([](pid_t) { return false; });
    ASSERT_TRUE(reaped);
    EXPECT_TRUE(reaped->empty());
    EXPECT_TRUE(seen()) << "its tracer still finds it";
    ASSERT_EQ(::ptrace(PTRACE_DETACH, program.pid(), 0, 0), 0);
    program.write_line("go");
    EXPECT_EQ(program.wait(), (ExitStatus{.code = 3}));
  }));
}

}  // namespace
}  // namespace aether::os
