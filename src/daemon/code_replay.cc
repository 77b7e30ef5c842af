// SPDX-License-Identifier: Apache-2.0
#include "daemon/code_replay.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "async/event.h"
#include "async/task_group.h"
#include "async/timers.h"
#include "base/json.h"
#include "daemon/work_line.h"
#include "functions/handler_hooks.h"
#include "jobs/agent.h"
#include "jobs/code_driver.h"
#include "os/process.h"
#include "supervise/environment.h"

namespace aether::daemon {
namespace {

namespace json = boost::json;

constexpr Duration kPatience = std::chrono::seconds(60);
constexpr Duration kReplayEnd = std::chrono::seconds(5);
constexpr int kLineFd = 3;
constexpr char const* kToken = "replay";

/// Gives one run to one worker, and answers from its record.
class ReplayPlane final : public api::WorkPlane {
 public:
  explicit ReplayPlane(jobs::RunState state) : state_(std::move(state)), recorded_(state_) {
    // As it was before its end: what was asked for then is asked again.
    state_.closing.reset();
    state_.stuck.clear();
    state_.paused = false;
    state_.cancel_requested = false;
  }

  async::Task<std::vector<jobs::ClaimedRun>> claim(jobs::WorkClaim /*claim*/,
                                                   Duration wait) override {
    std::vector<jobs::ClaimedRun> runs;
    if (!std::exchange(is_given_, true)) {
      jobs::RunSpec const& spec = state_.opening.spec;
      runs.push_back({.run = state_.id,
                      .token = kToken,
                      .fence = state_.fence,
                      .lease = kPatience,
                      .agent = jobs::code_agent(spec),
                      .name = spec.name,
                      .space = spec.space,
                      .input = spec.input,
                      .steps = state_.steps.size()});
    } else {
      co_await async::sleep_for(wait);
    }
    co_return runs;
  }

  async::Task<jobs::WorkAnswers> work(jobs::RunId /*run*/, std::string /*token*/,
                                      std::vector<jobs::WorkMessage> messages) override {
    std::uint64_t const frame = ++frames_;
    jobs::WorkAnswers answers(messages.size(),
                              jobs::give_back(jobs::GiveBack::Released, "the record ends here"));
    for (std::size_t i = 0; i < messages.size(); ++i) {
      if (messages[i].verb == jobs::WorkVerb::StepBegin) ++asked_;
      if (messages[i].verb == jobs::WorkVerb::Call || messages[i].verb == jobs::WorkVerb::Wait)
        ++asked_;
      driver_.ask({.frame = frame, .index = i}, std::move(messages[i]));
    }
    for (jobs::Decision const& decision : driver_.decide(state_)) look_at(decision);
    for (jobs::WorkAnswer& answer : driver_.answers(state_)) take(std::move(answer), answers);
    driver_.forget(frame);
    bool const is_over = is_over_ || std::ranges::any_of(answers, jobs::is_give_back);
    if (is_over) over.set();
    co_return answers;
  }

  [[nodiscard]] Result<json::value> agent(std::string_view name) const override {
    return json::object{{"name", name}, {"code", true}};
  }

  [[nodiscard]] json::value report() const {
    std::string difference = difference_;
    bool const has_end = recorded_.closing.has_value();
    if (difference.empty() && has_end && !output_)
      difference = "the record has an end, and the code does not come to it now";
    if (difference.empty() && output_ &&
        canonical_json(*output_) != canonical_json(recorded_.closing->output))
      difference = "the output is not the one that is recorded";
    return json::object{
        {"id", recorded_.id.text},
        {"status", jobs::text_of(recorded_.status())},
        {"calls", 0},
        {"events", recorded_.sequence},
        {"decisions", asked_},
        {"copied", 0},
        {"equal", difference.empty()},
        {"difference", difference.empty() ? json::value() : json::value(difference)},
        {"output", output_ ? *output_ : json::value()}};
  }

  async::Event over;

 private:
  void look_at(jobs::Decision const& decision) {
    if (auto const* const diverged = std::get_if<jobs::Diverged>(&decision)) {
      difference_ = diverged->message;
      is_over_ = true;
    }
    auto const* const end = std::get_if<jobs::EndRun>(&decision);
    if (end == nullptr) return;
    is_over_ = true;
    if (recorded_.closing && recorded_.closing->outcome == end->outcome) output_ = end->output;
  }
  /// What would be done now is not in the record.
  static void take(jobs::WorkAnswer answer, jobs::WorkAnswers& answers) {
    auto const* const is = answer.body.if_contains("is");
    bool const is_said = is != nullptr && is->is_string() &&
                         (is->get_string() == "recorded" || is->get_string() == "held");
    if (is_said) answers[answer.place.index] = std::move(answer.body);
  }

  jobs::RunState state_, recorded_;
  jobs::CodeDriver driver_;
  std::string difference_;
  std::optional<json::value> output_;
  std::uint64_t frames_ = 0, asked_ = 0;
  bool is_given_ = false, is_over_ = false;
};

Result<os::Child> start_program(config::Agent const& agent, int line) {
  os::SpawnSpec spec;
  spec.argv = agent.command;
  std::string const sdk = functions::find_sdk_folder();
  for (std::string const& one : supervise::own_environment()) {
    bool const is_ours = one.starts_with("AETHER_") || one.starts_with("NOTIFY_");
    if (!is_ours) spec.environment.push_back(one);
  }
  spec.environment.push_back(fmt::format("PYTHONPATH={}/python", sdk));
  spec.environment.push_back(fmt::format("NODE_PATH={}/node", sdk));
  for (auto const& [name, value] : agent.env) spec.environment.push_back(name + "=" + value);
  spec.environment.push_back(fmt::format("AETHER_WORK_FD={}", kLineFd));
  spec.fds = {{.source = line, .target = kLineFd}};
  spec.workdir = agent.workdir;
  return os::spawn(spec);
}

}  // namespace

async::Task<json::value> replay_program(ReplayedProgram asked, Clock const* clock) {
  async::Executor const executor = co_await async::this_executor;
  ReplayPlane plane(std::move(asked.state));
  LineEnds ends = or_throw(open_line_ends());
  os::Child child = or_throw(start_program(asked.agent, ends.theirs.get()));
  ends.theirs.reset();
  WorkLine line(executor, asked.agent.name + " (replay)", std::move(ends.ours), plane, *clock);
  async::TaskGroup tasks(executor, "replay");
  tasks.spawn("line", line.serve());
  bool const over = co_await plane.over.wait_for(kPatience);
  (void)child.signal(SIGKILL);
  co_await async::ignore_cancellation();
  async::Task<std::vector<std::string>> stopping = tasks.stop(kReplayEnd);
  co_await std::move(stopping);
  co_await async::heed_cancellation();
  for (int looks = 0; looks < 100; ++looks) {
    auto const status = child.try_reap();
    if (!status || *status) break;
    co_await async::sleep_for(std::chrono::milliseconds(10));
  }
  if (!over) {
    throw Error(ErrorCode::Timeout,
                fmt::format("replaying with {}: its program neither asked for all that is recorded "
                            "nor came to its end in 60 s",
                            asked.agent.name));
  }
  co_return plane.report();
}

}  // namespace aether::daemon
