// SPDX-License-Identifier: Apache-2.0
#include "os/process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <memory>

#include <fmt/format.h>

#include "base/fault.h"
#include "os/cgroup.h"
#include "os/memfd.h"
#include "os/proc.h"
#include "os/spawn.h"
#include "os/temp_dir.h"
#include "os/testing.h"

namespace aether::os {
namespace {

using testing::in_own_process;
using testing::kPatience;
using testing::Program;
using testing::run;
using testing::shell;

/// A shell that says when it has started and then waits: its descriptors are settled then.
SpawnSpec waiting_shell() {
  return shell("echo ready; read line");
}

std::string identity(int fd) {
  struct stat status{};
  EXPECT_EQ(::fstat(fd, &status), 0);
  return fmt::format("{}:{}", status.st_dev, status.st_ino);
}

std::string identity(pid_t pid, int fd) {
  struct stat status{};
  EXPECT_EQ(::stat(fmt::format("/proc/{}/fd/{}", pid, fd).c_str(), &status), 0);
  return fmt::format("{}:{}", status.st_dev, status.st_ino);
}

std::string status_line(std::string const& status, std::string const& key) {
  std::size_t const at = status.find(key);
  return at == std::string::npos ? "" : status.substr(at, status.find('\n', at) - at);
}

TEST(Spawn, RunsAProgramAndTellsHowItEnded) {
  EXPECT_EQ(run(shell("exit 7")).status, (ExitStatus{.code = 7}));
  EXPECT_EQ(run(shell("kill -9 $$")).status, (ExitStatus{.signal = SIGKILL}));
}

TEST(Spawn, GivesExactlyTheDescriptorsNamedAndNoOther) {
  auto const first = Memfd::create("first", 1);
  auto const second = Memfd::create("second", 1);
  testing::Pipe stray;
  ::fcntl(stray.read_end.get(), F_SETFD, 0);  // one of ours that somebody forgot to mark
  SpawnSpec spec = waiting_shell();
  spec.fds = {{.source = first->fd(), .target = 3}, {.source = second->fd(), .target = 4}};
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_EQ(list_fds(program.pid()), (std::vector{0, 1, 2, 3, 4}));
  EXPECT_EQ(identity(program.pid(), 3), identity(first->fd()));
  EXPECT_EQ(identity(program.pid(), 4), identity(second->fd()));
}

// Edge: A6
TEST(Spawn, SwapsDescriptorsWhoseNumbersOverlap) {
  auto const first = Memfd::create("first", 1);
  auto const second = Memfd::create("second", 1);
  auto const third = Memfd::create("third", 1);
  int const a = first->fd();
  int const b = second->fd();
  int const c = third->fd();
  SpawnSpec spec = waiting_shell();
  spec.fds = {{.source = a, .target = b}, {.source = b, .target = c}, {.source = c, .target = a}};
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_EQ(identity(program.pid(), b), identity(a));
  EXPECT_EQ(identity(program.pid(), c), identity(b));
  EXPECT_EQ(identity(program.pid(), a), identity(c));
  EXPECT_EQ(list_fds(program.pid()).size(), 6U);
}

// Edge: A5
TEST(Spawn, KeepsADescriptorWhoseNumberIsRightAlready) {
  auto const memory = Memfd::create("same", 1);  // close-on-exec, as all of ours
  SpawnSpec spec = waiting_shell();
  spec.fds = {{.source = memory->fd(), .target = memory->fd()}};
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_EQ(identity(program.pid(), memory->fd()), identity(memory->fd()));
}

TEST(Spawn, GivesOneDescriptorToSeveralNumbers) {
  auto const memory = Memfd::create("many", 1);
  SpawnSpec spec = waiting_shell();
  for (int target : {9, 3, 100}) spec.fds.push_back({.source = memory->fd(), .target = target});
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_EQ(list_fds(program.pid()), (std::vector{0, 1, 2, 3, 9, 100}));
}

TEST(Spawn, OpensTheNullDeviceForStandardDescriptorsThatAreMissing) {
  EXPECT_TRUE(in_own_process([] {
    for (int fd : {0, 1, 2}) ::close(fd);
    auto child = spawn({.argv = {"/bin/sleep", "1000"}});
    ASSERT_TRUE(child);
    EXPECT_TRUE(testing::wait_until([&] { return list_fds(child->pid()).size() == 3; }));
    for (int fd : {0, 1, 2}) EXPECT_EQ(read_fd_link(child->pid(), fd), "/dev/null");
    EXPECT_TRUE(child->signal(SIGKILL));
  }));
}

TEST(Spawn, FillsOurOwnMissingStandardDescriptors) {
  EXPECT_TRUE(in_own_process([] {
    for (int fd : {0, 2}) ::close(fd);
    EXPECT_TRUE(fill_standard_fds());
    EXPECT_EQ(read_fd_link(::getpid(), 0), "/dev/null");
    EXPECT_EQ(read_fd_link(::getpid(), 2), "/dev/null");
  }));
}

TEST(Spawn, RefusesTwoDescriptorsOfOneNumber) {
  SpawnSpec spec = shell("true");
  spec.fds = {{.source = 0, .target = 5}, {.source = 1, .target = 5}};
  EXPECT_EQ(spawn(spec).error().code(), ErrorCode::Internal);
}

TEST(Spawn, ReportsADescriptorThatIsNotOpen) {
  SpawnSpec spec = shell("true");
  spec.fds = {{.source = 999, .target = 3}};
  auto const child = spawn(spec);
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code(), ErrorCode::SpawnFailed);
  EXPECT_EQ(child.error().errno_value(), EBADF);
  EXPECT_NE(child.error().message().find("999"), std::string::npos);
}

TEST(Spawn, GivesExactlyTheEnvironmentNamed) {
  ::setenv("AETHER_TEST_LEAK", "1", 1);
  SpawnSpec spec{.argv = {"/usr/bin/env"}, .environment = {"A=1", "B=two words"}};
  EXPECT_EQ(run(std::move(spec)).text, "A=1\nB=two words\n");
}

TEST(Spawn, WritesTheChildsOwnNumberIntoListenPid) {
  SpawnSpec spec = shell("echo $LISTEN_PID $$; env | grep -c LISTEN_PID=");
  spec.environment.emplace_back("LISTEN_PID=1");
  spec.set_listen_pid = true;
  Program program(std::move(spec));
  EXPECT_EQ(program.read_line(), fmt::format("{} {}", program.pid(), program.pid()));
  EXPECT_EQ(program.read_line(), "1");
}

TEST(Spawn, WritesWhatOnlyTheChildKnowsOfItself) {
  SpawnSpec spec = shell("echo $WATCHDOG_PID $LISTEN_PIDFDID; read line");
  spec.environment = {"WATCHDOG_PID=1", "LISTEN_PIDFDID=2"};
  spec.set_listen_pid = spec.set_watchdog_pid = true;
  Program program(std::move(spec));
  std::string const line = program.read_line();
  auto const held = Child::adopt(program.pid());
  ASSERT_TRUE(held.has_value());
  auto const id = pidfd_id(held->pidfd());
  EXPECT_EQ(line,
            id ? fmt::format("{} {}", program.pid(), *id) : fmt::format("{} 2", program.pid()));
}

TEST(Spawn, RestoresSignalsWhateverWeIgnoreOrBlock) {
  EXPECT_TRUE(in_own_process([] {
    for (int signal : {SIGPIPE, SIGHUP, SIGUSR1, SIGCHLD}) ::signal(signal, SIG_IGN);
    ::signal(SIGTERM, [](int) {});
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    ::signal(SIGCHLD, SIG_DFL);  // else the kernel reaps what we want to see
    std::string const status = run({.argv = {"/bin/cat", "/proc/self/status"}}).text;
    EXPECT_EQ(status_line(status, "SigBlk"), "SigBlk:\t0000000000000000");
    EXPECT_EQ(status_line(status, "SigIgn"), "SigIgn:\t0000000000000000");
    EXPECT_EQ(status_line(status, "SigCgt"), "SigCgt:\t0000000000000000");
    sigset_t now;
    ::sigprocmask(SIG_SETMASK, nullptr, &now);
    EXPECT_EQ(::sigismember(&now, SIGTERM), 1) << "our own mask must be as it was";
  }));
}

TEST(Spawn, MakesASessionUnlessToldNotTo) {
  Program leader(waiting_shell());
  ASSERT_EQ(leader.read_line(), "ready");
  EXPECT_EQ(read_process(leader.pid())->session, leader.pid());
  EXPECT_EQ(read_process(leader.pid())->group, leader.pid());
  SpawnSpec spec = waiting_shell();
  spec.new_session = false;
  Program member(std::move(spec));
  ASSERT_EQ(member.read_line(), "ready");
  EXPECT_EQ(read_process(member.pid())->session, ::getsid(0));
}

TEST(Spawn, RunsInTheFolderNamedAndFindsTheCommandBelowIt) {
  auto const folder = TempDir::create();
  std::string const script = folder->file("hello");
  ASSERT_TRUE(testing::write_script(script, "#!/bin/sh\npwd\n"));
  SpawnSpec spec{.argv = {"./hello"}, .workdir = folder->path()};
  EXPECT_EQ(run(spec).text, folder->path() + "\n");
  spec.argv = {"hello"};
  spec.environment = {"PATH=/nowhere:."};
  EXPECT_EQ(run(spec).text, folder->path() + "\n");
}

TEST(Spawn, SearchesTheChildsPathAndNotOurs) {
  auto const folder = TempDir::create();
  ASSERT_TRUE(testing::write_script(folder->file("only-there"), "#!/bin/sh\necho found\n"));
  SpawnSpec spec{.argv = {"only-there"}, .environment = {"PATH=" + folder->path()}};
  EXPECT_EQ(run(spec).text, "found\n");
  spec.environment = {"PATH=/usr/bin:/bin"};
  EXPECT_EQ(spawn(spec).error().code(), ErrorCode::CommandNotFound);
}

TEST(Spawn, SetsResourceLimits) {
  SpawnSpec spec = shell("ulimit -n; ulimit -c");
  spec.limits = {{.resource = RLIMIT_NOFILE, .soft = 77, .hard = 88},
                 {.resource = RLIMIT_CORE, .soft = 0, .hard = 0}};
  EXPECT_EQ(run(std::move(spec)).text, "77\n0\n");
}

TEST(Spawn, GivesDescriptorsThatTheChildsOwnLimitWouldForbid) {
  auto const memory = Memfd::create("high", 1);
  SpawnSpec spec = waiting_shell();
  spec.fds = {{.source = memory->fd(), .target = 50}};
  spec.limits = {{.resource = RLIMIT_NOFILE, .soft = 20, .hard = 20}};
  Program program(std::move(spec));
  ASSERT_EQ(program.read_line(), "ready");
  EXPECT_EQ(list_fds(program.pid()), (std::vector{0, 1, 2, 50}));
}

TEST(Spawn, BecomesTheUserNamedWithItsGroupsOnly) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root may become another user";
  SpawnSpec spec = shell("id -u; id -g; id -G; cat /proc/self/status | grep CapEff");
  spec.user = Credentials{.uid = 4321, .gid = 4322, .groups = {4322, 4323}};
  EXPECT_EQ(run(std::move(spec)).text, "4321\n4322\n4322 4323\nCapEff:\t0000000000000000\n");
  EXPECT_EQ(::prctl(PR_GET_DUMPABLE), 1) << "our own /proc entries must stay visible to us";
}

TEST(Spawn, RefusesToBecomeAnotherUserWithoutTheRight) {
  EXPECT_TRUE(testing::as_ordinary_user([] {
    SpawnSpec spec = shell("true");
    spec.user = Credentials{.uid = 0, .gid = 0, .groups = {0}, .name = "root"};
    auto const child = spawn(spec);
    ASSERT_FALSE(child);
    EXPECT_EQ(child.error().code(), ErrorCode::UserUnknown);
    EXPECT_NE(child.error().message().find("may not become"), std::string::npos);
    spec.user = Credentials{.uid = ::geteuid(), .gid = ::getegid(), .groups = {}};
    EXPECT_TRUE(run(spec).status.success()) << "our own user needs no right";
  }));
}

TEST(Spawn, SharesOurMemoryInsteadOfCopyingIt) {
  constexpr std::size_t kBig = std::size_t{256} * 1024 * 1024;
  auto const big = std::make_unique<char[]>(kBig);
  for (std::size_t i = 0; i < kBig; i += 4096) big[i] = 1;
  EXPECT_TRUE(run(shell("true")).status.success());

  static int volatile written_by_child = 0;
  auto const stack = ChildStack::create();
  ASSERT_TRUE(stack);
  std::atomic<std::uint32_t> alive = 0;
  auto const entry = [](void*) {
    written_by_child = 42;
    while (true) raw_syscall(SYS_exit_group, 0);
  };
  for (CloneCall call : {CloneCall::Clone3, CloneCall::Clone}) {
    written_by_child = 0;
    auto child = clone_process(call, entry, nullptr, *stack, alive, {});
    ASSERT_TRUE(child) << child.error().describe();
    EXPECT_TRUE(wait_left(alive, kPatience));
    EXPECT_EQ(written_by_child, 42);
    EXPECT_TRUE(child->reap_within(kPatience).value());
  }
}

TEST(Spawn, DoesNotWaitForEverForAChildThatDoesNotExecute) {
  auto const stack = ChildStack::create();
  std::atomic<std::uint32_t> alive = 0;
  auto const entry = [](void*) {
    while (true) raw_syscall(SYS_ppoll, 0, 0, 0, 0, 8);
  };
  auto child = clone_process(CloneCall::Clone3, entry, nullptr, *stack, alive, {});
  ASSERT_TRUE(child);
  EXPECT_FALSE(wait_left(alive, std::chrono::milliseconds(20)));
  EXPECT_TRUE(child->signal(SIGKILL));
  EXPECT_TRUE(wait_left(alive, kPatience));
  EXPECT_EQ(child->reap_within(kPatience).value(), (ExitStatus{.signal = SIGKILL}));

  auto late = spawn_with(shell("true"), CloneCall::Clone3, Duration::zero());
  if (!late) EXPECT_EQ(late.error().errno_value(), ETIMEDOUT);
  if (late) EXPECT_TRUE(late->reap_within(kPatience).value());  // it was quicker than that
}

TEST(Spawn, WorksWhereOnlyTheOldSystemCallIsAllowed) {
  SpawnSpec spec = shell("exit 5");
  auto child = spawn_with(spec, CloneCall::Clone, kPatience);
  ASSERT_TRUE(child) << child.error().describe();
  EXPECT_EQ(child->reap_within(kPatience).value(), (ExitStatus{.code = 5}));
}

TEST(Spawn, StartsTheChildInItsCgroup) {
  auto const cgroup = Cgroup::create(fmt::format("aether-test-spawn-{}", ::getpid()));
  if (!cgroup) GTEST_SKIP() << cgroup.error().message();
  for (CloneCall call : {CloneCall::Clone3, CloneCall::Clone}) {
    SpawnSpec spec{.argv = {"/bin/sleep", "1000"}, .cgroup = cgroup->fd()};
    auto child = spawn_with(spec, call, kPatience);
    ASSERT_TRUE(child) << child.error().describe();
    EXPECT_TRUE(cgroup->contains(child->pid()));
    EXPECT_TRUE(child->signal(SIGKILL));
    EXPECT_TRUE(child->reap_within(kPatience).value());
  }
}

TEST(Spawn, LeavesNothingBehindAfterAThousandStarts) {
  std::size_t const before = count_own_fds();
  for (int i = 0; i < 1000; ++i) {
    bool const good = i % 2 == 0;
    auto child = spawn({.argv = {good ? "/bin/true" : "/bin/no-such-program"}});
    ASSERT_EQ(child.has_value(), good);
    if (child) EXPECT_TRUE(child->reap_within(kPatience).value());
  }
  EXPECT_EQ(count_own_fds(), before);
  siginfo_t info{};
  ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
  EXPECT_EQ(info.si_pid, 0) << "a zombie was left";
}

TEST(Spawn, PassesAFaultPoint) {
  EXPECT_TRUE(in_own_process([] {
    ASSERT_TRUE(fault::configure("spawn.before-fork:1:eio"));
    EXPECT_FALSE(spawn({.argv = {"/bin/true"}}));
    EXPECT_TRUE(spawn({.argv = {"/bin/true"}}));
  }));
}

}  // namespace
}  // namespace aether::os
