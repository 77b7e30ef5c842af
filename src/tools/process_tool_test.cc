// SPDX-License-Identifier: Apache-2.0
#include "tools/process_tool.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "async/task_group.h"
#include "base/fault.h"
#include "os/proc.h"
#include "os/temp_dir.h"
#include "tools/testing.h"

namespace aether::tools {
namespace {

using namespace testing;
using std::chrono::milliseconds;

SystemClock const kClock;

std::unique_ptr<Tool> shell_tool() {
  return make_process_tool(kClock, {.environment = {"PATH=/usr/bin:/bin"}});
}
boost::json::object shell(std::string_view script) {
  return {{"command", {"sh", "-c", script}}};
}
std::string written(std::filesystem::path const& file) {
  std::ifstream in(file);
  std::string text;
  std::getline(in, text);
  return text;
}

TEST(ProcessToolCheck, NamesTheMemberThatIsWrong) {
  auto const tool = make_process_tool(kClock, {.commands = {"git"}});
  auto const refused = [&](std::string_view args) {
    Status const status = tool->check(value_of(args));
    return status ? std::string() : status.error().message();
  };
  EXPECT_EQ(refused(R"({"command":["git","status"],"timeout":"5s"})"), "");
  EXPECT_NE(refused("{}").find("command is missing"), std::string::npos);
  EXPECT_NE(refused(R"({"command":"git"})").find("command is not a list"), std::string::npos);
  EXPECT_NE(refused(R"({"command":["rm"]})").find("`commands` do not allow"), std::string::npos);
  EXPECT_NE(refused(R"({"command":["git"],"timeout":"5"})").find("timeout"), std::string::npos);
  EXPECT_NE(refused(R"({"command":["git"],"env":{"A=B":"c"}})").find("env.A=B"), std::string::npos);
  EXPECT_NE(refused(R"({"command":["git"],"shell":true})").find("shell is no argument"),
            std::string::npos);
}

CORO_TEST(ProcessTool, BringsJsonAsAValueAndTextAsText) {
  auto const tool = shell_tool();
  auto args = shell(
      "read line; echo \"{\\\"got\\\":$line,\\\"key\\\":\\\"$AETHER_IDEMPOTENCY_KEY\\\"}\"; "
      "echo $WORD >&2");
  args["stdin"] = {{"a", 1}};
  args["env"] = {{"WORD", "aside"}};
  CallResult const result = co_await tool->call(call_with(args));
  EXPECT_EQ(result.outcome, EffectOutcome::Ok) << result.error;
  EXPECT_EQ(result.result.at("exit"), 0);
  EXPECT_EQ(result.result.at("stdout").at("key"), "key-1");
  EXPECT_EQ(result.result.at("stdout").at("got").at("a"), 1);
  EXPECT_EQ(result.result.at("stderr"), "aside\n");
  CallResult const text = co_await tool->call(call_with(shell("echo two words; pwd")));
  EXPECT_TRUE(text.result.at("stdout").is_string());
}

CORO_TEST(ProcessTool, TellsAnExitAsANoAndASignalAsUnknown) {
  auto const tool = shell_tool();
  CallResult const no = co_await tool->call(call_with(shell("echo why >&2; exit 3")));
  EXPECT_EQ(no.outcome, EffectOutcome::Error);
  EXPECT_EQ(no.result.at("exit"), 3);
  EXPECT_NE(no.error.find("why"), std::string::npos);
  CallResult const killed = co_await tool->call(call_with(shell("kill -9 $$")));
  EXPECT_EQ(killed.outcome, EffectOutcome::Unknown);
  EXPECT_EQ(killed.result.at("signal"), "SIGKILL");
}

CORO_TEST(ProcessTool, ProvesThatWhatCannotBeStartedDidNothing) {
  auto const tool = shell_tool();
  CallResult const result = co_await tool->call(call_with({{"command", {"/nonexistent/program"}}}));
  EXPECT_EQ(result.outcome, EffectOutcome::NotExecuted);
  EXPECT_FALSE(result.retryable);
  EXPECT_NE(result.error.find("/nonexistent/program"), std::string::npos);
}

CORO_TEST(ProcessTool, KillsAllThatWasStartedAtTheTimeout) {
  os::TempDir const dir = os::TempDir::create("aether-tools").value();
  auto const file = std::filesystem::path(dir.path()) / "pid";
  auto const tool = shell_tool();
  // The grandchild leaves the session and the line of parents.
  auto args =
      shell("setsid sh -c 'echo $$ > pid.new; mv pid.new pid; exec sleep 1000' & sleep 1000");
  args["cwd"] = std::string(dir.path());
  args["timeout"] = "2s";
  CallResult const result = co_await tool->call(call_with(args));
  EXPECT_EQ(result.outcome, EffectOutcome::Unknown);
  EXPECT_NE(result.error.find("2s"), std::string::npos);
  std::string const pid = written(file);
  CO_ASSERT_FALSE(pid.empty());
  auto const left = os::read_process(std::stoi(pid));
  EXPECT_TRUE(!left || left->state == 'Z');
}

CORO_TEST(ProcessTool, KillsItWhenItIsCancelledAndSaysThatNobodyKnows) {
  os::TempDir const dir = os::TempDir::create("aether-tools").value();
  auto const file = std::filesystem::path(dir.path()) / "pid";
  auto const tool = shell_tool();
  auto args = shell("echo $$ > pid.new; mv pid.new pid; exec sleep 1000");
  args["cwd"] = std::string(dir.path());
  async::TaskGroup group(loop.executor(), "calls");
  Outcome outcome;
  group.spawn("call", call_into(tool.get(), call_with(args), &outcome));
  while (!std::filesystem::exists(file)) co_await async::sleep_for(milliseconds(2));
  group.cancel();
  co_await outcome.ended.wait();
  EXPECT_EQ(outcome.result.outcome, EffectOutcome::Unknown);
  EXPECT_NE(outcome.result.error.find("cancelled"), std::string::npos);
  EXPECT_FALSE(os::read_process(std::stoi(written(file))).has_value());
  co_await group.stop(kPatience);
}

CORO_TEST(ProcessTool, KeepsTheBeginningOfALongOutputAndReadsItAll) {
  auto const tool = shell_tool();
  CallResult const result =
      co_await tool->call(call_with(shell("head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2")));
  EXPECT_EQ(result.outcome, EffectOutcome::Ok) << result.error;
  EXPECT_EQ(result.result.at("stdout").as_string().size(), kStdoutBytesMax);
  EXPECT_EQ(result.result.at("truncated"), true);
  EXPECT_EQ(result.result.at("stderr"), "end\n");
}

CORO_TEST(ProcessTool, TellsTheTruthAtEachOfItsFaultPoints) {
  auto const tool = shell_tool();
  EXPECT_TRUE(fault::configure("tools.spawn:1:eio").has_value());
  CallResult const before = co_await tool->call(call_with(shell("true")));
  EXPECT_EQ(before.outcome, EffectOutcome::NotExecuted);
  for (std::string_view const fault : {"tools.spawned:1:eio", "tools.ended:1:eio"}) {
    EXPECT_TRUE(fault::configure(fault).has_value());
    CallResult const after = co_await tool->call(call_with(shell("true")));
    EXPECT_EQ(after.outcome, EffectOutcome::Unknown) << fault;
  }
  EXPECT_TRUE(fault::configure("").has_value());
}

}  // namespace
}  // namespace aether::tools
