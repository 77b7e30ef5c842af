// SPDX-License-Identifier: Apache-2.0
// An engine between a journal and a counted world, and short words for what is asked of it. Tests
// only.
#pragma once
#include <future>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.h"
#include "jobs/engine.h"
#include "jobs/engine_world.h"
#include "jobs/line_driver.h"
#include "journal/memory/memory_journal.h"

namespace aether::jobs::testing {

/// Counts the drivers that are held: one for each run that something is done for.
class HeldDriver final : public Driver {
 public:
  HeldDriver(World& world, std::unique_ptr<Driver> inner)
      : world_(world), inner_(std::move(inner)) {
    std::lock_guard const lock(world_.mutex);
    ++world_.drivers;
  }
  ~HeldDriver() override {
    {
      std::lock_guard const lock(world_.mutex);
      --world_.drivers;
    }
    world_.bell.ring();
  }
  HeldDriver(HeldDriver const&) = delete;
  HeldDriver& operator=(HeldDriver const&) = delete;
  [[nodiscard]] std::vector<Decision> decide(RunState const& state) const override {
    return inner_->decide(state);
  }

 private:
  World& world_;
  std::unique_ptr<Driver> inner_;
};

/// A list is a line (line_driver.h), anything else what make_driver() takes.
inline DriverFactory drivers_of(World& world) {
  return [&world](RunOpened const& opening) -> Result<std::unique_ptr<Driver>> {
    if (world.has_lost_drivers) return fail(ErrorCode::RequestInvalid, "there is no such driver");
    bool const is_line = opening.spec.graph.is_array() || opening.spec.graph.is_string();
    TRY_ASSIGN(std::unique_ptr<Driver> driver,
               is_line ? make_line_driver(opening) : make_driver(opening));
    return std::make_unique<HeldDriver>(world, std::move(driver));
  };
}

class Rig {
 public:
  explicit Rig(EngineLimits limits = {}, journal::Journal* journal = nullptr)
      : journal_(journal), limits_(limits) {
    if (journal_ == nullptr) {
      owned_ = journal::open_memory_journal();
      journal_ = owned_.get();
    }
    begin();
  }
  ~Rig() { end(); }
  Rig(Rig const&) = delete;
  Rig& operator=(Rig const&) = delete;

  void begin(journal::Journal* other = nullptr) {
    tools_ = std::make_unique<tools::ToolSet>();
    EXPECT_TRUE(tools_->add(std::make_unique<CountTool>(world, "count")));
    engine_ = std::make_unique<Engine>(other == nullptr ? *journal_ : *other, *tools_, clock,
                                       limits_, drivers_of(world));
    engine_->on_progress([this](RunId const&, RunProgress) { world.bell.ring(); });
    Status const started = engine_->start();
    EXPECT_TRUE(started) << started.error().describe();
  }
  void end() { engine_.reset(); }
  void restart() {
    end();
    begin();
  }
  Engine& operator*() { return *engine_; }
  Engine* operator->() { return engine_.get(); }
  [[nodiscard]] journal::Journal& journal() { return *journal_; }
  void turn_clock(Duration by) {
    clock.advance(by);
    engine_->look_at_clock();
  }

  Result<Submitted> try_submit(RunSpec spec, std::string key = {}) {
    return wait<Submitted>([&](Reply<Submitted> reply) {
      engine_->submit({"user:test"}, std::move(spec), std::move(key), std::move(reply));
    });
  }
  RunId submit(RunSpec spec) {
    Result<Submitted> done = try_submit(std::move(spec));
    EXPECT_TRUE(done) << done.error().describe();
    return done ? done->run : RunId{};
  }
  RunId submit(std::string const& graph) { return submit(spec_of(graph)); }
  static RunSpec spec_of(std::string const& graph) {
    RunSpec spec;
    spec.name = "test";
    spec.graph = or_throw(parse_json(graph, "graph"));
    return spec;
  }
  template <class T, class Ask>
  static Result<T> wait(Ask ask) {
    auto done = std::make_shared<std::promise<Result<T>>>();
    auto result = done->get_future();
    ask([done](Result<T> value) { done->set_value(std::move(value)); });
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
  Result<RunId> fork(RunId const& run, std::string step, std::optional<RunSpec> changed = {}) {
    return wait<RunId>([&](Reply<RunId> reply) {
      engine_->fork({"user:test"}, run, step, std::move(changed), std::move(reply));
    });
  }
  RunStatus status(RunId const& run) {
    Result<RunState> state = engine_->show(run);
    EXPECT_TRUE(state) << state.error().describe();
    return state ? state->status() : RunStatus::Stuck;
  }
  RunState show(RunId const& run) { return or_throw(engine_->show(run)); }
  bool eventually(std::function<bool()> const& condition) { return world.bell.wait_for(condition); }
  /// Fails the test if the run does not come to that.
  [[nodiscard]] ::testing::AssertionResult becomes(RunId const& run, RunStatus wanted) {
    if (eventually([&] { return status(run) == wanted; })) return ::testing::AssertionSuccess();
    RunState const state = show(run);
    return ::testing::AssertionFailure()
           << "run is " << text_of(state.status()) << ", not " << text_of(wanted) << ": "
           << state.stuck << (state.closing ? state.closing->error : "");
  }

  World world;
  TurnedClock clock;

 private:
  std::unique_ptr<journal::Journal> owned_;
  journal::Journal* journal_;
  EngineLimits limits_;
  std::unique_ptr<tools::ToolSet> tools_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace aether::jobs::testing
