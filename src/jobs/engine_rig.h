// SPDX-License-Identifier: Apache-2.0
// An engine with a scripted driver and a tool that obeys the test. Tests only.
#pragma once
#include <atomic>
#include <condition_variable>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "async/event.h"
#include "async/task_group.h"
#include "base/json.h"
#include "jobs/engine.h"
#include "jobs/line_driver.h"
#include "journal/memory/memory_journal.h"

namespace aether::jobs::testing {

/// The other side of the world: counts, and outlives engines.
struct World {
  std::mutex mutex;
  std::map<std::string, int> calls;    ///< By args.name.
  std::map<std::string, int> lookups;  ///< By key.
  std::vector<std::string> order;      ///< Names of calls as they came.
  std::vector<std::string> keys;
  std::map<std::string, tools::CallResult> answers;  ///< By args.name; else Ok.
  tools::CallResult lookup_answer{.outcome = EffectOutcome::Unknown, .result = {}, .error = {}};
  std::map<std::string, bool> hangs;  ///< Calls of that name wait for their cancellation.
  int running = 0;
  int running_max = 0;

  int count(std::string const& name) {
    std::lock_guard const lock(mutex);
    return calls[name];
  }
};

class CountTool final : public tools::Tool {
 public:
  CountTool(World& world, std::string name) : world_(world), name_(std::move(name)) {}
  [[nodiscard]] std::string_view name() const override { return name_; }
  [[nodiscard]] std::string_view description() const override { return "counts"; }
  [[nodiscard]] boost::json::value schema() const override { return boost::json::object{}; }
  [[nodiscard]] Status check(boost::json::value const&) const override { return {}; }
  [[nodiscard]] bool can_look_up(boost::json::value const&) const override { return true; }
  [[nodiscard]] async::Task<tools::CallResult> call(tools::Call call) override {
    std::string name = "call";
    if (call.args.is_object()) name = json::value_to<std::string>(call.args.at("name"));
    return perform(&world_, std::move(name), std::move(call.key));
  }
  [[nodiscard]] async::Task<tools::CallResult> look_up(tools::Call call) override {
    return ask(&world_, std::move(call.key));
  }

 private:
  static async::Task<tools::CallResult> perform(World* world, std::string name, std::string key) {
    tools::CallResult result;
    bool hangs = false;
    {
      std::lock_guard const lock(world->mutex);
      ++world->calls[name];
      world->order.push_back(name);
      world->keys.push_back(key);
      world->running_max = std::max(world->running_max, ++world->running);
      if (auto const answer = world->answers.find(name); answer != world->answers.end())
        result = answer->second;
      hangs = world->hangs[name];
    }
    async::Event never;
    if (hangs) {
      async::Task<async::WaitOutcome> waiting = never.wait_outcome(Instant::max());
      co_await std::move(waiting);
      result.outcome = EffectOutcome::Unknown;
      result.error = "cancelled";
    }
    std::lock_guard const lock(world->mutex);
    --world->running;
    co_return result;
  }
  static async::Task<tools::CallResult> ask(World* world, std::string key) {
    std::lock_guard const lock(world->mutex);
    ++world->lookups[key];
    co_return world->lookup_answer;
  }
  World& world_;
  std::string name_;
};

/// Waits until it is so; fails the test if it does not become so.
template <class Condition>
bool eventually(Condition condition, Duration within = std::chrono::seconds(30)) {
  auto const end = std::chrono::steady_clock::now() + within;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

class Rig {
 public:
  explicit Rig(EngineLimits limits = {}, journal::Journal* journal = nullptr,
               Clock const* its_clock = nullptr)
      : journal_(journal), clock_(its_clock == nullptr ? &manual : its_clock), limits_(limits) {
    if (journal_ == nullptr) {
      owned_ = journal::open_memory_journal();
      journal_ = owned_.get();
    }
    begin();
  }
  ~Rig() { end(); }

  void begin() {
    tools_ = std::make_unique<tools::ToolSet>();
    EXPECT_TRUE(tools_->add(std::make_unique<CountTool>(world, "count")));
    engine_ = std::make_unique<Engine>(*journal_, *tools_, *clock_, limits_, &make_line_driver);
    EXPECT_TRUE(engine_->start());
  }
  void end() { engine_.reset(); }
  /// As a process that dies: what is under way is cut off, nothing is recorded of it.
  Engine& operator*() { return *engine_; }
  Engine* operator->() { return engine_.get(); }
  [[nodiscard]] journal::Journal& journal() { return *journal_; }
  [[nodiscard]] tools::ToolSet& tools() { return *tools_; }

  Result<Submitted> try_submit(RunSpec spec, std::string key = {}) {
    return wait<Submitted>([&](Reply<Submitted> reply) {
      engine_->submit({"user:test"}, std::move(spec), std::move(key), std::move(reply));
    });
  }
  RunId submit(std::string const& line) {
    Result<Submitted> done = try_submit(spec_of(line));
    EXPECT_TRUE(done) << done.error().describe();
    return done ? done->run : RunId{};
  }
  static RunSpec spec_of(std::string const& line) {
    RunSpec spec;
    spec.name = "test";
    spec.graph = *parse_json(line, "line");
    return spec;
  }
  template <class T, class Ask>
  static Result<T> wait(Ask ask) {
    std::promise<Result<T>> done;
    auto result = done.get_future();
    ask([&done](Result<T> value) { done.set_value(std::move(value)); });
    return result.get();
  }
  Result<RunStatus> control(RunId const& run, Control control) {
    return wait<RunStatus>([&](Reply<RunStatus> reply) {
      engine_->control({"user:test"}, run, control, "asked", std::move(reply));
    });
  }
  Result<RunStatus> signal(RunId const& run, std::string name, std::string key = {},
                           boost::json::value payload = {}) {
    return wait<RunStatus>([&](Reply<RunStatus> reply) {
      engine_->signal({"user:test"}, run,
                      {.name = name, .idempotency_key = key, .payload = payload}, std::move(reply));
    });
  }
  Result<RunStatus> answer(RunId const& run, WaitEnd end, std::string path = {},
                           std::string who = "user:test") {
    return wait<RunStatus>([&](Reply<RunStatus> reply) {
      engine_->answer({who}, run, path, end, {}, std::move(reply));
    });
  }
  Result<RunStatus> resolve(RunId const& run, Resolution resolution,
                            boost::json::value result = {}) {
    return wait<RunStatus>([&](Reply<RunStatus> reply) {
      engine_->resolve({"user:test"}, run, {}, resolution, result, std::move(reply));
    });
  }
  RunStatus status(RunId const& run) {
    Result<RunState> state = engine_->show(run);
    EXPECT_TRUE(state) << state.error().describe();
    return state ? state->status() : RunStatus::Stuck;
  }
  RunState show(RunId const& run) { return *engine_->show(run); }
  /// Fails the test if the run does not come to that.
  [[nodiscard]] ::testing::AssertionResult becomes(RunId const& run, RunStatus wanted) {
    if (eventually([&] { return status(run) == wanted; })) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "run is " << text_of(status(run)) << ", not "
                                         << text_of(wanted) << ": " << show(run).stuck;
  }

  World world;
  ManualClock manual;

 private:
  std::unique_ptr<journal::Journal> owned_;
  journal::Journal* journal_;
  Clock const* clock_;
  EngineLimits limits_;
  std::unique_ptr<tools::ToolSet> tools_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace aether::jobs::testing
