// SPDX-License-Identifier: Apache-2.0
// How an instance shows that it is ready, with real processes.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/signals.h"
#include "os/unix_socket.h"
#include "supervise/hook.h"
#include "supervise/instance.h"
#include "supervise/instance_rig.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

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

CORO_TEST(InstanceReady, SeesThatStockServersListen) {
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

CORO_TEST(InstanceReady, WaitsUntilEveryListenerIsWaitedFor) {
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

CORO_TEST(InstanceReady, SeesAServerBehindAShell) {
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

CORO_TEST(InstanceReady, TakesReadyFromAGrandchild) {
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

CORO_TEST(InstanceReady, ClosesABarrierAfterWhatWasSaidBeforeIt) {
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

CORO_TEST(InstanceReady, SurvivesWhateverIsSentToItsSocket) {
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

CORO_TEST(InstanceReady, ClosesADescriptorThatNobodyStores) {
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

CORO_TEST(InstanceReady, BelievesTheSdk) {
  InstanceRig rig(loop);
  auto const instance = rig.shell("exec sleep 1000");
  instance->mark_ready_by_sdk();
  auto const ready = co_await rig.wait<event::BecameReady>();
  CO_ASSERT_TRUE(ready.has_value());
  EXPECT_EQ(ready->how, ReadyBy::Sdk);
  co_await instance->close();
}

CORO_TEST(InstanceReady, AsksAProbeUntilItIsHealthy) {
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

CORO_TEST(InstanceReady, DoesNotTakeTheKernelsQueueForAnAnswer) {
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

CORO_TEST(InstanceReady, SaysOfAWorkerThatAskedForNoWorkWhatIsMissing) {
  InstanceRig rig(loop);
  rig.spec.ready_timeout = 100ms;
  auto const line = or_throw(os::unix_pair(os::UnixKind::Stream, os::Blocking::Yes));
  rig.spec.work_fd = line.second.get();
  auto const instance = rig.shell("sleep 1000");
  auto const timed_out = co_await rig.wait<event::ReadyTimedOut>();
  CO_ASSERT_TRUE(timed_out.has_value());
  EXPECT_THAT(timed_out->hint, HasSubstr("has not asked for work"));
  auto const ended = co_await rig.wait<event::TreeEnded>();
  EXPECT_TRUE(ended.has_value());
  co_await instance->close();
}

CORO_TEST(InstanceReady, KillsTheWholeTreeOfWhatIsNotReadyInTime) {
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

CORO_TEST(InstanceReady, NamesThePortThatAProgramOpenedByItself) {
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

}  // namespace
}  // namespace aether::supervise
