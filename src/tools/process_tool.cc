// SPDX-License-Identifier: Apache-2.0
#include "tools/process_tool.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <span>
#include <utility>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "async/task_group.h"
#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"
#include "os/memfd.h"
#include "supervise/printable.h"
#include "supervise/tree.h"
#include "tools/arguments.h"
#include "tools/process_output.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

/// After SIGKILL only a process that is stuck in the kernel needs longer.
constexpr Duration kKillPatience = std::chrono::seconds(5);
constexpr Duration kTreePoll = std::chrono::milliseconds(5);
constexpr std::string_view kKeyVariable = "AETHER_IDEMPOTENCY_KEY";

constexpr std::string_view kProcessSchema = R"({"type":"object","required":["command"],
"additionalProperties":false,"properties":{
"command":{"type":"array","items":{"type":"string"},"description":"program and arguments"},
"stdin":{"description":"a string as it is, any other value as JSON"},
"env":{"type":"object","additionalProperties":{"type":"string"}},
"cwd":{"type":"string"},
"timeout":{"type":"string","description":"such as 30s; then all of it is killed"}}})";

struct ProcessPlan {
  os::SpawnSpec spawn;
  std::string input;
  std::optional<Duration> timeout;
};

bool is_variable(std::string_view name) {
  return !name.empty() && !name.contains('=') && !name.contains('\0') && name != kKeyVariable;
}

void set_variable(std::vector<std::string>& environment, std::string_view name,
                  std::string_view value) {
  std::string const start = fmt::format("{}=", name);
  std::erase_if(environment, [&](std::string const& each) { return each.starts_with(start); });
  environment.push_back(start + std::string(value));
}

Result<ProcessPlan> read_process_plan(ProcessOptions const& options, json::value const& given) {
  Arguments args(given, "process");
  args.only({"command", "stdin", "env", "cwd", "timeout"});
  ProcessPlan plan;
  plan.spawn.argv = args.texts("command");
  if (plan.spawn.argv.empty() || plan.spawn.argv[0].empty())
    args.refuse("command", "is missing: a list of the program and its arguments");
  auto const has_nul = [](std::string const& text) { return text.contains('\0'); };
  if (std::ranges::any_of(plan.spawn.argv, has_nul)) args.refuse("command", "has a NUL in it");
  bool const allowed =
      options.commands.empty() || plan.spawn.argv.empty() ||
      std::ranges::find(options.commands, plan.spawn.argv[0]) != options.commands.end();
  if (!allowed) {
    args.refuse("command", fmt::format("names {}, which the tool's `commands` do not allow",
                                       plan.spawn.argv[0]));
  }
  plan.spawn.environment = options.environment;
  for (auto const& [name, value] : args.pairs("env")) {
    if (!is_variable(name) || value.contains('\0'))
      args.refuse(fmt::format("env.{}", name), "cannot be set");
    set_variable(plan.spawn.environment, name, value);
  }
  plan.spawn.workdir = args.text("cwd");
  if (plan.spawn.workdir.contains('\0')) args.refuse("cwd", "has a NUL in it");
  plan.timeout = args.duration("timeout");
  plan.input = body_bytes(args.find("stdin"));
  TRY(args.status());
  return plan;
}

/// A started program. Its output is read in a TaskGroup while its end is awaited.
struct ProcessRun {
  std::optional<supervise::Tree> tree;
  ProcessOutput out{kStdoutBytesMax};
  ProcessOutput err{kStderrBytesMax};

  Status start(ProcessPlan& plan, supervise::KnownChildren* known);
};

Status ProcessRun::start(ProcessPlan& plan, supervise::KnownChildren* known) {
  static std::atomic<std::uint64_t> count{0};
  TRY(fault::pass(fault::Point::ToolsSpawn));
  // A file and not a pipe: the program reads at its own pace, and nobody has to wait for it.
  TRY_ASSIGN(os::Memfd input, os::Memfd::create("aether-stdin", plan.input.size()));
  TRY(input.write(0, std::as_bytes(std::span(plan.input))));
  TRY_ASSIGN(os::UniqueFd const out_end, out.open());
  TRY_ASSIGN(os::UniqueFd const err_end, err.open());
  plan.spawn.fds = {{input.fd(), 0}, {out_end.get(), 1}, {err_end.get(), 2}};
  std::string const id = fmt::format("{}-{}", supervise::own_tag(), ++count);
  std::string mark = fmt::format("AETHER_TOOL_ID={}", id);
  plan.spawn.environment.push_back(mark);
  TRY_ASSIGN(supervise::Tree started,
             supervise::Tree::start(plan.spawn, "aether-tool-" + id, std::move(mark), known));
  tree.emplace(std::move(started));
  return {};
}

async::Task<void> end_whole_tree(supervise::Tree* tree, Clock const* clock) {
  Instant const give_up = clock->now() + kKillPatience;
  while (!tree->is_empty()) {
    tree->kill_all();
    if (clock->now() > give_up) {
      log::error("a tool's processes do not end, not even by SIGKILL: is a disk or network hung?");
      co_return;
    }
    co_await async::sleep_for(kTreePoll);
  }
}

enum class ProcessEnd : std::uint8_t { Itself, TimedOut, Cancelled, Fault };

/// Waits for the end, and sees to it that nothing lives afterwards. It can be cancelled while the
/// program runs, and not while it is cleaned up.
async::Task<std::optional<os::ExitStatus>> finish(ProcessRun* run, Duration timeout,
                                                  Clock const* clock, ProcessEnd* how) {
  supervise::Tree& tree = *run->tree;
  bool const throws = co_await boost::asio::this_coro::throw_if_cancelled();
  try {
    or_throw(fault::pass(fault::Point::ToolsSpawned));
    bool const ended = co_await async::readable_for(tree.main().pidfd(), timeout);
    if (!ended) *how = ProcessEnd::TimedOut;
  } catch (Error const&) {
    *how = ProcessEnd::Fault;
  } catch (...) {
    if (!async::is_cancelled(std::current_exception())) throw;
    *how = ProcessEnd::Cancelled;
  }
  co_await async::ignore_cancellation();
  if (*how != ProcessEnd::Itself) {
    tree.kill_all();
    co_await async::readable_for(tree.main().pidfd(), kKillPatience);
  }
  supervise::Tree::Ended const ended = tree.reap(tree.main());
  co_await end_whole_tree(&tree, clock);
  co_await boost::asio::this_coro::throw_if_cancelled(throws);
  co_return ended.status;
}

json::value output_value(ProcessRun const& run, std::optional<os::ExitStatus> const& status) {
  json::object value;
  if (status && status->signal == 0)
    value["exit"] = status->code;
  else if (status)
    value["signal"] = os::signal_name(status->signal);
  value["stdout"] = value_of_bytes(run.out.text(), !run.out.truncated());
  value["stderr"] = value_of_bytes(run.err.text(), false);
  if (run.out.truncated() || run.err.truncated()) value["truncated"] = true;
  return value;
}

std::string last_line(std::string_view text) {
  std::size_t const end = text.find_last_not_of(" \r\n\t");
  if (end == std::string_view::npos) return {};
  text = text.substr(0, end + 1);
  std::size_t const begin = text.rfind('\n');
  std::string_view const line = text.substr(begin == std::string_view::npos ? 0 : begin + 1);
  return ": " + supervise::excerpt(supervise::printable(line, supervise::Controls::Replace));
}

CallResult judge_process(std::string const& program, ProcessRun const& run, ProcessEnd how,
                         std::optional<os::ExitStatus> const& status, Duration timeout) {
  CallResult result{.outcome = EffectOutcome::Unknown};
  result.result = output_value(run, status);
  if (how == ProcessEnd::TimedOut) {
    result.error = fmt::format(
        "{} ran for more than {} and was killed with all that it had started; what it had done by "
        "then is not known",
        program, format_duration(timeout));
  } else if (how == ProcessEnd::Cancelled) {
    result.error = fmt::format("{} was cancelled while it ran, and killed", program);
  } else if (how == ProcessEnd::Fault || !status) {
    result.error = fmt::format("{}: how it ended could not be learned", program);
  } else if (status->signal != 0) {
    result.error = fmt::format("{} {}; how far it had come is not known{}", program,
                               status->describe(), last_line(run.err.text()));
  } else if (status->code != 0) {
    result.outcome = EffectOutcome::Error;
    result.error = fmt::format("{} {}{}", program, status->describe(), last_line(run.err.text()));
  } else {
    result.outcome = EffectOutcome::Ok;
  }
  return result;
}

class ProcessTool final : public Tool {
 public:
  ProcessTool(Clock const& clock, ProcessOptions options)
      : clock_(clock), options_(std::move(options)) {}

  [[nodiscard]] std::string_view name() const override { return "process"; }
  [[nodiscard]] std::string_view description() const override {
    return "Runs one program to its end and returns its exit code and output.";
  }
  [[nodiscard]] json::value schema() const override {
    return or_throw(parse_json(kProcessSchema, "schema"));
  }
  [[nodiscard]] Status check(json::value const& args) const override {
    TRY(read_process_plan(options_, args));
    return {};
  }
  [[nodiscard]] async::Task<CallResult> call(Call call) override;

 private:
  Clock const& clock_;
  ProcessOptions options_;
};

async::Task<CallResult> ProcessTool::call(Call call) {
  auto plan = read_process_plan(options_, call.args);
  if (!plan)
    co_return CallResult{.outcome = EffectOutcome::NotExecuted, .error = plan.error().message()};
  set_variable(plan->spawn.environment, kKeyVariable, call.key);
  Duration const timeout = std::min(plan->timeout.value_or(call.timeout), call.timeout);
  ProcessRun run;
  if (auto const started = run.start(*plan, options_.known); !started) {
    Error const& error = started.error();
    co_return CallResult{
        .outcome = EffectOutcome::NotExecuted,
        .error = fmt::format("starting {}: {}", plan->spawn.argv[0], error.message()),
        .retryable = error.retry() != Retry::Never};
  }
  async::Executor const executor = co_await async::this_executor;
  async::TaskGroup reading(executor, "output of a tool");
  reading.spawn("stdout", run.out.read_all());
  reading.spawn("stderr", run.err.read_all());
  ProcessEnd how = ProcessEnd::Itself;
  bool const throws = co_await boost::asio::this_coro::throw_if_cancelled();
  async::Task<std::optional<os::ExitStatus>> ending = finish(&run, timeout, &clock_, &how);
  std::optional<os::ExitStatus> const status = co_await std::move(ending);
  co_await async::ignore_cancellation();
  co_await reading.stop(kKillPatience);
  co_await boost::asio::this_coro::throw_if_cancelled(throws);
  run.out.drain();
  run.err.drain();
  CallResult result = judge_process(plan->spawn.argv[0], run, how, status, timeout);
  if (auto const passed = fault::pass(fault::Point::ToolsEnded); !passed) {
    result.outcome = EffectOutcome::Unknown;
    result.error = passed.error().message();
  }
  co_return result;
}

}  // namespace

std::unique_ptr<Tool> make_process_tool(Clock const& clock, ProcessOptions options) {
  return std::make_unique<ProcessTool>(clock, std::move(options));
}

}  // namespace aether::tools
