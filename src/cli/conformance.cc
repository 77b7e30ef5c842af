// SPDX-License-Identifier: Apache-2.0
// conformance worker: plays Aether to a worker over a socket pair: an engine with a journal in
// memory, and a file in which the worker's functions write what they did. The worker is killed at
// each message. docs/worker-protocol.md says what its agent has to do.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "async/loop.h"
#include "async/task_group.h"
#include "async/timers.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/agent_commands.h"
#include "daemon/jobs_plane.h"
#include "daemon/work_line.h"
#include "functions/handler_hooks.h"
#include "os/process.h"
#include "os/temp_dir.h"
#include "supervise/environment.h"

namespace aether::cli {
namespace {

namespace json = boost::json;

constexpr char const* kTestedAgent = "conformance";
constexpr Duration kLease = std::chrono::milliseconds(700);
/// Of one run with its deaths, on a busy machine.
constexpr Duration kPatience = std::chrono::seconds(60);
/// Of all of it.
constexpr Duration kSuiteMax = std::chrono::minutes(30);
constexpr Duration kWorkerLook = std::chrono::milliseconds(5);
constexpr int kWorkFd = 3;
/// So often in a row a worker may end without a word: one is killed before it says something.
constexpr int kMuteMax = 5;

/// Of this process, but for what Aether itself was told; with the SDKs that came with it.
std::vector<std::string> worker_environment() {
  std::string const sdk = functions::find_sdk_folder();
  std::vector<std::string> all;
  if (!sdk.empty()) all = {"PYTHONPATH=" + sdk + "/python", "NODE_PATH=" + sdk + "/node"};
  for (std::string const& one : supervise::own_environment()) {
    if (one.starts_with("AETHER_") || one.starts_with("NOTIFY_")) continue;
    std::string const name = one.substr(0, one.find('=') + 1);
    std::erase_if(all, [&name](std::string const& each) { return each.starts_with(name); });
    all.push_back(one);
  }
  return all;
}

config::Config suite_config() {
  config::Config config;
  config.jobs.enabled = true;
  config.jobs.lease = kLease;
  config.store.type = config::StoreType::Memory;
  config::Agent agent;
  agent.name = kTestedAgent;
  agent.is_code = true;
  agent.declaration_json = fmt::format(R"({{"code":true,"name":"{}"}})", kTestedAgent);
  config.agents.push_back(std::move(agent));
  return config;
}

/// When the worker is killed.
struct Death {
  enum class When : std::uint8_t { Never, Asked, Answered } when = When::Never;
  int frame = 0;  ///< Of those that are no beats, counted from 1.
};

class Suite {
 public:
  Suite(ConformanceOptions const& options, std::string folder)
      : options_(options),
        folder_(std::move(folder)),
        loop_(clock_),
        tasks_(loop_.executor(), "conformance") {}

  Result<int> run() {
    TRY_ASSIGN(jobs_, daemon::Jobs::open(suite_config(), loop_.executor(), clock_, known_));
    TRY(jobs_->start());
    loop_.run_task(check_all());
    fmt::print("{} checks, {} failed\n", checks_, failed_);
    if (checks_ == 0) return fail(ErrorCode::Internal, "nothing was checked");
    return failed_ == 0 ? kDone : kFailed;
  }

 private:
  struct Worker {
    std::optional<os::Child> child;
    int frames = 0, answers = 0, beats = 0;
    bool has_spoken = false;
    Death death;
  };

  // ---- The worker

  Status start(Death death, bool with_other_code = false) {
    TRY_ASSIGN(daemon::LineEnds ends, daemon::open_line_ends());
    os::SpawnSpec spec;
    spec.argv = {"/bin/sh", "-c", "exec " + options_.command};
    spec.environment = worker_environment();
    spec.environment.push_back(fmt::format("AETHER_WORK_FD={}", kWorkFd));
    if (with_other_code) spec.environment.emplace_back("CONFORMANCE_OTHER=1");
    spec.fds = {{.source = ends.theirs.get(), .target = kWorkFd}};
    worker_ = std::make_shared<Worker>();
    worker_->death = death;
    TRY_ASSIGN(worker_->child, os::spawn(spec));
    auto const watch = [this, worker = worker_](std::string_view line, bool is_from_worker) {
      look_at(*worker, line, is_from_worker);
    };
    line_ = std::make_unique<daemon::WorkLine>(loop_.executor(), "the worker", std::move(ends.ours),
                                               *jobs_, clock_, watch);
    tasks_.spawn("line", serve(std::move(line_)));
    return {};
  }
  static async::Task<void> serve(std::unique_ptr<daemon::WorkLine> line) {
    async::Task<void> serving = line->serve();
    co_await std::move(serving);
  }

  void look_at(Worker& worker, std::string_view line, bool is_from_worker) {
    if (options_.verbose) fmt::print(stderr, "{} {}\n", is_from_worker ? "->" : "<-", line);
    boost::system::error_code ec;
    json::value const value = json::parse(line, ec);
    auto const* const object = value.if_object();
    if (ec || object == nullptr) return violate(fmt::format("no JSON object: {}", line));
    worker.has_spoken = worker.has_spoken || is_from_worker;
    if (is_from_worker) {
      bool const has_id = object->contains("id");
      if (!has_id) violate(fmt::format("no id: {}", line));
      if (line.contains(R"("do":"beat")") || line.contains(R"("do": "beat")")) {
        ++worker.beats;
        return;
      }
      if (!object->contains("messages")) return;
      ++worker.frames;
      bool const dies = worker.death.when == Death::When::Asked;
      if (dies && worker.frames == worker.death.frame) kill(worker);
      return;
    }
    if (object->contains("error")) violate(fmt::format("it was refused: {}", line));
    if (line.contains(R"("is":"refused")")) violate(fmt::format("it was refused: {}", line));
    if (!object->contains("answers") || line.contains(R"("is":"held")")) return;
    ++worker.answers;
    bool const dies = worker.death.when == Death::When::Answered;
    if (dies && worker.answers == worker.death.frame) kill(worker);
  }
  static void kill(Worker& worker) { (void)worker.child->signal(SIGKILL); }
  void violate(std::string what) {
    if (violation_.empty()) violation_ = std::move(what);
  }
  bool has_ended(Worker& worker) {
    auto const status = worker.child->try_reap();
    return status && *status;
  }
  async::Task<bool> ends_within(std::shared_ptr<Worker> worker, Duration patience) {
    Instant const until = clock_.now() + patience;
    while (!has_ended(*worker) && clock_.now() < until) co_await async::sleep_for(kWorkerLook);
    co_return has_ended(*worker);
  }
  async::Task<void> end_worker() {
    kill(*worker_);
    async::Task<bool> ending = ends_within(worker_, kPatience);
    co_await std::move(ending);
  }

  // ---- A run

  async::Task<jobs::RunId> submit(std::string doing, std::string file) {
    jobs::Submission submission;
    submission.spec.name = kTestedAgent;
    submission.spec.agent = json::object{{"code", true}, {"name", kTestedAgent}};
    submission.spec.input = json::object{{"do", std::move(doing)}, {"file", std::move(file)}};
    jobs::Asker const asker{"user:suite"};
    async::Task<jobs::Submitted> submitting = jobs_->submit(asker, std::move(submission));
    jobs::Submitted const made = co_await std::move(submitting);
    jobs::SignalReceived const go{.name = "go", .idempotency_key = {}, .payload = 5};
    async::Task<jobs::RunStatus> signalling = jobs_->signal(asker, made.run, go);
    co_await std::move(signalling);
    co_return made.run;
  }

  /// Answers what the run asks a person. A call of an unknown end is said to be as the file shows.
  async::Task<void> be_a_person(jobs::RunState const* state, std::string file) {
    jobs::Asker const asker{"user:suite"};
    for (auto const& [path, wait] : state->waits) {
      if (!wait.open || wait.opening.kind != jobs::WaitKind::Human) continue;
      if (wait.opening.effect.empty()) {
        async::Task<jobs::RunStatus> answering =
            jobs_->answer(asker, state->id, path, jobs::WaitEnd::Approved, json::object{});
        co_await std::move(answering);
        co_return;
      }
      std::string const tool = state->effects.find(wait.opening.effect)->second.intent.tool;
      std::string const name = tool.substr(tool.find(':') + 1);
      bool const happened = lines_of(file)[name] > 0;
      jobs::Resolution const said =
          happened ? jobs::Resolution::Happened : jobs::Resolution::NotHappened;
      async::Task<jobs::RunStatus> resolving =
          jobs_->resolve(asker, state->id, wait.opening.effect, said, json::value(name));
      co_await std::move(resolving);
      co_return;
    }
  }

  void start_again() {
    mute_ = worker_->has_spoken ? 0 : mute_ + 1;
    if (mute_ >= kMuteMax)
      throw Error(ErrorCode::UsageInvalid, "it ends before it asks for work: " + options_.command);
    or_throw(start({}));
  }

  /// Until the run has come to one of these; a worker that died is started again.
  async::Task<jobs::RunState> follow(jobs::RunId run, std::string file, bool stops_when_stuck) {
    Instant const until = clock_.now() + kPatience;
    for (;;) {
      async::Task<jobs::RunState> showing = jobs_->show(run);
      jobs::RunState state = co_await std::move(showing);
      bool const is_over = state.closing || (stops_when_stuck && !state.stuck.empty());
      if (is_over || clock_.now() > until) co_return state;
      if (has_ended(*worker_)) start_again();
      if (state.status() == jobs::RunStatus::Parked) co_await be_a_person(&state, file);
      co_await async::sleep_for(kWorkerLook);
    }
  }

  static std::map<std::string, int> lines_of(std::string const& file) {
    std::map<std::string, int> lines;
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) ++lines[line.substr(0, line.find(' '))];
    return lines;
  }
  std::string new_file() { return fmt::format("{}/run{}", folder_, ++files_); }

  // ---- Checks

  void tell(std::string const& name, std::string wrong) {
    ++checks_;
    if (wrong.empty()) wrong = std::exchange(violation_, {});
    violation_.clear();
    if (!wrong.empty()) ++failed_;
    fmt::print("{} {}{}{}\n", wrong.empty() ? "✓" : "✗", name, wrong.empty() ? "" : ": ", wrong);
    std::fflush(stdout);
  }

  static std::string wrong_with(jobs::RunState const& state, std::string const& file,
                                bool may_repeat) {
    if (!state.closing)
      return fmt::format("the run is {}: {}", text_of(state.status()), state.stuck);
    if (state.closing->outcome != jobs::RunOutcome::Succeeded)
      return fmt::format("the run failed: {}", state.closing->error);
    json::value const wanted{{"pure", 7}, {"said", "hello"}, {"go", 5}, {"approved", true}};
    if (canonical_json(state.closing->output) != canonical_json(wanted))
      return fmt::format("its output is {}", canonical_json(state.closing->output));
    std::map<std::string, int> lines = lines_of(file);
    for (char const* const once : {"first", "last"}) {
      if (lines[once] != 1) return fmt::format("{} happened {} times", once, lines[once]);
    }
    for (char const* const again : {"read", "keyed"}) {
      int const most = may_repeat ? 2 : 1;
      if (lines[again] < 1 || lines[again] > most)
        return fmt::format("{} happened {} times", again, lines[again]);
    }
    return {};
  }

  async::Task<void> check_death(Death death) {
    std::string const file = new_file();
    jobs::RunId const run = co_await submit("all", file);
    or_throw(start(death));
    jobs::RunState const state = co_await follow(run, file, false);
    bool const is_asked = death.when == Death::When::Asked;
    std::string const name =
        death.when == Death::When::Never ? std::string("does a job of all kinds of steps")
        : is_asked ? fmt::format("is killed when it has said message {}", death.frame)
                   : fmt::format("is killed when message {} is answered", death.frame);
    if (death.when == Death::When::Never) frames_ = worker_->frames;
    tell(name, wrong_with(state, file, death.when != Death::When::Never));
    co_await end_worker();
  }

  async::Task<void> check_slow() {
    std::string const file = new_file();
    jobs::RunId const run = co_await submit("slow", file);
    or_throw(start({}));
    jobs::RunState const state = co_await follow(run, file, false);
    bool const good = state.closing && lines_of(file)["slow"] == 1 && state.fence == 1;
    tell("beats while a step takes longer than the lease",
         good ? "" : fmt::format("{} beats, {} leases", worker_->beats, state.fence));
    co_await end_worker();
  }

  async::Task<void> check_failure() {
    std::string const file = new_file();
    jobs::RunId const run = co_await submit("fail", file);
    or_throw(start({}));
    jobs::RunState const state = co_await follow(run, file, false);
    bool const good = state.closing && state.closing->outcome == jobs::RunOutcome::Failed &&
                      state.closing->error.contains("no such luck") && lines_of(file)["bad"] == 1;
    tell("says why a step failed, and fails the job with it",
         good ? "" : "the job did not fail with \"no such luck\"");
    co_await end_worker();
  }

  async::Task<void> check_other_code() {
    std::string const file = new_file();
    jobs::RunId const run = co_await submit("all", file);
    or_throw(start({.when = Death::When::Answered, .frame = 4}));
    // One that says less than that is done before it dies.
    bool is_done = false;
    while (!has_ended(*worker_) && !is_done) {
      async::Task<jobs::RunState> showing = jobs_->show(run);
      jobs::RunState const seen = co_await std::move(showing);
      is_done = seen.closing || clock_.now() - began_ > kSuiteMax;
      co_await async::sleep_for(kWorkerLook);
    }
    co_await end_worker();
    or_throw(start({}, true));
    jobs::RunState const stuck = co_await follow(run, file, true);
    tell("lets go of a run that its code did not record",
         !stuck.stuck.empty() ? "" : fmt::format("the run is {}", text_of(stuck.status())));
    co_await end_worker();
    if (stuck.closing) co_return;
    jobs::Asker const asker{"user:suite"};
    co_await jobs_->control(asker, run, jobs::Control::Resume, "");
    or_throw(start({}));
    jobs::RunState const state = co_await follow(run, file, false);
    tell("goes on with it when its code is the right one", wrong_with(state, file, true));
    co_await end_worker();
  }

  async::Task<void> check_ends() {
    or_throw(start({}));
    std::string const file = new_file();
    jobs::RunId const run = co_await submit("all", file);
    co_await follow(run, file, false);
    (void)worker_->child->signal(SIGTERM);
    bool const stopped = co_await ends_within(worker_, std::chrono::seconds(20));
    tell("ends when it is told to (SIGTERM)", stopped ? "" : "it runs on");
    co_await end_worker();
  }

  async::Task<void> check_all() {
    try {
      co_await check_each();
    } catch (Error const& error) {
      failure_ = error.message();
    }
    if (!failure_.empty()) tell("can be checked to the end", failure_);
    if (worker_) kill(*worker_);
    co_await jobs_->stop();
    co_await tasks_.stop(kPatience);
  }

  async::Task<void> check_each() {
    co_await check_death({});
    for (Death::When const when : {Death::When::Asked, Death::When::Answered}) {
      for (int frame = 1; frame <= frames_; frame += options_.each)
        co_await check_death({when, frame});
    }
    co_await check_slow();
    co_await check_failure();
    co_await check_other_code();
    co_await check_ends();
  }

  ConformanceOptions const& options_;
  std::string folder_;
  SystemClock clock_;
  supervise::KnownChildren known_;
  async::Loop loop_;
  std::unique_ptr<daemon::Jobs> jobs_;
  async::TaskGroup tasks_;
  std::shared_ptr<Worker> worker_;
  int mute_ = 0;  ///< Workers in a row that said nothing.
  std::unique_ptr<daemon::WorkLine> line_;
  std::string violation_;  ///< The first thing that the worker said wrong since the last check.
  std::string failure_;    ///< What kept the suite from its end.
  Instant const began_ = clock_.now();
  int frames_ = 0, files_ = 0, checks_ = 0, failed_ = 0;
};

}  // namespace

Result<int> conformance_worker(Globals const& globals, ConformanceOptions const& options) {
  if (!globals.verbose) log::set_level(log::Level::Error);
  TRY_ASSIGN(os::TempDir const folder, os::TempDir::create());
  Suite suite(options, folder.path());
  return suite.run();
}

}  // namespace aether::cli
