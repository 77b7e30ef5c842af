// SPDX-License-Identifier: Apache-2.0
#include "supervise/hook.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <memory>

#include <fmt/format.h>

#include "async/task_group.h"
#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "supervise/log_pump.h"
#include "supervise/printable.h"
#include "supervise/tree.h"

namespace aether::supervise {
namespace {

/// After SIGKILL the kernel needs a moment; only a process stuck in the kernel needs longer.
constexpr Duration kKillPatience = std::chrono::seconds(5);
constexpr Duration kTreePoll = std::chrono::milliseconds(5);

/// What a hook writes: the last lines for the result, a bounded part for the log.
class HookOutput {
 public:
  HookOutput(std::string name, RevisionId revision, LogBook* logs)
      : name_(std::move(name)), revision_(revision), logs_(logs) {}

  void take(SplitLine line) {
    last_.push_back(printable(line.text, Controls::Keep));
    if (last_.size() > kHookLastLines) last_.pop_front();
    if (logs_ == nullptr || logged_ > kHookLogBytesMax) return;
    logged_ += line.text.size() + 1;
    if (logged_ > kHookLogBytesMax)
      log(fmt::format("(more than {} KiB of output: the rest is not kept)",
                      kHookLogBytesMax / 1024));
    else
      log(std::string(line.text), line.continues);
  }
  [[nodiscard]] std::vector<std::string> last_lines() const { return {last_.begin(), last_.end()}; }

 private:
  void log(std::string text, bool continues = false) {
    logs_->append({.revision = revision_,
                   .stream = LogStream::Hook,
                   .continues = continues,
                   .text = fmt::format("[{}] {}", name_, text)});
  }

  std::string name_;
  RevisionId revision_;
  LogBook* logs_;
  std::deque<std::string> last_;
  std::uint64_t logged_ = 0;
};

/// A running hook. In a TaskGroup of its own the output is read while the exit is awaited.
struct Run {
  Tree tree;
  HookOutput output;
  LogPump pump;

  Run(Tree started, os::UniqueFd pipe, HookSpec const& spec)
      : tree(std::move(started)),
        output(spec.name, spec.revision, spec.logs),
        pump(std::move(pipe), [this](SplitLine line) { output.take(line); }) {}
};

Result<std::unique_ptr<Run>> start(HookSpec const& spec) {
  // Hooks have no socket of their own to be told by: a number that is used once marks them.
  static std::atomic<std::uint64_t> count{0};
  std::string const id = fmt::format("{}-{}", own_tag(), ++count);
  TRY_ASSIGN(OutputPipe pipe, OutputPipe::open());
  os::SpawnSpec spawn{.argv = spec.command,
                      .environment = spec.environment,
                      .fds = {{pipe.write_end.get(), 1}, {pipe.write_end.get(), 2}},
                      .workdir = spec.workdir.value_or("")};
  std::string mark = fmt::format("AETHER_HOOK_ID={}", id);
  spawn.environment.push_back(mark);
  if (spec.user) {
    TRY_ASSIGN(spawn.user, os::find_credentials(*spec.user));
  }
  TRY_ASSIGN(Tree tree,
             Tree::start(std::move(spawn), "aether-hook-" + id, std::move(mark), spec.known));
  return std::make_unique<Run>(std::move(tree), std::move(pipe.read_end), spec);
}

/// Kills what lives of the tree until nothing does.
async::Task<void> end_tree(Tree* tree, Clock const* clock) {
  Instant const give_up = clock->now() + kKillPatience;
  while (!tree->is_empty()) {
    tree->kill_all();
    if (clock->now() > give_up) {
      log::error("a hook's processes do not end, not even by SIGKILL: is a disk or network hung?");
      co_return;
    }
    co_await async::sleep_for(kTreePoll);
  }
}

async::Task<void> run_to_end(Run* run, HookResult* result, Duration timeout, Clock const* clock) {
  int const pidfd = run->tree.main().pidfd();
  bool const ended = co_await async::readable_for(pidfd, timeout);
  result->timed_out = !ended;
  if (!ended) {
    run->tree.kill_all();
    co_await async::readable_for(pidfd, kKillPatience);
  }
  Tree::Ended const end = run->tree.reap(run->tree.main());
  result->status = end.status.value_or(os::ExitStatus{.code = 255});
  co_await end_tree(&run->tree, clock);
}

}  // namespace

HookSpec hook_spec(config::Hook const& hook) {
  return {.name = hook.name, .command = hook.command, .timeout = hook.timeout};
}

async::Task<HookResult> run_hook(Clock const& clock, HookSpec spec) {
  Instant const began = clock.now();
  HookResult result;
  auto started = start(spec);
  if (!started) {
    result.not_started = std::move(started).error();
    co_return result;
  }
  std::unique_ptr<Run> const run = std::move(*started);
  async::Executor const executor = co_await async::this_executor;
  async::TaskGroup reading(executor, "hook " + spec.name);
  reading.spawn("output", run->pump.run());
  std::exception_ptr thrown;
  try {
    co_await run_to_end(run.get(), &result, spec.timeout, &clock);
  } catch (...) {
    thrown = std::current_exception();  // Cancelled: the tree must still end before we do.
  }
  co_await async::ignore_cancellation();
  if (thrown) {
    co_await end_tree(&run->tree, &clock);
    run->tree.reap(run->tree.main());
  }
  run->pump.finish();
  co_await reading.stop(kKillPatience);
  if (thrown) std::rethrow_exception(thrown);
  result.last_lines = run->output.last_lines();
  result.output_bytes = run->pump.bytes();
  result.took = clock.now() - began;
  co_return result;
}

Status hook_status(std::string const& name, HookResult const& result) {
  if (result.succeeded()) return {};
  if (result.not_started)
    return fail(ErrorCode::HookFailed, fmt::format("the hook \"{}\" could not be started: {}", name,
                                                   result.not_started->message()));
  std::string message =
      result.timed_out
          ? fmt::format(
                "the hook \"{}\" ran for more than its timeout ({}) and was ended with all "
                "that it had started",
                name, humanize(result.took))
          : fmt::format("the hook \"{}\" {}", name, result.status.describe());
  if (!result.last_lines.empty()) message += "; its last lines of output:";
  for (std::string const& line : result.last_lines) message += "\n  " + excerpt(line);
  return fail(ErrorCode::HookFailed, std::move(message));
}

}  // namespace aether::supervise
