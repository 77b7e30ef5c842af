// SPDX-License-Identifier: Apache-2.0
// Descriptors that one instance leaves and the next one gets; who may speak; programs that change
// their main process. With real processes.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "supervise/instance.h"
#include "supervise/instance_rig.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

char const* const kKeeper =
    "ours, theirs = socket.socketpair()\n"
    "ours.sendall(b'kept by nobody else')\n"
    "notify(b'FDSTORE=1\\nFDNAME=talk', [theirs.fileno()])\n"
    "notify(b'FDSTORE=1\\nFDNAME=talk', [theirs.fileno()])\n"
    "notify(b'FDSTORE=1', [ours.fileno()])\n"
    "notify(b'READY=1')\n"
    "time.sleep(1000)\n";
char const* const kFinder =
    "names = os.environ['LISTEN_FDNAMES'].split(':')\n"
    "assert int(os.environ['LISTEN_PID']) == os.getpid()\n"
    "assert int(os.environ['LISTEN_FDS']) == len(names)\n"
    "talk = socket.socket(fileno=3 + names.index('talk'))\n"
    "say(os.environ['LISTEN_FDNAMES'], os.environ['FDSTORE'], talk.recv(100).decode())\n"
    "notify(b'FDSTOREREMOVE=1\\nFDNAME=talk')\n"
    "notify(b'READY=1')\n"
    "time.sleep(1000)\n";

CORO_TEST(InstanceStore, GivesTheNextInstanceWhatAKilledOneStored) {
  InstanceRig rig(loop);
  async::TaskGroup tasks(loop.executor(), "store");
  FdStore store(tasks, "test", 8);
  rig.store = &store;
  rig.listen();
  auto const first = rig.python(kKeeper);
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(store.size(), 2U) << "the same one twice is stored once";
  first->kill_tree();
  co_await first->ended();
  co_await first->close();
  rig.spec.instance = {2};
  auto const second = rig.python(kFinder);
  bool const found = co_await rig.wait_line("l0:talk:stored 8 kept by nobody else");
  EXPECT_TRUE(found);
  for (int i = 0; i < 3000 && store.size() > 1; ++i) co_await async::sleep_for(10ms);
  EXPECT_EQ(store.size(), 1U);
  co_await second->close();
  store.clear();
  co_await tasks.stop(1s);
}

CORO_TEST(InstanceStore, KeepsTheReadinessDescriptorsNumberFree) {
  InstanceRig rig(loop);
  async::TaskGroup tasks(loop.executor(), "store");
  FdStore store(tasks, "test", 8);
  rig.store = &store;
  rig.spec.ready = config::ReadyFd{4};
  for (int i = 0; i < 3; ++i)
    store.keep(os::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)), "null",
               FdStore::Watched::No);
  auto const instance = rig.python(
      "say(os.environ['LISTEN_FDNAMES'])\n"
      "os.write(4, b'almost')\n"
      "os.write(4, b' there\\n')\n"
      "time.sleep(1000)\n");
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::Fd);
  EXPECT_EQ(rig.lines(), std::vector<std::string>{"null"});
  co_await instance->close();
  store.clear();
  co_await tasks.stop(1s);
}

CORO_TEST(InstanceStore, SaysThatAReadinessDescriptorStayedSilent) {
  InstanceRig rig(loop);
  rig.spec.ready = config::ReadyFd{3};
  rig.spec.ready_timeout = 300ms;
  auto const instance = rig.shell("exec 3>&-; exec sleep 1000");
  auto const late = co_await rig.wait<event::ReadyTimedOut>();
  CO_ASSERT_TRUE(late.has_value());
  EXPECT_THAT(late->hint, HasSubstr("descriptor 3"));
  co_await instance->close();
}

CORO_TEST(InstanceStore, TakesALineOfOutputForReadiness) {
  InstanceRig rig(loop);
  rig.spec.ready = config::ReadyLog{"^listening on [0-9]+$"};
  auto const instance = rig.shell(
      "echo not listening on 80; echo listening on many; echo listening on 80 >&2; exec sleep "
      "1000");
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::Log);
  co_await instance->close();
}

// Edge: B7
CORO_TEST(InstanceStore, HearsOnlyTheMainProcessIfItIsToldSo) {
  InstanceRig rig(loop);
  rig.spec.notify_access = config::NotifyAccess::Main;
  auto const instance = rig.python(
      "if os.fork() == 0:\n"
      "    notify(b'READY=1\\nSTATUS=from a child')\n"
      "    os._exit(0)\n"
      "os.wait()\n"
      "notify(b'STATUS=from the main process')\n"
      "say('said')\n"
      "wait_for_usr1()\n"
      "notify(b'READY=1')\n"
      "time.sleep(1000)\n");
  bool const told = co_await rig.wait_line("said");
  CO_ASSERT_TRUE(told);
  auto const status = co_await rig.wait<event::StatusText>();
  CO_ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->text, "from the main process");
  EXPECT_FALSE(instance->is_ready());
  instance->signal_main(SIGUSR1);
  auto const ready = co_await rig.wait<event::BecameReady>();
  EXPECT_TRUE(ready.has_value());
  co_await instance->close();
}

CORO_TEST(InstanceStore, GivesNoSocketToWhomNobodyHears) {
  InstanceRig rig(loop);
  rig.spec.notify_access = config::NotifyAccess::None;
  rig.spec.ready = config::ReadyAuto{};
  auto const instance = rig.shell("echo \"[$NOTIFY_SOCKET$FDSTORE]\"; setsid sleep 1000 & wait");
  bool const told = co_await rig.wait_line("[]");
  EXPECT_TRUE(told);
  while (instance->tree().size() < 2) co_await async::sleep_for(2ms);
  co_await instance->close();
  EXPECT_TRUE(instance->tree().empty());
}

// Edge: G4
CORO_TEST(InstanceStore, FollowsADaemonByItsPidFile) {
  InstanceRig rig(loop);
  rig.spec.ready = config::ReadyAuto{};
  rig.spec.pid_file = rig.file("daemon.pid");
  auto const instance = rig.python(fmt::format(
      "open('{0}', 'w').write('%d\\n' % os.getppid())\n"  // One that is not of this tree.
      "if os.fork(): os._exit(0)\n"
      "os.setsid()\n"
      "if os.fork(): os._exit(0)\n"
      "time.sleep(0.2)\n"
      "open('{0}', 'w').write('%d\\n' % os.getpid())\n"
      "signal.signal(signal.SIGTERM, lambda *_: os._exit(9))\n"
      "say(os.getpid())\n"
      "while True: time.sleep(0.05)\n",
      *rig.spec.pid_file));
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::PidFile);
  bool const named = co_await rig.wait_line(fmt::format("{}", instance->pid()));
  EXPECT_TRUE(named);
  EXPECT_EQ(rig.seen<event::Exited>(), nullptr);
  (void)co_await instance->stop(SIGTERM, 30s);
  EXPECT_TRUE(instance->tree().empty());
  co_await instance->close();
}

// Edge: G1
CORO_TEST(InstanceStore, RefusesASignalThatNobodyHandles) {
  InstanceRig rig(loop);
  auto const instance = rig.python(
      "notify(b'STATUS=unprepared')\n"
      "signal.signal(signal.SIGHUP, lambda *_: say('hup'))\n"
      "notify(b'READY=1')\n"
      "while True: time.sleep(0.05)\n");
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  Status const refused = instance->signal_handled(SIGUSR1);
  CO_ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message(), HasSubstr("SIGUSR1"));
  EXPECT_TRUE(instance->signal_handled(SIGWINCH).has_value()) << "it harms nobody";
  EXPECT_TRUE(instance->signal_handled(SIGHUP).has_value());
  bool const heard = co_await rig.wait_line("hup");
  EXPECT_TRUE(heard);
  co_await instance->close();
}

}  // namespace
}  // namespace aether::supervise
