// SPDX-License-Identifier: Apache-2.0
#include "jobs/engine.h"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <future>
#include <thread>
#include <utility>

#include "async/event.h"
#include "async/loop.h"
#include "async/task_group.h"
#include "base/log.h"
#include "jobs/engine_core.h"
#include "os/signals_blocked.h"

namespace aether::jobs {

struct Engine::Body {
  Body(journal::Journal& journal, tools::ToolSet& tools, Clock const& clock, EngineLimits limits,
       DriverFactory factory)
      : journal(journal),
        loop(clock),
        core(journal, tools, clock, limits, std::move(factory), loop.executor()),
        last_tasks(loop.executor(), "jobs.end") {
    // The loop goes on after stop(): what is asked then is answered, too.
    last_tasks.spawn("alive", never.wait());
    os::SignalsBlocked const blocked;
    thread = std::thread([this] { loop.run(); });
    ::pthread_setname_np(thread.native_handle(), "jobs");
  }

  /// Runs it on the loop, and waits for what it gives.
  template <class Work>
  auto on_loop(Work work) {
    std::promise<decltype(work())> done;
    auto result = done.get_future();
    core.mail->post([&done, &work] { done.set_value(work()); });
    return result.get();
  }

  void deliver(RunId run, Input input) {
    core.mail->post([this, run = std::move(run), input = std::move(input)]() mutable {
      core.deliver(run, std::move(input));
    });
  }

  static async::Task<void> stop_core(EngineCore* core, Duration grace, std::promise<void>* done) {
    co_await core->stop(grace);
    done->set_value();
  }

  journal::Journal& journal;
  async::Loop loop;
  EngineCore core;
  async::Event never;
  async::TaskGroup last_tasks;  ///< They end with the loop.
  std::thread thread;
  bool stopped = false;
  std::atomic<std::uint64_t> claims{0};
};

Engine::Engine(journal::Journal& journal, tools::ToolSet& tools, Clock const& clock,
               EngineLimits limits, DriverFactory factory)
    : body_(std::make_unique<Body>(journal, tools, clock, limits, std::move(factory))) {}

Engine::~Engine() {
  stop(Duration::zero());
  body_->loop.stop();
  body_->thread.join();
}

Status Engine::start() {
  return body_->on_loop([this] { return body_->core.start(); });
}

void Engine::stop(Duration grace) {
  if (std::exchange(body_->stopped, true)) return;
  std::promise<void> done;
  body_->core.mail->post([this, &done, grace] {
    body_->last_tasks.spawn("stop", Body::stop_core(&body_->core, grace, &done));
  });
  done.get_future().wait();
}

void Engine::submit(Asker asker, RunSpec spec, std::string idempotency_key,
                    Reply<Submitted> reply) {
  submit(std::move(asker), {.spec = std::move(spec), .idempotency_key = std::move(idempotency_key)},
         std::move(reply));
}

void Engine::submit(Asker asker, Submission submission, Reply<Submitted> reply) {
  RunOpened opening{.spec = std::move(submission.spec),
                    .code_version = {},
                    .idempotency_key = std::move(submission.idempotency_key),
                    .request_hash = std::move(submission.request_hash),
                    .parent = {},
                    .forked_from = {},
                    .schedule = std::move(submission.schedule)};
  opening.code_version = code_version_of(opening.spec);
  body_->core.mail->post([this, asker = std::move(asker), opening = std::move(opening),
                          reply = std::move(reply)]() mutable {
    body_->core.submit(std::move(asker), std::move(opening), std::move(reply));
  });
}

void Engine::control(Asker asker, RunId run, Control control, std::string reason,
                     Reply<RunStatus> reply) {
  body_->deliver(std::move(run),
                 {.actor = std::move(asker.name),
                  .fact = ControlCame{.control = control, .reason = std::move(reason)},
                  .reply = std::move(reply)});
}

void Engine::signal(Asker asker, RunId run, SignalReceived signal, Reply<RunStatus> reply) {
  body_->deliver(
      std::move(run),
      {.actor = std::move(asker.name), .fact = std::move(signal), .reply = std::move(reply)});
}

void Engine::answer(Asker asker, RunId run, std::string path, WaitEnd end,
                    boost::json::value payload, Reply<RunStatus> reply) {
  body_->deliver(
      std::move(run),
      {.actor = std::move(asker.name),
       .fact = AnswerCame{.path = std::move(path), .end = end, .payload = std::move(payload)},
       .reply = std::move(reply)});
}

void Engine::resolve(Asker asker, RunId run, std::string effect, Resolution resolution,
                     boost::json::value result, Reply<RunStatus> reply) {
  body_->deliver(std::move(run), {.actor = std::move(asker.name),
                                  .fact = ResolutionCame{.effect = std::move(effect),
                                                         .resolution = resolution,
                                                         .result = std::move(result)},
                                  .reply = std::move(reply)});
}

void Engine::fork(Asker asker, RunId run, std::string step, std::optional<RunSpec> changed,
                  Reply<RunId> reply) {
  body_->core.mail->post([this, asker = std::move(asker), run = std::move(run),
                          step = std::move(step), changed = std::move(changed),
                          reply = std::move(reply)]() mutable {
    body_->core.fork(std::move(asker), std::move(run), std::move(step), std::move(changed),
                     std::move(reply));
  });
}

std::uint64_t Engine::claim(WorkClaim claim, Reply<std::vector<ClaimedRun>> reply) {
  std::uint64_t const id = ++body_->claims;
  body_->core.mail->post([this, id, claim = std::move(claim), reply = std::move(reply)]() mutable {
    body_->core.claim(id, std::move(claim), std::move(reply));
  });
  return id;
}

void Engine::end_claim(std::uint64_t claim) {
  body_->core.mail->post([this, claim] { body_->core.end_claim(claim); });
}

void Engine::work(RunId run, std::string token, std::vector<WorkMessage> messages,
                  Reply<WorkAnswers> reply) {
  body_->core.mail->post([this, run = std::move(run), token = std::move(token),
                          messages = std::move(messages), reply = std::move(reply)]() mutable {
    body_->core.work(run, token, std::move(messages), std::move(reply));
  });
}

void Engine::note(std::string actor, AuditNoted note) {
  body_->core.mail->post([this, actor = std::move(actor), note = std::move(note)]() mutable {
    body_->core.note(std::move(actor), std::move(note));
  });
}

Result<std::vector<RunSummary>> Engine::list(ListQuery const& query) const {
  std::vector<RunSummary> found;
  std::string from = query.after.empty() ? "" : list_key(RunId{query.after}) + '\0';
  std::size_t const page = std::max<std::size_t>(query.count, 1);
  while (found.size() < query.count) {
    TRY_ASSIGN(std::vector<journal::Record> const rows,
               body_->journal.records(kRunView, from, {}, page));
    for (journal::Record const& row : rows) {
      TRY_ASSIGN(RunSummary line, parse_line(row));
      bool const wanted = (query.space.empty() || query.space == line.space) &&
                          (!query.status || *query.status == line.status);
      if (wanted && found.size() < query.count) found.push_back(std::move(line));
    }
    if (rows.size() < page) break;
    from = rows.back().key + '\0';
  }
  return found;
}

Result<RunState> Engine::show(RunId const& run) const {
  return load_run(body_->journal, run);
}

Result<std::vector<journal::Event>> Engine::events(RunId const& run, std::uint64_t after,
                                                   std::size_t count) const {
  return body_->journal.read_stream(run.text, journal::Sequence{after + 1}, count);
}

void Engine::look_at_clock() {
  body_->core.mail->post([this] { body_->core.schedule(); });
}

void Engine::on_progress(std::function<void(RunId const&, RunProgress)> listener) {
  body_->core.mail->post([this, listener = std::move(listener)]() mutable {
    body_->core.listen(std::move(listener));
  });
}

}  // namespace aether::jobs
