// SPDX-License-Identifier: Apache-2.0
// Engine: runs, from their submission to their end. The only one who appends to the streams of
// runs.
//
// It has a thread and a loop of its own, so that ten thousand steps a second delay no swap. What is
// called here may be called from any thread; answers come by callback on the engine's loop: pass
// them on by posting (async::). A run that waits holds nothing here: no object, no timer of its
// own.
//
// One batch for each turn of a run: what settled, what closed, what opens and is intended next. Its
// calls begin when it is durable. That is one sync for a step in a row of steps, and other runs
// share it.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "jobs/driver.h"
#include "jobs/run_state.h"
#include "jobs/work_message.h"
#include "journal/journal.h"
#include "tools/tool.h"

namespace aether::jobs {

struct EngineLimits {
  int concurrency = 64;  ///< Runs that hold a lease at once.
  Duration lease = std::chrono::seconds(30);
  Duration call_timeout = std::chrono::seconds(60);  ///< Of a call that names none.
  /// Until what the store refused (no room on the disk) is tried again.
  Duration retry = std::chrono::milliseconds(500);
  /// Every value of a run is recorded so that it can be erased, not only large ones.
  bool all_erasable = false;
};

template <class T>
using Reply = std::move_only_function<void(Result<T>)>;

/// Who asks, for the journal. Roles are checked by the caller (api); refusals come to note().
struct Asker {
  std::string name;  ///< "user:alice", "token:ci", "uid:0".
};

struct Submission {
  RunSpec spec;
  std::string idempotency_key{};
  std::string request_hash{};  ///< See RunOpened.
  std::string schedule{};      ///< That made it; empty: none.
};
struct Submitted {
  RunId run;
  RunStatus status = RunStatus::Pending;
  bool existed = false;  ///< The Idempotency-Key had it already, with the same body.
};
/// One line of a list: the row of the index (run_rows.h).
struct RunSummary {
  RunId run;
  std::string name, space, queue;
  RunStatus status = RunStatus::Pending;
  WallTime opened;
  WallTime updated;    ///< When the status last became another.
  std::string detail;  ///< What it waits for, or why it failed.
};
struct ListQuery {
  std::string space;  ///< Empty: all.
  std::optional<RunStatus> status;
  std::string after;  ///< Run id: older ones than this. Newest first.
  std::size_t count = 100;
};
/// How far a run has come.
struct RunProgress {
  std::uint64_t sequence = 0;  ///< Of its last event; 0: in another process, which does not say.
  bool has_ended = false;
};
/// A worker that has room for runs of its agents.
struct WorkClaim {
  std::string worker;               ///< Its name, for people.
  std::vector<std::string> agents;  ///< In the order in which it wants their runs.
  std::vector<std::string> spaces;  ///< The only namespaces that it is for; empty: all.
  std::size_t runs = 1;             ///< At most so many.
};
/// A run that a worker holds, until it is silent for `lease`.
struct ClaimedRun {
  RunId run;
  std::string token;  ///< Says that it is this holding of the run.
  std::uint64_t fence = 0;
  Duration lease{};
  std::string agent, name, space;
  boost::json::value input;
  std::size_t steps = 0;  ///< That are recorded already.
};
using WorkAnswers = std::vector<boost::json::object>;
/// Makes the driver of a run; make_driver, but for tests.
using DriverFactory = std::function<Result<std::unique_ptr<Driver>>(RunOpened const& opening)>;
enum class Resolution : std::uint8_t { Happened, NotHappened, Abandon };

class Engine {
 public:
  /// Neither is owned; both must outlive the engine. Call start() to begin.
  Engine(journal::Journal& journal, tools::ToolSet& tools, Clock const& clock, EngineLimits limits,
         DriverFactory factory = &make_driver);
  ~Engine();  ///< stop(), then ends the thread.
  Engine(Engine const&) = delete;
  Engine& operator=(Engine const&) = delete;

  /// Folds what a former process left: leases end, open effects are treated by their policy.
  [[nodiscard]] Status start();
  /// Takes no new work, lets calls under way end for at most `grace`, then cancels them.
  void stop(Duration grace);

  // What changes something is answered when it is durable.

  /// The same key with the same request is the same run; with another one: Conflict.
  void submit(Asker asker, Submission submission, Reply<Submitted> reply);
  void submit(Asker asker, RunSpec spec, std::string idempotency_key, Reply<Submitted> reply);
  void control(Asker asker, RunId run, Control control, std::string reason, Reply<RunStatus> reply);
  /// Kept if no wait is open for it yet. The same idempotency key again is the same signal.
  void signal(Asker asker, RunId run, SignalReceived signal, Reply<RunStatus> reply);
  /// Answers the open wait of kind human at `path` (empty: the only one).
  void answer(Asker asker, RunId run, std::string path, WaitEnd end, boost::json::value payload,
              Reply<RunStatus> reply);
  /// Settles an effect whose outcome nobody knows (empty: the only one).
  void resolve(Asker asker, RunId run, std::string effect, Resolution resolution,
               boost::json::value result, Reply<RunStatus> reply);
  /// A new run that shares the history before `step`, and is made as `changed` says; else as the
  /// old one, without its deadline and not_before. What can be copied at once is limited by a batch
  /// of the journal: LimitReached.
  void fork(Asker asker, RunId run, std::string step, std::optional<RunSpec> changed,
            Reply<RunId> reply);

  // For workers (docs/worker-protocol.md).

  /// Answered when there is work, or after end_claim(), or when the engine stops: with nothing.
  /// @return Names the claim for end_claim().
  std::uint64_t claim(WorkClaim claim, Reply<std::vector<ClaimedRun>> reply);
  /// A claim that found nothing yet is answered now. Of one that was answered: nothing.
  void end_claim(std::uint64_t claim);
  /// An answer for each message, when all of them have one and it is durable. What takes long is
  /// answered as open when the worker has said something else for a while.
  void work(RunId run, std::string token, std::vector<WorkMessage> messages,
            Reply<WorkAnswers> reply);

  /// A point in the stream "audit": refusals, and what other planes did.
  void note(std::string actor, AuditNoted note);

  // What reads. Blocking calls on the journal: not for a loop; use async::offload.

  [[nodiscard]] Result<std::vector<RunSummary>> list(ListQuery const& query) const;
  [[nodiscard]] Result<RunState> show(RunId const& run) const;
  [[nodiscard]] Result<std::vector<journal::Event>> events(RunId const& run, std::uint64_t after,
                                                           std::size_t count) const;

  /// Looks at the clock now: for those who turned it.
  void look_at_clock();
  /// Called on the engine's loop after events of a run became durable: for streams to clients.
  void on_progress(std::function<void(RunId const&, RunProgress)> listener);

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

}  // namespace aether::jobs
