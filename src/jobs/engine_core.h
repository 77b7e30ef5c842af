// SPDX-License-Identifier: Apache-2.0
// Inside of the engine: what lives on its loop. Only the engine's files include this.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "async/event.h"
#include "async/loop.h"
#include "async/task_group.h"
#include "jobs/engine.h"
#include "jobs/run_actor.h"
#include "jobs/scheduler.h"
#include "journal/sharing.h"

namespace aether::jobs {

/// Times of waiting runs that are held in memory; the later ones stay in the journal's index.
inline constexpr std::size_t kDueWindow = 10'000;

/// Work for the loop from other threads: many posts, one wake-up.
class Mail {
 public:
  using Work = std::move_only_function<void()>;
  explicit Mail(async::Executor executor) : executor_(std::move(executor)) {}
  void post(Work work);
  [[nodiscard]] async::Executor const& executor() const { return executor_; }

 private:
  void drain();
  async::Executor executor_;
  std::mutex mutex_;
  std::vector<Work> waiting_;
};

/// Random bytes of the kernel, fetched in blocks. One thread.
class RandomBytes {
 public:
  [[nodiscard]] std::string take(std::size_t count);

 private:
  std::string block_;
  std::size_t used_ = 0;
};

/// What asks for new work hears when none is taken any more.
[[nodiscard]] Failure is_stopping();

class EngineCore {
 public:
  EngineCore(journal::Journal& journal, tools::ToolSet& tools, Clock const& clock,
             EngineLimits limits, DriverFactory factory, async::Executor executor);
  ~EngineCore();
  EngineCore(EngineCore const&) = delete;
  EngineCore& operator=(EngineCore const&) = delete;

  [[nodiscard]] Status start();
  [[nodiscard]] async::Task<void> stop(Duration grace);

  void submit(Asker asker, RunOpened opening, Reply<Submitted> reply);
  void deliver(RunId const& run, Input input);
  void fork(Asker asker, RunId run, std::string step, std::optional<RunSpec> changed,
            Reply<RunId> reply);
  void note(std::string actor, AuditNoted note);
  // engine_work.cc
  void claim(std::uint64_t id, WorkClaim claim, Reply<std::vector<ClaimedRun>> reply);
  void end_claim(std::uint64_t id);
  void end_claims_of(std::string const& worker);
  void work(RunId const& run, std::string const& token, std::vector<WorkMessage> messages,
            Reply<WorkAnswers> reply);
  [[nodiscard]] std::string make_token();
  /// Begins what can begin; called after anything that may have changed that.
  void schedule();

  // For actors.
  [[nodiscard]] TurnWorld const& world();
  [[nodiscard]] RunId make_run();
  [[nodiscard]] Result<std::unique_ptr<Driver>> make_driver(RunState const& state) const;
  /// The run has work. On a shared store it is claimed first, here or elsewhere.
  void offer(ReadyRun run);
  void release(RunActor& actor);
  void lease_taken(RunId const& run, std::uint64_t fence) { (void)scheduler_.leased(run, fence); }
  /// The run's next time, as its row says.
  void appoint(RunId const& run, std::optional<WallTime> at);
  void retire(RunActor& actor);
  void retry_later(RunId run);
  void tell(RunId const& run, RunProgress progress);
  void listen(std::function<void(RunId const&, RunProgress)> listener);

  /// Other engines work on the same store: what of a run is not leased here may be elsewhere.
  [[nodiscard]] bool is_shared() const { return sharing_ != nullptr; }

  journal::Journal& journal;
  tools::ToolSet& tools;
  Clock const& clock;
  EngineLimits const limits;
  SaltSource const salts;
  std::shared_ptr<Mail> mail;
  std::string holder;    ///< Of leases: this process.
  WallTime const began;  ///< Leases of before are those of processes that are gone.
  bool stopping = false;
  std::size_t appends_in_flight = 0;

 private:
  /// A worker that waits for work.
  struct WaitingClaim {
    std::uint64_t id = 0;
    WorkClaim claim;
    Reply<std::vector<ClaimedRun>> reply;
  };
  void serve_claims();
  bool serve(WaitingClaim& waiting);
  void take_late(RunId const& run, std::vector<WorkMessage> messages, Reply<WorkAnswers> reply);
  /// The lease of a worker goes on from when it was last heard of. False: there is none.
  bool renew_worker(RunActor& actor, std::uint64_t fence);
  void drop_workers(bool all);

  RunActor* find_or_load(RunId const& run, Error* why);
  void perform(BeginRun const& begin);
  void perform(WakeRun const& wake);
  void perform(RenewLease const& renew);
  void perform(ReclaimRun const& reclaim);
  void submitted(Submitted done, ReadyRun ready, RunRows const& rows, Reply<Submitted> reply);
  void submitted_before(RunOpened const& opening, Reply<Submitted> reply);
  /// Its state, and the batch that makes it.
  Result<RunState> prepare_fork(std::string const& actor, RunId const& run, std::string const& step,
                                std::optional<RunSpec> changed, journal::Batch& batch);
  // On a shared store.
  Status begin_sharing();
  /// Says how much may be claimed for this engine and the workers that wait at it, and gives back
  /// what was claimed for workers that wait no more.
  void want_work();
  void give_back(RunId const& run);
  void claimed(std::vector<journal::Record> rows);
  void heard(std::string const& run);
  /// What happened by time, or to a run above another, and its process did not live to see.
  void keep();
  Status keep_times();
  Status keep_wakes();

  Status read_ready();
  Status read_due();
  Status read_wakes();
  /// Of a run below the one that the row is about, or above it.
  void deliver_wake(journal::Record const& row);
  [[nodiscard]] Result<std::optional<KeyHolder>> key_holder(std::string const& key);
  [[nodiscard]] Result<std::optional<ChildEnd>> child_end(RunId const& run);
  async::Task<void> keep_time();
  void sweep();

  DriverFactory factory_;
  RandomBytes random_;
  Scheduler scheduler_;
  std::optional<TurnWorld> world_;
  std::unordered_map<std::string, std::unique_ptr<RunActor>> actors_;
  std::vector<std::unique_ptr<RunActor>> gone_;  ///< Until their last frames are.
  std::function<void(RunId const&, RunProgress)> listener_;
  std::deque<WaitingClaim> claims_;
  std::optional<std::string> due_after_;  ///< The index has more, after this key.
  async::Event wake_;
  async::Event idle_;
  std::optional<WallTime> armed_;
  journal::Sharing* const sharing_;  ///< Null: the store is this engine's alone.
  std::unordered_map<std::string, std::string> claimed_keys_;  ///< Of runs: the rows claimed.
  std::uint64_t rows_seen_ = 0;                                ///< Of those claimed.
  std::map<std::string, Instant> kept_;  ///< Rows that keep() saw, and when it told of them.
  bool scheduling_ = false;
  bool again_ = false;
  async::TaskGroup group_;
};

}  // namespace aether::jobs
