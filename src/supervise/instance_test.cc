// SPDX-License-Identifier: Apache-2.0
// An instance's start: what the child is given, and who may speak for it.
#include "supervise/instance.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/signals.h"
#include "supervise/hook.h"
#include "supervise/instance_rig.h"
#include "supervise/tree.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

CORO_TEST(Instance, TellsThatACommandDoesNotExist) {
  InstanceRig rig(loop);
  auto const missing = rig.try_launch({"no-such-command-anywhere"});
  CO_ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code(), ErrorCode::CommandNotFound);
  auto const folder = rig.try_launch({"/tmp"});
  CO_ASSERT_FALSE(folder.has_value());
  EXPECT_EQ(folder.error().code(), ErrorCode::CommandNotExecutable);
  EXPECT_TRUE(std::filesystem::is_empty(rig.spec.runtime_dir)) << "a socket was left";
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
  stranger.environment.push_back("NOTIFY_SOCKET=" + rig.file("notify-1-" + own_tag()));
  HookResult const sent = co_await run_hook(loop.clock(), std::move(stranger));
  EXPECT_TRUE(sent.succeeded()) << fmt::format("{}", fmt::join(sent.last_lines, "\n"));
  while (instance->counters().notify_dropped == 0) co_await async::sleep_for(1ms);
  EXPECT_FALSE(instance->is_ready());
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
