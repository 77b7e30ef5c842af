// SPDX-License-Identifier: Apache-2.0
// RunActor: a run that something is done for right now. Owns its state, the one batch that is on
// its way, and its calls; lets go of all of it when the run waits. The engine's loop only.
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "async/task_group.h"
#include "jobs/code_driver.h"
#include "jobs/run_rows.h"
#include "jobs/run_turn.h"

namespace aether::jobs {

class EngineCore;

/// A fact on its way to a run, and who is told when it is durable.
struct Input {
  std::string actor;
  Fact fact;
  Reply<RunStatus> reply{};
};

/// Of the run above, which waits no more.
[[nodiscard]] inline Input cancel_from(RunId parent) {
  return {.actor = {},
          .fact = ControlCame{.control = Control::Cancel,
                              .reason = "the run above it waits no more",
                              .from = std::move(parent)}};
}

/// What a worker's step.end says of its call.
[[nodiscard]] CallEnded ended_of(WorkMessage const& message);

/// A worker that holds the run, as long as it does.
struct WorkSession {
  struct Frame {  ///< What it asked in one breath.
    std::vector<std::optional<boost::json::object>> answers;
    std::size_t missing = 0;
    WallTime since;
    Reply<WorkAnswers> reply;
  };
  std::string worker, token;
  WallTime heard;             ///< Of it, last.
  Reply<ClaimedRun> claimed;  ///< Until its lease is durable.
  std::map<std::uint64_t, Frame> frames;
  std::uint64_t frames_made = 0;
};

class RunActor {
 public:
  RunActor(EngineCore& core, RunState state);
  RunActor(RunActor const&) = delete;
  RunActor& operator=(RunActor const&) = delete;

  void deliver(Input input);
  /// The scheduler gave it a place until then.
  void begin(WallTime lease_until);
  void renew(WallTime lease_until);
  // For a run of an agent with code: run_work.cc.
  /// A worker has claimed it; answered when that is durable.
  void begin_work(std::string worker, WallTime lease_until, Reply<ClaimedRun> reply);
  [[nodiscard]] bool has_worker() const { return work_ != nullptr; }
  [[nodiscard]] bool is_held_with(std::string_view token) const {
    return work_ != nullptr && work_->token == token;
  }
  [[nodiscard]] WallTime heard_of_worker() const { return work_->heard; }
  [[nodiscard]] std::string const& worker() const { return work_->worker; }
  /// It calls nothing at the moment.
  [[nodiscard]] bool is_worker_quiet() const { return memory_.with_worker.empty(); }
  void work(std::vector<WorkMessage> messages, Reply<WorkAnswers> reply);
  /// What it still calls may be answered later, by token.
  void lose_worker(GiveBack why, std::string const& detail);
  /// Another engine may have appended to it: it is read again.
  void look_again();
  /// Asks the calls under way to end.
  void cancel_calls();
  /// Does not try again what the store refuses.
  void give_up();
  [[nodiscard]] bool waits_to_retry() const { return waits_to_retry_; }
  /// Nothing is on its way any more.
  [[nodiscard]] bool is_idle() const;
  /// The last frames of its calls are gone, too.
  [[nodiscard]] bool is_gone() const { return !group_ || group_->size() == 0; }
  [[nodiscard]] RunId const& id() const { return state_.id; }
  [[nodiscard]] RunState const& state() const { return state_; }
  [[nodiscard]] bool is_leased() const { return leased_; }

 private:
  void turn();
  Status fill(RunTurn& turn);
  Status take_lease(RunTurn& turn);
  Status apply_inputs(RunTurn& turn);
  void append(RunTurn turn);
  void appended(Result<journal::AppendOutcome> outcome);
  void refused(journal::Refusal const& refusal);
  /// What was decided did not happen; what came before it is kept, and is tried again later.
  void failed(Error const& error);
  bool reload();
  void drop_lease();
  void retry_later();
  void tell_relatives(bool has_new);
  void begin_calls(bool is_cut);
  void answer_all(std::vector<Input>& inputs);
  void start(PlannedCall planned);
  void returned(PlannedCall const& planned, tools::CallResult result, SettledBy by);
  void not_made(PlannedCall const& planned, std::string why, SettledBy by);
  static async::Task<void> perform(RunActor* self, tools::Tool* tool, PlannedCall planned);
  void answer_worker();
  void answer_claim();
  void end_work(boost::json::object const& answer);
  void answer_old_frames();
  [[nodiscard]] CodeDriver* code() const { return dynamic_cast<CodeDriver*>(driver_.get()); }
  void settle_down();
  void appoint();
  [[nodiscard]] bool is_with_another() const;

  EngineCore& core_;
  RunState state_;
  std::uint64_t durable_ = 0;  ///< Sequence of the last durable event.
  RunRows rows_;
  RunRows rows_next_;
  std::unique_ptr<Driver> driver_;
  TurnMemory memory_;
  std::unique_ptr<WorkSession> work_;
  std::unique_ptr<async::TaskGroup> group_;
  std::deque<Input> inputs_;
  std::vector<Input> taken_;  ///< Of them, those in the batch on its way.
  std::vector<PlannedCall> calls_next_;
  std::vector<ReadyRun> children_next_;
  std::vector<RunId> cancelled_next_;  ///< Children of a cancelled run.
  WallTime lease_until_;
  std::size_t calls_running_ = 0;
  int failures_ = 0;
  int refusals_ = 0;
  bool leased_ = false;
  bool lease_recorded_ = false;
  bool takes_lease_ = false;  ///< The batch that is decided, or on its way, has the lease in it.
  bool appending_ = false;
  bool turning_ = false;
  bool cancels_next_ = false;
  bool has_more_ = false;
  bool asks_more_ = false;  ///< A turn was wanted while one was on its way.
  bool waits_to_retry_ = false;
  bool is_astray_ = false;  ///< What it holds is not what the journal has: to be read again first.
  bool is_behind_ = false;  ///< What is on its way was decided before look_again().
  bool is_retired_ = false;
};

}  // namespace aether::jobs
