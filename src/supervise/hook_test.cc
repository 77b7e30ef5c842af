// SPDX-License-Identifier: Apache-2.0
#include "supervise/hook.h"

#include <signal.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "async/task_group.h"
#include "async/testing.h"
#include "async/timers.h"
#include "os/proc.h"
#include "supervise/environment.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

HookSpec shell(std::string script) {
  return {.name = "check",
          .command = {"/bin/sh", "-c", std::move(script)},
          .timeout = 30s,
          .environment = own_environment()};
}

bool is_dead(std::string const& pid) {
  auto const process = os::read_process(static_cast<pid_t>(std::stoi(pid)));
  return !process || process->ended();
}

CORO_TEST(Hook, TellsSuccessWithItsLastLines) {
  HookSpec spec = shell("echo one; echo two >&2; echo $COLOUR");
  spec.environment.push_back("COLOUR=blue");
  HookResult const result = co_await run_hook(loop.clock(), std::move(spec));
  EXPECT_TRUE(result.succeeded());
  EXPECT_EQ(result.last_lines, (std::vector<std::string>{"one", "two", "blue"}));
  EXPECT_TRUE(hook_status("check", result).has_value());
}

CORO_TEST(Hook, TellsFailureWithNameExitAndOutput) {
  HookResult const result = co_await run_hook(loop.clock(), shell("echo no database; exit 3"));
  EXPECT_FALSE(result.succeeded());
  EXPECT_EQ(result.status.code, 3);
  auto const status = hook_status("check", result);
  CO_ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code(), ErrorCode::HookFailed);
  EXPECT_THAT(status.error().message(), HasSubstr("check"));
  EXPECT_THAT(status.error().message(), HasSubstr("code 3"));
  EXPECT_THAT(status.error().message(), HasSubstr("no database"));
}

CORO_TEST(Hook, TellsThatItsCommandDoesNotExist) {
  HookSpec spec = shell("");
  spec.command = {"no-such-hook-command"};
  HookResult const result = co_await run_hook(loop.clock(), std::move(spec));
  CO_ASSERT_TRUE(result.not_started.has_value());
  EXPECT_EQ(result.not_started->code(), ErrorCode::CommandNotFound);
  EXPECT_FALSE(hook_status("check", result).has_value());
}

CORO_TEST(Hook, IsKilledWithItsTreeAtItsTimeout) {
  HookSpec spec =
      shell("sleep 1000 & echo $!; setsid sleep 1000 & echo $!; trap '' TERM; sleep 1000");
  spec.timeout = 300ms;
  Instant const began = loop.clock().now();
  HookResult const result = co_await run_hook(loop.clock(), std::move(spec));
  EXPECT_TRUE(result.timed_out);
  EXPECT_FALSE(result.succeeded());
  EXPECT_LT(loop.clock().now() - began, 20s);
  CO_ASSERT_EQ(result.last_lines.size(), 2U);
  for (std::string const& pid : result.last_lines) EXPECT_TRUE(is_dead(pid)) << pid;
  EXPECT_THAT(hook_status("check", result).error().message(), HasSubstr("timeout"));
}

CORO_TEST(Hook, LeavesNothingRunningBehindASuccess) {
  HookResult const result =
      co_await run_hook(loop.clock(), shell("setsid sleep 1000 & echo $!; sleep 1000 & echo $!"));
  EXPECT_TRUE(result.succeeded());
  EXPECT_LT(result.took, 20s);
  CO_ASSERT_EQ(result.last_lines.size(), 2U);
  for (std::string const& pid : result.last_lines) EXPECT_TRUE(is_dead(pid)) << pid;
}

CORO_TEST(Hook, BoundsAHundredMegabytesOfOutput) {
  LogBook logs("web", loop.clock());
  HookSpec spec =
      shell("yes 0123456789012345678901234567890123456789 | head -c 100000000; echo; echo end");
  spec.logs = &logs;
  HookResult const result = co_await run_hook(loop.clock(), std::move(spec));
  EXPECT_TRUE(result.succeeded());
  EXPECT_EQ(result.output_bytes, 100'000'000U + 5);
  EXPECT_EQ(result.last_lines.size(), kHookLastLines);
  EXPECT_EQ(result.last_lines.back(), "end");
  auto const lines = logs.tail(kLogLinesMax);
  EXPECT_THAT(lines.back().text, HasSubstr("the rest is not kept"));
  EXPECT_EQ(lines.back().stream, LogStream::Hook);
}

async::Task<void> run_for_ever(Clock const* clock, HookSpec spec) {
  (void)co_await run_hook(*clock, std::move(spec));
}

CORO_TEST(Hook, IsKilledWithItsTreeWhenItsTaskIsCancelled) {
  LogBook logs("web", loop.clock());
  KnownChildren known;
  HookSpec spec = shell("setsid sleep 1000 & echo $!; sleep 1000");
  spec.logs = &logs;
  spec.known = &known;
  async::TaskGroup group(loop.executor(), "hooks");
  group.spawn("hook", run_for_ever(&loop.clock(), std::move(spec)));
  async::Task<void> line = logs.changed(1);
  bool const told = co_await async::with_deadline(Duration(30s), std::move(line));
  CO_ASSERT_TRUE(told);
  EXPECT_EQ(known.size(), 1U);
  auto const left = co_await group.stop(10s);
  EXPECT_TRUE(left.empty());
  EXPECT_EQ(known.size(), 0U);
  EXPECT_TRUE(is_dead(logs.tail(1).front().text.substr(std::string("[check] ").size())));
}

}  // namespace
}  // namespace aether::supervise
