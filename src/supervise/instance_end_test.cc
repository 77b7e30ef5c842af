// SPDX-License-Identifier: Apache-2.0
// How an instance ends, with all that it started.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/signals.h"
#include "supervise/hook.h"
#include "supervise/instance.h"
#include "supervise/instance_rig.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

CORO_TEST(InstanceEnd, ReportsExitCodesAndSignals) {
  for (int const code : {0, 1, 3, 127, 255}) {
    InstanceRig rig(loop);
    auto const instance = rig.shell(fmt::format("exit {}", code));
    auto const exited = co_await rig.wait<event::Exited>();
    CO_ASSERT_TRUE(exited.has_value());
    EXPECT_EQ(exited->status, (os::ExitStatus{.code = code}));
    EXPECT_EQ(exited->cause, EndCause::Itself);
    EXPECT_EQ(instance->exit_status(), exited->status);
    co_await instance->ended();
    EXPECT_EQ(rig.known.size(), 0U);
    co_await instance->close();
  }
  InstanceRig rig(loop);
  auto const instance = rig.shell("kill -SEGV $$");
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->status.signal, SIGSEGV);
  co_await instance->close();
}

CORO_TEST(InstanceEnd, StopsAWillingProgramAtOnce) {
  InstanceRig rig(loop);
  auto const instance =
      rig.shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  auto const status = co_await instance->stop(SIGTERM, 30s);
  EXPECT_EQ(status.code, 7);
  EXPECT_TRUE(instance->tree().empty());
  EXPECT_EQ(rig.lines(), (std::vector<std::string>{"up", "bye"}));
  EXPECT_TRUE(std::holds_alternative<event::TreeEnded>(rig.events.back()));
  co_await instance->close();
}

CORO_TEST(InstanceEnd, KillsWhatIgnoresItsStopSignal) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("trap '' TERM; sleep 1000 & echo up; wait; sleep 1000");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  Instant const began = loop.clock().now();
  auto const status = co_await instance->stop(SIGTERM, 200ms);
  EXPECT_EQ(status.signal, SIGKILL);
  EXPECT_GE(loop.clock().now() - began, 200ms);
  EXPECT_TRUE(instance->tree().empty());
  co_await instance->close();
}

CORO_TEST(InstanceEnd, StopsAProgramThatIsStopped) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  instance->signal_main(SIGSTOP);
  auto const status = co_await instance->stop(SIGTERM, 30s);
  EXPECT_EQ(status.code, 5);
  co_await instance->close();
}

CORO_TEST(InstanceEnd, KillsAStoppedProgramThatIgnoresItsStopSignal) {
  InstanceRig rig(loop);
  auto const instance =
      rig.shell("trap '' TERM; trap 'kill -STOP $$' CONT; echo up; while :; do sleep 0.02; done");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  instance->signal_main(SIGSTOP);
  auto const status = co_await instance->stop(SIGTERM, 200ms);
  EXPECT_EQ(status.signal, SIGKILL);
  co_await instance->close();
}

CORO_TEST(InstanceEnd, LetsTheServerBehindAShellEndItsWork) {
  InstanceRig rig(loop);
  std::string const code = InstanceRig::kPythonPrelude +
                           "def end(*_):\n"
                           "    time.sleep(0.3)\n"
                           "    say('work ended')\n"
                           "    sys.exit(0)\n"
                           "signal.signal(signal.SIGTERM, end)\n"
                           "say('up')\n"
                           "while True: time.sleep(0.05)\n";
  auto const instance = rig.launch({"/bin/sh", "-c", "python3 -c \"$0\"; true", code});
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  co_await instance->stop(SIGTERM, 30s);
  EXPECT_EQ(rig.lines().back(), "work ended");
  EXPECT_TRUE(instance->tree().empty());
  co_await instance->close();
}

CORO_TEST(InstanceEnd, KillsTheTreeAtOnceWhenAskedTo) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("sleep 1000 & sleep 1000 & echo up; wait");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  instance->kill_tree();
  auto const ended = co_await rig.wait<event::TreeEnded>();
  EXPECT_TRUE(ended.has_value());
  EXPECT_EQ(rig.seen<event::Exited>()->cause, EndCause::Asked);
  EXPECT_TRUE(instance->tree().empty());
  co_await instance->close();
}

CORO_TEST(InstanceEnd, LeavesNothingOfItsTreeWhenClosed) {
  InstanceRig rig(loop);
  auto const instance =
      rig.shell("setsid sleep 1000 & echo $!; sleep 1000 & echo $!; echo up; wait");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  std::size_t const told = rig.events.size();
  co_await instance->close();
  EXPECT_EQ(rig.events.size(), told) << "an event was told after close() had begun";
  for (int i = 0; i < 2; ++i) {
    auto const process =
        os::read_process(static_cast<pid_t>(std::stoi(rig.lines()[static_cast<std::size_t>(i)])));
    EXPECT_TRUE(!process || process->ended());
  }
}

CORO_TEST(InstanceEnd, EndsWhatACrashLeavesBehind) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("setsid sleep 1000 & echo $!; exit 0");
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_TRUE(exited->left_processes);
  EXPECT_FALSE(exited->was_ready);
  auto const ended = co_await rig.wait<event::TreeEnded>();
  CO_ASSERT_TRUE(ended.has_value());
  bool const dead = co_await rig.wait_dead(static_cast<pid_t>(std::stoi(rig.lines()[0])));
  EXPECT_TRUE(dead);
  co_await instance->close();
}

CORO_TEST(InstanceEnd, HearsWhatWasSaidRightBeforeTheEnd) {
  for (int round = 0; round < 20; ++round) {
    InstanceRig rig(loop);
    auto const instance =
        rig.python("notify(b'READY=1')\nnotify(b'STATUS=last words')\nos._exit(0)\n");
    auto const exited = co_await rig.wait<event::Exited>();
    CO_ASSERT_TRUE(exited.has_value());
    EXPECT_TRUE(exited->was_ready);
    EXPECT_EQ(instance->status_text(), "last words");
    co_await instance->close();
  }
}

CORO_TEST(InstanceEnd, FollowsItsNewMainProcess) {
  CO_ASSERT_TRUE(os::become_subreaper().has_value());
  InstanceRig rig(loop);
  auto const instance = rig.python(
      "child = os.fork()\n"
      "if child:\n"
      "    notify(b'MAINPID=%d\\nREADY=1' % child)\n"
      "    os._exit(0)\n"
      "signal.signal(signal.SIGTERM, lambda *_: os._exit(9))\n"
      "say('up')\n"
      "while True: time.sleep(0.05)\n");
  pid_t const first = instance->pid();
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  auto const changed = co_await rig.wait<event::MainChanged>();
  CO_ASSERT_TRUE(changed.has_value());
  EXPECT_EQ(changed->from, first);
  EXPECT_EQ(changed->to, instance->pid());
  bool const dead = co_await rig.wait_dead(first);
  EXPECT_TRUE(dead);
  EXPECT_EQ(rig.seen<event::Exited>(), nullptr) << "the first process's end was taken for a crash";
  EXPECT_TRUE(instance->is_ready());
  auto const status = co_await instance->stop(SIGTERM, 30s);
  EXPECT_EQ(status.code, 9);
  co_await instance->close();
  EXPECT_EQ(rig.known.size(), 0U);
}

CORO_TEST(InstanceEnd, DoesNotFollowAStrangerNamedAsMainProcess) {
  InstanceRig rig(loop);
  auto const instance =
      rig.python(fmt::format("notify(b'MAINPID={}\\nREADY=1')\ntime.sleep(1000)\n", ::getpid()));
  pid_t const pid = instance->pid();
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(rig.seen<event::MainChanged>(), nullptr);
  EXPECT_EQ(instance->pid(), pid);
  co_await instance->close();
}

CORO_TEST(InstanceEnd, EndsWhatItsWatchdogDoesNotHear) {
  InstanceRig rig(loop);
  rig.spec.watchdog = 300ms;
  auto const instance = rig.python(
      "notify(b'READY=1')\n"
      "for i in range(10):\n"
      "    time.sleep(0.05)\n"
      "    notify(b'WATCHDOG=1')\n"
      "say('silent now')\n"
      "time.sleep(1000)\n");
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->cause, EndCause::Watchdog);
  EXPECT_NE(rig.seen<event::WatchdogMissed>(), nullptr);
  EXPECT_EQ(exited->last_lines, std::vector<std::string>{"silent now"});
  co_await instance->close();
}

CORO_TEST(InstanceEnd, MayBeAskedToEndFromWithinItsOwnEvents) {
  InstanceRig rig(loop);
  rig.spec.command = {"/bin/sh", "-c", "exec sleep 1000"};
  rig.spec.ready = config::ReadyDelay{};
  Instance* running = nullptr;
  async::Event gone;
  InstanceWorld world{.executor = loop.executor(), .clock = loop.clock(), .logs = rig.logs};
  auto const instance = or_throw(
      Instance::launch(rig.spec, std::move(world), [&](InstanceId, InstanceEvent const& event) {
        if (std::holds_alternative<event::BecameReady>(event)) running->kill_tree();
        if (std::holds_alternative<event::TreeEnded>(event)) gone.set();
      }));
  running = instance.get();
  bool const ended = co_await gone.wait_for(kPatience);
  EXPECT_TRUE(ended);
  co_await instance->close();
}

}  // namespace
}  // namespace aether::supervise
