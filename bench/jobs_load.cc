// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <fstream>

#include <boost/json/object.hpp>
#include <fmt/format.h>

#include "async/event.h"
#include "base/json.h"
#include "jobs/run_event_codec.h"
#include "jobs_driver.h"
#include "journal/limits.h"
#include "journal/postgres/postgres_journal.h"
#include "journal/sqlite/sqlite_journal.h"

namespace aether::bench {

namespace json = boost::json;
using jobs::EffectIntended;
using jobs::EffectSettled;
using jobs::RunEvent;
using jobs::RunId;
using jobs::RunSpec;

namespace {

/// Submissions on their way at once.
constexpr std::uint32_t kWindow = 256;

/// The other process: reads effects until nobody can write any, then gives its verdict.
[[noreturn]] void judge_effects(int effects, int verdict, std::uint32_t runs, std::uint32_t steps) {
  std::vector<std::uint8_t> seen(std::size_t{runs} * steps);
  Judge::Verdict said;
  std::array<Effect, 512> some{};
  ssize_t got = 0;
  while ((got = ::read(effects, some.data(), sizeof(some))) > 0) {
    // A write of eight bytes into a pipe is whole, and so is what is read of such writes.
    for (std::size_t at = 0; at < static_cast<std::size_t>(got) / sizeof(Effect); ++at) {
      std::size_t const place = std::size_t{some.at(at).run} * steps + some.at(at).step;
      ++said.effects;
      if (place < seen.size() && seen[place]++ > 0) ++said.twice;
    }
  }
  said.missing = static_cast<std::uint64_t>(std::ranges::count(seen, 0));
  bool const told = ::write(verdict, &said, sizeof(said)) == sizeof(said);
  ::_exit(told ? 0 : 1);
}

std::array<os::UniqueFd, 2> make_pipe() {
  std::array<int, 2> ends{};
  AETHER_CHECK(::pipe(ends.data()) == 0, "pipe failed");
  return {os::UniqueFd(ends[0]), os::UniqueFd(ends[1])};
}

async::Task<tools::CallResult> done() {
  co_return tools::CallResult{.outcome = tools::EffectOutcome::Ok, .result = 1, .error = {}};
}

async::Task<tools::CallResult> hang() {
  async::Event never;
  async::Task<async::WaitOutcome> waiting = never.wait_outcome(Instant::max());
  co_await std::move(waiting);
  co_return tools::CallResult{
      .outcome = tools::EffectOutcome::Unknown, .result = {}, .error = "cut off"};
}

json::object node(std::string id, std::string_view type, json::value with) {
  return {{"id", std::move(id)}, {"type", type}, {"with", std::move(with)}};
}

}  // namespace

double now_us() {
  return std::chrono::duration<double, std::micro>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double quantile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  auto const rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(values.size())));
  auto const at = values.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(rank, 1) - 1);
  std::ranges::nth_element(values, at);
  return *at;
}

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::unique_ptr<journal::Journal> open_store(std::string const& folder) {
  if (folder.starts_with("postgres"))
    return or_throw(journal::open_postgres_journal({.url = folder}));
  return or_throw(journal::open_sqlite_journal({.path = folder + "/journal.db"}));
}

Judge::Judge(std::uint32_t runs, std::uint32_t steps) {
  auto effects = make_pipe();
  auto verdict = make_pipe();
  pid_t const child = ::fork();
  AETHER_CHECK(child >= 0, "fork failed");
  if (child == 0) {
    effects[1].reset();
    judge_effects(effects[0].get(), verdict[1].get(), runs, steps);
  }
  effects_ = std::move(effects[1]);
  verdict_ = std::move(verdict[0]);
}

Judge::Verdict Judge::verdict() {
  effects_.reset();
  Verdict said;
  AETHER_CHECK(::read(verdict_.get(), &said, sizeof(said)) == sizeof(said), "the judge is gone");
  return said;
}

json::value CallTool::schema() const {
  return json::object{};
}

async::Task<tools::CallResult> CallTool::call(tools::Call call) {
  json::object const& args = call.args.as_object();
  Effect const effect{.run = args.at("run").to_number<std::uint32_t>(),
                      .step = args.at("step").to_number<std::uint32_t>()};
  AETHER_CHECK(::write(judge_, &effect, sizeof(effect)) == sizeof(effect), "the judge is gone");
  double const now = now_us();
  double& last = last_us_.at(effect.run);
  if (last > 0) between_us_.push_back(now - last);
  last = now;
  return done();
}

json::value HangTool::schema() const {
  return json::object{};
}

async::Task<tools::CallResult> HangTool::call(tools::Call /*call*/) {
  return hang();
}

void Ends::note(std::uint64_t sequence) {
  if (sequence != last_) return;
  std::lock_guard const lock(mutex_);
  if (--left_ == 0) none_left_.notify_all();
}

void Ends::wait() {
  std::unique_lock lock(mutex_);
  none_left_.wait(lock, [this] { return left_ == 0; });
}

RunSpec calling_run(std::uint32_t number) {
  json::array nodes;
  for (std::uint32_t at = 0; at < kSteps; ++at) {
    json::object step =
        node(fmt::format("s{}", at), "tool", json::object{{"run", "${input.run}"}, {"step", at}});
    step["tool"] = "call";
    if (at > 0) step["after"] = json::array{fmt::format("s{}", at - 1)};
    nodes.emplace_back(std::move(step));
  }
  RunSpec spec;
  spec.name = "row";
  spec.graph = json::object{{"nodes", std::move(nodes)}};
  spec.input = json::object{{"run", number}};
  return spec;
}

RunSpec waiting_graph(bool for_signal) {
  json::value with = for_signal ? json::object{{"signal", "go"}} : json::object{{"for", "1d"}};
  RunSpec spec;
  spec.name = "waits";
  spec.graph = json::object{{"nodes", json::array{node("wait", "wait", std::move(with))}}};
  return spec;
}

void submit_all(jobs::Engine& engine, std::uint32_t runs,
                std::function<RunSpec(std::uint32_t)> const& spec_of) {
  std::mutex mutex;
  std::condition_variable changed;
  std::uint32_t answered = 0;
  for (std::uint32_t at = 0; at < runs; ++at) {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return at - answered < kWindow; });
    }
    engine.submit({"bench"}, spec_of(at), {}, [&](Result<jobs::Submitted> done) {
      or_throw(std::move(done));
      std::lock_guard const lock(mutex);
      ++answered;
      changed.notify_all();
    });
  }
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return answered == runs; });
}

double queue_runs(journal::Journal& store, std::uint32_t runs) {
  tools::ToolSet tools;
  or_throw(tools.add(std::make_unique<HangTool>()));
  SystemClock const clock;
  // One place, and what has it hangs: the others stay as they are.
  jobs::Engine engine(store, tools, clock, {.concurrency = 1});
  or_throw(engine.start());
  RunSpec blocker;
  blocker.name = "blocker";
  json::object call = node("hang", "tool", json::object{});
  call["tool"] = "call";
  blocker.graph = json::object{{"nodes", json::array{std::move(call)}}};
  submit_all(engine, 1, [&blocker](std::uint32_t) { return blocker; });
  double const began = now_us();
  submit_all(engine, runs, &calling_run);
  return runs / (now_us() - began) * 1e6;
}

namespace {

/// All events of one run that has called kSteps times.
std::vector<RunEvent> history_of(RunId const& run, std::uint32_t number, WallTime at) {
  std::vector<RunEvent> events;
  auto const add = [&events, at](jobs::RunEventBody body) {
    events.push_back(jobs::as_recorded({.at = at, .actor = {}, .body = std::move(body)}));
  };
  jobs::RunOpened opened;
  opened.spec = calling_run(number);
  add(opened);
  for (std::uint32_t step = 0; step < kSteps; ++step) {
    std::string const path = fmt::format("s{}", step);
    json::value const args = json::object{{"run", number}, {"step", step}};
    std::string const effect = jobs::effect_id(run, path, "call", 1);
    add(jobs::StepOpened{.path = path, .input_hash = jobs::value_hash(args)});
    EffectIntended intent{.effect = effect, .path = path, .tool = "call", .args = args};
    intent.args_hash = jobs::value_hash(args);
    intent.token = "0123456789abcdef0123456789abcdef";
    add(std::move(intent));
    add(EffectSettled{.effect = effect, .result = 1, .error = {}, .usage = {}});
    add(jobs::StepClosed{
        .path = path, .outcome = jobs::StepOutcome::Committed, .result = 1, .error = {}});
  }
  add(jobs::RunClosed{.output = json::object{{"s19", 1}}, .error = {}});
  return events;
}

}  // namespace

std::uint64_t write_history(journal::Journal& store, std::uint64_t events) {
  SystemClock const clock;
  std::uint64_t written = 0;
  std::uint32_t number = 0;
  std::vector<std::future<void>> waiting;
  while (written < events) {
    journal::Batch batch;
    while (batch.events.size() + 2 + 4 * kSteps <= journal::kBatchEventsMax) {
      RunId const run = jobs::make_run_id(clock.wall(), fmt::format("{:010}", number));
      for (RunEvent const& event : history_of(run, number++, clock.wall())) {
        or_throw(jobs::append_event(batch, {.stream = run.text, .space = "default"}, event,
                                    [] { return std::string(journal::kSaltBytes, 's'); }));
      }
    }
    written += batch.events.size();
    auto const answered = std::make_shared<std::promise<void>>();
    waiting.push_back(answered->get_future());
    store.append(std::move(batch), [answered](Result<journal::AppendOutcome> outcome) {
      AETHER_CHECK(outcome && *outcome, "an append failed");
      answered->set_value();
    });
    if (waiting.size() > 8) waiting[waiting.size() - 8].wait();
  }
  for (std::future<void>& each : waiting) each.wait();
  return written;
}

}  // namespace aether::bench
