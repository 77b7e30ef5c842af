// SPDX-License-Identifier: Apache-2.0
#include "daemon/jobs_plane.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "async/event.h"
#include "async/timers.h"
#include "base/json.h"
#include "base/log.h"
#include "daemon/code_replay.h"
#include "daemon/engine_reply.h"
#include "daemon/jobs_erasing.h"
#include "daemon/jobs_reading.h"
#include "daemon/jobs_store.h"
#include "daemon/jobs_tools.h"
#include "daemon/known_tools.h"
#include "jobs/agent.h"

namespace aether::daemon {
namespace {

namespace json = boost::json;

/// Two read while the others wait: SQLite's reader takes one at a time anyway.
constexpr std::size_t kReaders = 2;
/// A checkpoint is a few hundred bytes; what came since the last one is not yet under a signature.
constexpr Duration kSignEvery = std::chrono::seconds(60);
/// For those who follow a run that another process works on.
constexpr Duration kLookEvery = std::chrono::seconds(1);
/// For calls under way when Aether stops. What is not over then is settled by its policy later.
constexpr Duration kCallsEnd = std::chrono::seconds(5);
constexpr Duration kTasksOver = std::chrono::seconds(5);

}  // namespace

void KnownPorts::set(std::map<std::string, std::uint16_t, std::less<>> ports) {
  std::lock_guard const lock(mutex_);
  ports_ = std::move(ports);
}

Result<std::uint16_t> KnownPorts::port_of(std::string_view function) const {
  std::lock_guard const lock(mutex_);
  auto const found = ports_.find(function);
  if (found != ports_.end()) return found->second;
  return fail(ErrorCode::FunctionUnknown, fmt::format("there is no function {}", function));
}

// ---- Life ---------------------------------------------------------------------------------------

Jobs::Jobs(async::Executor executor, Clock const& clock, std::unique_ptr<journal::Journal> journal,
           std::string store, journal::Signer signer)
    : executor_(executor),
      clock_(clock),
      journal_(std::make_unique<CountedJournal>(std::move(journal), clock)),
      store_(std::move(store)),
      signer_(std::move(signer)),
      tasks_(executor, "jobs"),
      readers_(kReaders) {}

Jobs::~Jobs() {
  engine_.reset();  // Its thread tells of progress until it is gone.
}

Result<std::unique_ptr<Jobs>> Jobs::open(config::Config const& config, async::Executor executor,
                                         Clock const& clock, supervise::KnownChildren& known) {
  TRY_ASSIGN(std::unique_ptr<journal::Journal> journal, open_store(config));
  TRY_ASSIGN(journal::Signer signer, open_signer(config));
  bool const is_file = config.store.type == config::StoreType::Sqlite;
  std::unique_ptr<Jobs> jobs(new Jobs(std::move(executor), clock, std::move(journal),
                                      is_file ? store_path(config) : "", std::move(signer)));
  TRY_ASSIGN(jobs->tools_, make_tools(config, clock, known, jobs->ports_));
  TRY(jobs->set_agents(config.agents));
  TRY(jobs->set_schedules(config.schedules));
  jobs->set_functions(config.functions);
  jobs::EngineLimits const limits{
      .concurrency = config.jobs.concurrency,
      .lease = config.jobs.lease,
      .call_timeout = config.jobs.call_timeout,
      .all_erasable = config.store.erasable == config::Erasable::All,
  };
  jobs->engine_ = std::make_unique<jobs::Engine>(*jobs->journal_, *jobs->tools_, clock, limits);
  jobs->engine_->on_progress(
      [told = jobs.get()](jobs::RunId const& run, jobs::RunProgress progress) {
        told->progressed(run, progress);
      });
  return jobs;
}

Status Jobs::start() {
  return engine_->start();
}

void Jobs::begin() {
  tasks_.spawn("sign checkpoints", sign_now_and_then());
  if (journal_->sharing() != nullptr) tasks_.spawn("look at watched runs", look_at_watched());
  for (config::Schedule const& one : schedules_)
    tasks_.spawn(fmt::format("schedule {}", one.name), keep_schedule(one));
}

async::Task<void> Jobs::stop() {
  // The engine's stop waits for its calls; some of them may wait for our loop.
  std::function<void()> const stopping = [engine = engine_.get()] { engine->stop(kCallsEnd); };
  async::Task<void> ending = async::offload(readers_, stopping);
  co_await std::move(ending);
  co_await tasks_.stop(kTasksOver);
  try {
    co_await sign();
  } catch (Error const& error) {
    log::error("the last checkpoint was not signed: {}", error.describe());
  }
}

void Jobs::set_functions(std::vector<config::Function> const& functions) {
  std::map<std::string, std::uint16_t, std::less<>> ports;
  for (config::Function const& one : functions) ports[one.id] = one.trigger_port;
  ports_.set(std::move(ports));
}

Status Jobs::set_agents(std::vector<config::Agent> agents) {
  for (config::Agent const& one : agents) {
    TRY_ASSIGN(json::value const declared, parse_json(one.declaration_json, one.name));
    if (auto const read = jobs::parse_agent(declared); !read) {
      return fail(ErrorCode::ConfigInvalid,
                  fmt::format("agents: {}: {}", one.name, read.error().message()));
    }
  }
  agents_ = std::move(agents);
  return {};
}

async::Task<void> Jobs::sign_now_and_then() {
  for (;;) {
    co_await async::sleep_for(kSignEvery);
    try {
      co_await sign();
    } catch (Error const& error) {
      log::error("no checkpoint was signed: {}", error.describe());
    }
  }
}

/// Only what has grown is worth a signature.
async::Task<void> Jobs::sign() {
  std::function<Result<std::uint64_t>()> const signing =
      [journal = journal_.get(), signer = &signer_,
       before = signed_size_]() -> Result<std::uint64_t> {
    TRY_ASSIGN(journal::TreeHead const head, journal->tree_head());
    if (head.size == before) return before;
    TRY(journal::sign_checkpoint(*journal, *signer));
    return head.size;
  };
  async::Task<Result<std::uint64_t>> waiting = async::offload(readers_, signing);
  Result<std::uint64_t> const size = co_await std::move(waiting);
  signed_size_ = or_throw(size);
}

// ---- What changes something ---------------------------------------------------------------------

async::Task<jobs::Submitted> Jobs::submit(jobs::Asker asker, jobs::Submission submission) {
  or_throw(check_tools(submission.spec, *tools_));
  return wait_for<jobs::Submitted>([engine = engine_.get(), asker = std::move(asker),
                                    submission = std::move(submission)](auto reply) mutable {
    engine->submit(std::move(asker), std::move(submission), std::move(reply));
  });
}

async::Task<jobs::RunStatus> Jobs::control(jobs::Asker asker, jobs::RunId run,
                                           jobs::Control control, std::string reason) {
  return wait_for<jobs::RunStatus>([engine = engine_.get(), asker = std::move(asker),
                                    run = std::move(run), control,
                                    reason = std::move(reason)](auto reply) mutable {
    engine->control(std::move(asker), std::move(run), control, std::move(reason), std::move(reply));
  });
}

async::Task<jobs::RunStatus> Jobs::signal(jobs::Asker asker, jobs::RunId run,
                                          jobs::SignalReceived signal) {
  return wait_for<jobs::RunStatus>([engine = engine_.get(), asker = std::move(asker),
                                    run = std::move(run),
                                    signal = std::move(signal)](auto reply) mutable {
    engine->signal(std::move(asker), std::move(run), std::move(signal), std::move(reply));
  });
}

async::Task<jobs::RunStatus> Jobs::answer(jobs::Asker asker, jobs::RunId run, std::string path,
                                          jobs::WaitEnd end, json::value payload) {
  return wait_for<jobs::RunStatus>([engine = engine_.get(), asker = std::move(asker),
                                    run = std::move(run), path = std::move(path), end,
                                    payload = std::move(payload)](auto reply) mutable {
    engine->answer(std::move(asker), std::move(run), std::move(path), end, std::move(payload),
                   std::move(reply));
  });
}

async::Task<jobs::RunStatus> Jobs::resolve(jobs::Asker asker, jobs::RunId run, std::string effect,
                                           jobs::Resolution resolution, json::value result) {
  return wait_for<jobs::RunStatus>([engine = engine_.get(), asker = std::move(asker),
                                    run = std::move(run), effect = std::move(effect), resolution,
                                    result = std::move(result)](auto reply) mutable {
    engine->resolve(std::move(asker), std::move(run), std::move(effect), resolution,
                    std::move(result), std::move(reply));
  });
}

async::Task<jobs::RunId> Jobs::fork(jobs::Asker asker, jobs::RunId run, std::string step,
                                    jobs::RunSpec spec) {
  async::Task<Status> checking = async::offload(
      readers_, [journal = journal_.get(), run] { return check_values_stay(*journal, run); });
  Status const stay = co_await std::move(checking);
  or_throw(stay);
  or_throw(check_tools(spec, *tools_));
  async::Task<jobs::RunId> forking =
      wait_for<jobs::RunId>([engine = engine_.get(), asker = std::move(asker), run = std::move(run),
                             step = std::move(step), spec = std::move(spec)](auto reply) mutable {
        engine->fork(std::move(asker), std::move(run), std::move(step), std::move(spec),
                     std::move(reply));
      });
  co_return co_await std::move(forking);
}

void Jobs::note(std::string actor, jobs::AuditNoted note) {
  engine_->note(std::move(actor), std::move(note));
}

void Jobs::record_swap(std::string const& swap_json) {
  boost::system::error_code ec;
  json::value const swap = json::parse(swap_json, ec);
  if (ec || !swap.is_object()) return;
  auto const text = [&](std::string_view key) -> std::string {
    json::value const* const value = swap.as_object().if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->as_string()) : "";
  };
  note({}, {.action = "swap",
            .target = text("service"),
            .decision = text("verdict"),
            .detail = text("reason")});
}

// ---- What reads ---------------------------------------------------------------------------------

namespace {

/// Reads on another thread; faults are thrown.
template <class T>
async::Task<T> read(async::ThreadPool* readers, std::function<Result<T>()> reading) {
  async::Task<Result<T>> waiting = async::offload(*readers, std::move(reading));
  Result<T> result = co_await std::move(waiting);
  co_return or_throw(std::move(result));
}

}  // namespace

async::Task<std::vector<jobs::RunSummary>> Jobs::list(jobs::ListQuery query) {
  return read<std::vector<jobs::RunSummary>>(
      &readers_,
      [engine = engine_.get(), query = std::move(query)] { return engine->list(query); });
}

async::Task<jobs::RunState> Jobs::show(jobs::RunId run) {
  return read<jobs::RunState>(
      &readers_, [engine = engine_.get(), run = std::move(run)] { return engine->show(run); });
}

async::Task<std::vector<journal::Event>> Jobs::events(jobs::RunId run, std::uint64_t after,
                                                      std::size_t count) {
  return read<std::vector<journal::Event>>(
      &readers_, [journal = journal_.get(), run = std::move(run), after, count] {
        return read_events(*journal, run.text, after, count);
      });
}

async::Task<std::string> Jobs::trace(jobs::RunId run, api::TraceForm form) {
  return read<std::string>(
      &readers_, [journal = journal_.get(), run = std::move(run), form, now = clock_.wall()] {
        return read_trace(*journal, run, form, now);
      });
}

async::Task<json::value> Jobs::replay(jobs::RunId run) {
  async::Task<jobs::RunState> showing = read<jobs::RunState>(
      &readers_,
      [engine = engine_.get(), journal = journal_.get(), run]() -> Result<jobs::RunState> {
        TRY(check_values_stay(*journal, run));
        return engine->show(run);
      });
  jobs::RunState state = co_await std::move(showing);
  std::string const name = jobs::code_agent(state.opening.spec);
  auto const agent = std::ranges::find(agents_, name, &config::Agent::name);
  if (!name.empty() && agent != agents_.end() && !agent->command.empty())
    co_return co_await replay_program({*agent, std::move(state)}, &clock_);
  co_return co_await read<json::value>(
      &readers_, [journal = journal_.get(), run] { return replay_recorded(*journal, run); });
}

async::Task<std::string> Jobs::evidence(jobs::RunId run) {
  return read<std::string>(&readers_,
                           [journal = journal_.get(), signer = &signer_, run = std::move(run)] {
                             return make_evidence(*journal, *signer, run);
                           });
}

async::Task<std::string> Jobs::checkpoint(std::optional<std::uint64_t> old_size) {
  return read<std::string>(&readers_, [journal = journal_.get(), signer = &signer_, old_size] {
    return make_checkpoint(*journal, *signer, old_size);
  });
}

std::shared_ptr<api::RunWatch> Jobs::watch(jobs::RunId const& run) {
  std::erase_if(watches_, [](auto const& one) { return one.second.expired(); });
  std::shared_ptr<api::RunWatch> watch = watches_[run.text].lock();
  if (watch == nullptr) {
    watch = std::make_shared<api::RunWatch>();
    watches_[run.text] = watch;
  }
  watching_ = watches_.size();
  return watch;
}

/// On the engine's loop.
void Jobs::progressed(jobs::RunId const& run, jobs::RunProgress progress) {
  if (watching_ == 0) return;
  boost::asio::post(executor_, [this, run, progress] { tell_watchers(run, progress); });
}

void Jobs::tell_watchers(jobs::RunId const& run, jobs::RunProgress progress) {
  auto const found = watches_.find(run.text);
  if (found == watches_.end()) return;
  std::shared_ptr<api::RunWatch> const watch = found->second.lock();
  if (watch == nullptr) {
    watches_.erase(found);
    watching_ = watches_.size();
    return;
  }
  // Told by another process on the store, which does not say how far the run has come.
  if (progress.sequence == 0) {
    tasks_.spawn("look how far a run has come", look_how_far(run));
    return;
  }
  watch->latest = std::max(watch->latest, progress.sequence);
  if (progress.has_ended) ++watch->ends;
  watch->grown.set();
  watch->grown.reset();
}

async::Task<void> Jobs::look_at_watched() {
  for (;;) {
    co_await async::sleep_for(kLookEvery);
    std::vector<std::string> watched;
    for (auto const& [run, watch] : watches_) {
      if (!watch.expired()) watched.push_back(run);
    }
    for (std::string const& run : watched) {
      async::Task<void> looking = look_how_far(jobs::RunId{run});
      co_await std::move(looking);
    }
  }
}

async::Task<void> Jobs::look_how_far(jobs::RunId run) {
  std::function<Result<journal::StreamState>()> const reading =
      [journal = journal_.get(), name = run.text] { return journal->stream(name); };
  async::Task<Result<journal::StreamState>> waiting = async::offload(readers_, reading);
  Result<journal::StreamState> const state = co_await std::move(waiting);
  if (!state || state->last.value == 0) co_return;
  // Only its events say whether it has ended: who waits for that looks.
  tell_watchers(run, {.sequence = state->last.value, .has_ended = true});
}

api::JobCounts Jobs::counts() const {
  api::JobCounts counts = journal_->counts();
  if (!store_.empty()) counts.store_bytes = store_bytes(store_);
  return counts;
}

Result<json::value> Jobs::agent(std::string_view name) const {
  std::string known;
  for (config::Agent const& one : agents_) {
    if (one.name == name) return json::parse(one.declaration_json);
    known += (known.empty() ? "" : ", ") + one.name;
  }
  return fail(ErrorCode::RequestInvalid,
              fmt::format("there is no agent \"{}\"; there {}", name,
                          known.empty() ? "are none: name them under agents:" : "is: " + known));
}

}  // namespace aether::daemon
