// SPDX-License-Identifier: Apache-2.0
// An instance's start, readiness and end, with real processes. Output: instance_output_test.cc.
#include "supervise/instance.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/signals.h"
#include "supervise/hook.h"
#include "supervise/instance_rig.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

// ---- start

CORO_TEST(Instance, TellsThatACommandDoesNotExist) {
  InstanceRig rig(loop);
  auto const missing = rig.try_launch({"no-such-command-anywhere"});
  CO_ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code(), ErrorCode::CommandNotFound);
  auto const folder = rig.try_launch({"/tmp"});
  CO_ASSERT_FALSE(folder.has_value());
  EXPECT_EQ(folder.error().code(), ErrorCode::CommandNotExecutable);
  EXPECT_FALSE(::access(rig.file("notify-1.sock").c_str(), F_OK) == 0) << "a socket was left";
  EXPECT_EQ(rig.known.size(), 0U);
  co_return;
}

CORO_TEST(Instance, RefusesARuntimeFolderThatIsTooLongForASocket) {
  InstanceRig rig(loop);
  rig.spec.runtime_dir = std::string(120, 'x');
  auto const result = rig.try_launch({"true"});
  CO_ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code(), ErrorCode::AddressInvalid);
  co_return;
}

CORO_TEST(Instance, GivesTheChildItsDescriptorsAndNothingElse) {
  InstanceRig rig(loop);
  rig.spec.ready = config::ReadyDelay{1h};
  rig.listen();
  rig.listen();
  auto const instance = rig.python(
      "say(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])\n"
      "say(os.environ['LISTEN_FDS'], os.environ['LISTEN_PID'] == str(os.getpid()))\n"
      "say([socket.socket(fileno=fd).getsockname()[1] for fd in (3, 4)])\n"
      "say(signal.pthread_sigmask(signal.SIG_BLOCK, []))\n");
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  CO_ASSERT_EQ(rig.lines().size(), 4U) << fmt::format("{}", fmt::join(rig.lines(), "\n"));
  EXPECT_EQ(rig.lines()[0], "[0, 1, 2, 3, 4]");
  EXPECT_EQ(rig.lines()[1], "2 True");
  EXPECT_EQ(rig.lines()[2], fmt::format("[{}, {}]", rig.spec.listeners[0].address.port,
                                        rig.spec.listeners[1].address.port));
  EXPECT_EQ(rig.lines()[3], "set()");
  co_await instance->close();
}

// ---- readiness

char const* const kAsyncioServer =
    "import asyncio\n"
    "async def serve(reader, writer):\n"
    "    writer.close()\n"
    "async def main():\n"
    "    server = await asyncio.start_server(serve, sock=socket.socket(fileno=3))\n"
    "    async with server:\n"
    "        await server.serve_forever()\n"
    "asyncio.run(main())\n";
char const* const kThreadingServer =
    "from http.server import *\n"
    "server = ThreadingHTTPServer(('127.0.0.1', 0), SimpleHTTPRequestHandler, False)\n"
    "server.socket = socket.socket(fileno=3)\n"
    "server.serve_forever()\n";
char const* const kAcceptingServer =
    "listener = socket.socket(fileno=3)\n"
    "while True:\n"
    "    connection, _ = listener.accept()\n";

CORO_TEST(Instance, SeesThatStockServersListen) {
  for (char const* server : {kAsyncioServer, kThreadingServer, kAcceptingServer}) {
    InstanceRig rig(loop);
    rig.spec.ready = config::ReadyAuto{};
    rig.listen();
    auto const instance = rig.python(server);
    auto const ready = co_await rig.wait<event::BecameReady>();
    CO_ASSERT_TRUE(ready.has_value()) << server;
    EXPECT_EQ(ready->how, ReadyBy::Listening);
    co_await instance->close();
  }
}

CORO_TEST(Instance, WaitsUntilEveryListenerIsWaitedFor) {
  InstanceRig rig(loop);
  rig.spec.ready = config::ReadyListening{};
  rig.listen();
  rig.listen();
  auto const instance = rig.python(
      "import threading\n"
      "threading.Thread(target=lambda: socket.socket(fileno=3).accept()).start()\n"
      "say('one')\n"
      "wait_for_usr1()\n"
      "socket.socket(fileno=4).accept()\n");
  bool const one = co_await rig.wait_line("one");
  CO_ASSERT_TRUE(one);
  co_await async::sleep_for(150ms);
  EXPECT_FALSE(instance->is_ready());
  instance->signal_main(SIGUSR1);
  auto const ready = co_await rig.wait<event::BecameReady>();
  EXPECT_TRUE(ready.has_value());
  co_await instance->close();
}

CORO_TEST(Instance, SeesAServerBehindAShell) {
  InstanceRig rig(loop);
  rig.spec.ready = config::ReadyAuto{};
  rig.listen();
  std::string const code = InstanceRig::kPythonPrelude + kAcceptingServer;
  auto const instance = rig.launch({"/bin/sh", "-c", "python3 -c \"$0\"; true", code});
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(instance->tree().size(), 2U);
  for (pid_t const pid : instance->tree()) EXPECT_TRUE(instance->owns(pid));
  EXPECT_FALSE(instance->owns(::getpid()));
  co_await instance->close();
}

CORO_TEST(Instance, TakesReadyFromAGrandchild) {
  InstanceRig rig(loop);
  auto const instance = rig.python(
      "if os.fork() == 0:\n"
      "    os.setsid()\n"
      "    if os.fork() == 0:\n"
      "        notify(b'RELOADING=1\\nMONOTONIC_USEC=5')\n"
      "        notify(b'READY=1\\nSTATUS=born late')\n"
      "    os._exit(0)\n"
      "time.sleep(1000)\n");
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::Notify);
  EXPECT_NE(rig.seen<event::Reloading>(), nullptr);
  EXPECT_EQ(instance->status_text(), "born late");
  co_await instance->close();
}

CORO_TEST(Instance, ClosesABarrierAfterWhatWasSaidBeforeIt) {
  InstanceRig rig(loop);
  auto const instance = rig.python(
      "ours, theirs = os.pipe()\n"
      "notify(b'STATUS=first')\n"
      "notify(b'READY=1')\n"
      "notify(b'BARRIER=1', [theirs])\n"
      "os.close(theirs)\n"
      "os.read(ours, 1)\n"
      "say('released')\n"
      "time.sleep(1000)\n");
  bool const released = co_await rig.wait_line("released");
  EXPECT_TRUE(released);
  EXPECT_TRUE(instance->is_ready());
  EXPECT_EQ(instance->status_text(), "first");
  co_await instance->close();
}

CORO_TEST(Instance, SurvivesWhateverIsSentToItsSocket) {
  InstanceRig rig(loop);
  auto const instance = rig.python(
      "notify(b'')\n"
      "notify(b'\\0\\0READY\\0=1')\n"
      "notify(os.urandom(65000))\n"
      "notify(b'READY=1\\n' + b'x' * 100000)\n"  // Too long: dropped whole.
      "for i in range(1000): notify(b'STATUS=%d' % i)\n"
      "say('said')\n"
      "wait_for_usr1()\n"
      "notify((b'X=' + b'y' * 65528)[:65528] + b'\\nREADY=1')\n"
      "time.sleep(1000)\n");
  bool const said = co_await rig.wait_line("said");
  CO_ASSERT_TRUE(said);
  EXPECT_FALSE(instance->is_ready());
  EXPECT_EQ(instance->counters().notify_dropped, 1U);
  co_await async::sleep_for(100ms);
  instance->signal_main(SIGUSR1);
  auto const ready = co_await rig.wait<event::BecameReady>();
  EXPECT_TRUE(ready.has_value());
  EXPECT_EQ(instance->status_text(), "999");
  co_await instance->close();
}

CORO_TEST(Instance, RefusesStoredDescriptorsAndSaysSo) {
  InstanceRig rig(loop);
  auto const instance = rig.python(
      "ours, theirs = os.pipe()\n"
      "notify(b'FDSTORE=1\\nFDNAME=x', [theirs])\n"
      "os.close(theirs)\n"
      "os.read(ours, 1)\n"
      "notify(b'READY=1')\n"
      "time.sleep(1000)\n");
  auto const ready = co_await rig.wait<event::BecameReady>();
  EXPECT_TRUE(ready.has_value());
  EXPECT_EQ(instance->counters().fds_refused, 1U);
  co_await instance->close();
}

CORO_TEST(Instance, BelievesTheSdk) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("exec sleep 1000");
  instance->mark_ready_by_sdk();
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::Sdk);
  co_await instance->close();
}

CORO_TEST(Instance, AsksAProbeUntilItIsHealthy) {
  InstanceRig rig(loop);
  std::string const sign = rig.file("sign");
  rig.spec.ready = config::ReadyCommand{{"test", "-e", sign}};
  auto const instance =
      rig.launch({"/bin/sh", "-c", "sleep 0.2; : > \"$0\"; exec sleep 1000", sign});
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::Probe);
  EXPECT_GE(ready->after, 200ms);
  co_await instance->close();
}

CORO_TEST(Instance, DoesNotTakeTheKernelsQueueForAnAnswer) {
  InstanceRig rig(loop);
  std::uint16_t const port = rig.listen();
  rig.spec.ready = config::ReadyTcp{fmt::format("127.0.0.1:{}", port)};
  auto const instance = rig.python(
      "say('up')\n"
      "wait_for_usr1()\n" +
      std::string(kAcceptingServer));
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  co_await async::sleep_for(200ms);
  EXPECT_FALSE(instance->is_ready());
  instance->signal_main(SIGUSR1);
  auto const ready = co_await rig.wait<event::BecameReady>();
  EXPECT_TRUE(ready.has_value());
  co_await instance->close();
}

CORO_TEST(Instance, KillsTheWholeTreeOfWhatIsNotReadyInTime) {
  InstanceRig rig(loop);
  rig.spec.ready_timeout = 300ms;
  auto const instance = rig.shell(
      "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; (sleep 1000 & echo $!) ; wait; sleep "
      "1000");
  auto const timed_out = co_await rig.wait<event::ReadyTimedOut>();
  CO_ASSERT_TRUE(timed_out.has_value());
  EXPECT_THAT(timed_out->hint, HasSubstr("READY=1"));
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(exited->cause, EndCause::ReadyTimeout);
  EXPECT_EQ(exited->status.signal, SIGKILL);
  auto const ended = co_await rig.wait<event::TreeEnded>();
  CO_ASSERT_TRUE(ended.has_value());
  CO_ASSERT_EQ(rig.lines().size(), 3U);
  for (std::string const& line : rig.lines()) {
    auto const process = os::read_process(static_cast<pid_t>(std::stoi(line)));
    EXPECT_TRUE(!process || process->ended()) << line;
  }
  co_await instance->close();
}

CORO_TEST(Instance, NamesThePortThatAProgramOpenedByItself) {
  InstanceRig rig(loop);
  rig.spec.ready = config::ReadyAuto{};
  rig.spec.ready_timeout = 1s;
  rig.listen();
  auto const instance = rig.python(
      "mine = socket.create_server(('127.0.0.1', 0))\n"
      "say(mine.getsockname()[1])\n"
      "mine.accept()\n");
  auto const late = co_await rig.wait<event::ReadyTimedOut>();
  CO_ASSERT_TRUE(late.has_value());
  EXPECT_THAT(late->hint, HasSubstr("127.0.0.1:" + rig.lines().at(0)));
  EXPECT_THAT(late->hint, HasSubstr("listen: none"));
  co_await instance->close();
}

CORO_TEST(Instance, HearsAProcessOfItsTreeThatBecameAnotherUser) {
  if (::geteuid() != 0) {
    CO_SKIP() << "needs root, to start a child that becomes another user";
  }
  InstanceRig rig(loop);
  ::chmod(rig.spec.runtime_dir.c_str(), 0711);
  auto const instance = rig.python(
      "if os.fork() == 0:\n"
      "    os.setgroups([])\n"
      "    os.setgid(65534)\n"
      "    os.setuid(65534)\n"
      "    notify(b'READY=1')\n"
      "time.sleep(1000)\n");
  auto const ready = co_await rig.wait<event::BecameReady>();
  EXPECT_TRUE(ready.has_value());
  co_await instance->close();
}

CORO_TEST(Instance, RunsAsTheUserItIsTold) {
  if (::geteuid() != 0) {
    CO_SKIP() << "needs root, to become another user";
  }
  InstanceRig rig(loop);
  ::chmod(rig.spec.runtime_dir.c_str(), 0711);
  rig.spec.user = "nobody";
  auto const instance = rig.python("say(os.getuid(), os.environ['USER'])\nnotify(b'READY=1')\n");
  auto const ready = co_await rig.wait<event::BecameReady>();
  EXPECT_TRUE(ready.has_value());
  bool const said = co_await rig.wait_line("65534 nobody");
  EXPECT_TRUE(said);
  co_await instance->close();
}

CORO_TEST(Instance, DoesNotHearAStranger) {
  if (::geteuid() != 0) {
    CO_SKIP() << "needs root, to be a stranger";
  }
  InstanceRig rig(loop);
  ::chmod(rig.spec.runtime_dir.c_str(), 0711);
  auto const instance = rig.shell("exec sleep 1000");
  HookSpec stranger{
      .name = "stranger",
      .command = {"/usr/bin/python3", "-c", InstanceRig::kPythonPrelude + "notify(b'READY=1')\n"},
      .environment = own_environment(),
      .user = "nobody"};
  stranger.environment.push_back("NOTIFY_SOCKET=" + rig.file("notify-1.sock"));
  HookResult const sent = co_await run_hook(loop.clock(), std::move(stranger));
  EXPECT_TRUE(sent.succeeded()) << fmt::format("{}", fmt::join(sent.last_lines, "\n"));
  while (instance->counters().notify_dropped == 0) co_await async::sleep_for(1ms);
  EXPECT_FALSE(instance->is_ready());
  co_await instance->close();
}

// ---- end

CORO_TEST(Instance, ReportsExitCodesAndSignals) {
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

CORO_TEST(Instance, StopsAWillingProgramAtOnce) {
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

CORO_TEST(Instance, KillsWhatIgnoresItsStopSignal) {
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

CORO_TEST(Instance, StopsAProgramThatIsStopped) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done");
  bool const up = co_await rig.wait_line("up");
  CO_ASSERT_TRUE(up);
  instance->signal_main(SIGSTOP);
  auto const status = co_await instance->stop(SIGTERM, 30s);
  EXPECT_EQ(status.code, 5);
  co_await instance->close();
}

CORO_TEST(Instance, KillsAStoppedProgramThatIgnoresItsStopSignal) {
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

CORO_TEST(Instance, LetsTheServerBehindAShellEndItsWork) {
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

CORO_TEST(Instance, KillsTheTreeAtOnceWhenAskedTo) {
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

CORO_TEST(Instance, LeavesNothingOfItsTreeWhenClosed) {
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

CORO_TEST(Instance, EndsWhatACrashLeavesBehind) {
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

CORO_TEST(Instance, HearsWhatWasSaidRightBeforeTheEnd) {
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

CORO_TEST(Instance, FollowsItsNewMainProcess) {
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

CORO_TEST(Instance, DoesNotFollowAStrangerNamedAsMainProcess) {
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

CORO_TEST(Instance, EndsWhatItsWatchdogDoesNotHear) {
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

CORO_TEST(Instance, MayBeAskedToEndFromWithinItsOwnEvents) {
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

CORO_TEST(Instance, HoldsItsLimitsOrNamesThoseItCannot) {
  InstanceRig rig(loop);
  rig.spec.limits.open_files = 64;
  rig.spec.limits.core_size = 0;
  auto const instance = rig.shell("ulimit -n; ulimit -c");
  auto const exited = co_await rig.wait<event::Exited>();
  CO_ASSERT_TRUE(exited.has_value());
  EXPECT_EQ(rig.lines(), (std::vector<std::string>{"64", "0"}));
  co_await instance->close();
}

}  // namespace
}  // namespace aether::supervise
