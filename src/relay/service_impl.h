// SPDX-License-Identifier: Apache-2.0
// The inside of Service, one file for each subject: service.cc (start and stop), service_life.cc
// (what happens to instances), service_swap.cc (asks the swap machine), service_actions.cc
// (performs what it decides),
// service_bound.cc (programs that bind their own port), service_hooks.cc (preflight),
// service_memory.cc (memory), service_check.cc (its rehearsal), service_retire.cc (how revisions
// end), service_status.cc. Private to relay.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/task_group.h"
#include "relay/health_watch.h"
#include "relay/listeners.h"
#include "relay/retirement_machine.h"
#include "relay/service.h"
#include "relay/srp_session.h"
#include "relay/swap_machine.h"
#include "supervise/fd_store.h"
#include "supervise/hook.h"
#include "supervise/instance.h"
#include "supervise/log_book.h"
#include "supervise/restart_policy.h"

namespace aether::relay {

class Service::Impl {
 public:
  Impl(config::Service spec, ServiceDeps deps);
  ~Impl();

  Status open_listeners();
  async::Task<Status> start();
  Result<SwapId> reload(ReloadRequest request);
  void reload_later(ReloadRequest request);
  Result<SwapId> rollback(std::string reason);
  async::Task<SwapReport> verdict(SwapId swap);
  Status signal(int number);
  async::Task<void> stop();
  void hurry();
  [[nodiscard]] ServiceStatus status() const;

  [[nodiscard]] std::string const& name() const { return name_; }
  supervise::LogBook& log_book() { return logs_; }
  [[nodiscard]] std::optional<int> exit_code() const { return exit_code_; }
  void on_ended(std::function<void()> callback) { on_ended_ = std::move(callback); }

 private:
  using InstancePtr = std::unique_ptr<supervise::Instance>;

  /// How the serving process stands when no swap says otherwise.
  enum class Life : std::uint8_t { Pending, Starting, Running, WaitingToRestart, Down, Stopped };

  /// A swap that was asked for while another one ran.
  struct Waiting {
    SwapId id;
    ReloadRequest request;
  };

  /// The copy of the memory that a throwaway process of the new revision is to read.
  struct Check {
    std::string pass;  ///< What that process calls itself.
    std::optional<State> copy;
    bool asked = false;
    std::optional<Status> read;
  };

  /// What is known only while a swap runs.
  struct Current {
    SwapReport report;
    PhaseTimer phases;
    Instant began{};
    /// How the new one ended, if it did: for the hooks.
    std::optional<supervise::EndFacts> next_end;
    std::optional<Instant> bad_news;     ///< When the new one was last known to be sick or gone.
    std::optional<Instant> blind_since;  ///< From here on the old one cannot accept any more.
    std::optional<State> memory;         ///< Exported, in Aether's hands.
    std::optional<State> reclaimed;
    std::optional<Check> check;  ///< While preflight tries the memory.
    bool next_asked = false;
    /// Set when the swap is over: ends the tasks that work for it.
    std::shared_ptr<async::Event> over = std::make_shared<async::Event>();
  };

  /// A revision that no longer serves, on its way to its end.
  struct Retiree {
    Retirement state;
    bool watched = false;                         ///< Its machine waits for its connections to end.
    std::optional<std::size_t> connections = {};  ///< As last counted; absent: cannot be.
    /// Set when nothing of it is left: ends the tasks that watch it.
    std::shared_ptr<async::Event> over = std::make_shared<async::Event>();
  };

  // service_life.cc
  void launch_serving(RevisionId revision, std::string_view reason);
  void on_instance_event(InstanceId instance, supervise::InstanceEvent const& event);
  void on_ready(supervise::Instance const& instance, supervise::event::BecameReady const& ready);
  void on_exited(supervise::Instance const& instance, supervise::event::Exited const& exited);
  void tell_old_exited(RevisionId revision, std::string why);
  async::Task<void> tell_when_buried(SwapId swap, RevisionId revision, std::string why);
  void serving_lost(supervise::ServiceEnd end, std::string why);
  void set_life(Life life);
  async::Task<void> restart_after(Duration wait, RevisionId revision);
  /// The last event of an instance: nothing of its tree lives, it can go.
  async::Task<void> bury(InstanceId instance);
  async::Task<void> until_buried(RevisionId revision);
  async::Task<void> all_buried();
  [[nodiscard]] supervise::Instance* find(RevisionId revision) const;
  [[nodiscard]] Result<supervise::Instance*> launch(RevisionId revision);
  [[nodiscard]] bool alive(RevisionId revision) const;

  // service.cc
  /// What cannot run at all is known before anything is started.
  [[nodiscard]] Status check_command(RevisionId revision) const;
  [[nodiscard]] std::vector<std::string> hook_environment(RevisionId revision) const;

  // service_status.cc
  void tell_state();
  [[nodiscard]] std::string state_name() const;
  [[nodiscard]] InstanceStatus status_of(supervise::Instance const& instance) const;
  [[nodiscard]] DrainStatus status_of(RevisionId revision, Retiree const& retiree) const;
  [[nodiscard]] WallTime wall_time(Instant at) const;

  // service_swap.cc
  [[nodiscard]] Status check_listeners(config::Service const& wanted) const;
  [[nodiscard]] Listeners::Wanted listeners_of(RevisionId revision) const;
  void close_unused_listeners();
  void begin(SwapId id, ReloadRequest request);
  void begin_waiting();
  void drop_waiting(std::string why);
  void post(SwapEvent event);
  void post_for(SwapId swap, SwapEvent event);
  void turn(SwapEvent const& event);
  void notice_silent_loss();
  async::Task<void> tick();
  [[nodiscard]] std::optional<Instant> next_deadline() const;
  void conclude(Verdict verdict, std::string why);
  void remember(SwapReport report);
  /// What is known of revisions that nobody will speak of any more goes.
  void forget_revisions();

  // service_actions.cc
  void perform(action::RunPreflight);
  void perform(action::Launch action);
  void perform(action::SteerTo action);
  Status steer(RevisionId revision);
  async::Task<void> steer_again(RevisionId revision);
  void perform(action::Split action);
  void perform(action::WatchQueue action);
  void perform(action::StartJudge);
  void perform(action::StopJudge);
  void perform(action::Stop action);
  void perform(action::Kill action);
  void post_gone(RevisionId revision);
  void perform(action::RetireLane action);
  void perform(action::Succeed const& action);
  void perform(action::Fail const& action);
  void perform(action::GiveUp const& action);
  async::Task<void> watch_queue(SwapId swap, RevisionId revision);
  async::Task<void> retire_lane(RevisionId revision);
  async::Task<void> close_lane(RevisionId revision);
  /// Runs a task of a swap; it is cancelled when the swap is over.
  void spawn_for_swap(std::string name, async::Task<void> task);
  static async::Task<void> until_over(std::shared_ptr<async::Event> over, async::Task<void> task);

  // service_bound.cc
  /// For programs that bind their own port; none: this one is given all of its listeners.
  [[nodiscard]] std::optional<supervise::OwnBinds> own_binds(InstanceId instance,
                                                             RevisionId revision);
  /// Looks what a program has bound, and steers there if it is its turn.
  void look_at(supervise::Instance const& instance);
  async::Task<void> watch_bound();

  // service_retire.cc
  void perform(action::Retire action);
  void tell_retiree(RevisionId revision, RetirementEvent event);
  void carry_out(RevisionId revision, RetirementActions const& actions);
  void stop_retiree(RevisionId revision);
  void kill_retiree(RevisionId revision);
  void stop_instance(supervise::Instance& instance, Duration limit);
  void tick_retirees();
  async::Task<void> watch_retiree_queue(RevisionId revision);
  async::Task<void> count_use(RevisionId revision, std::shared_ptr<async::Event> over);
  /// How many of its connections are open; one that has none gives way from then on.
  async::Task<void> count_once(RevisionId revision, std::shared_ptr<async::Event> over);
  [[nodiscard]] bool drains() const;
  /// The oldest retirees that are in the way of one more revision are hurried.
  void make_room(int max);
  async::Task<void> until_there_is_room(int max);

  // service_hooks.cc
  async::Task<void> preflight(SwapId swap, RevisionId next);
  [[nodiscard]] supervise::HookSpec hook_run(config::Hook const& hook,
                                             config::Service const& service, RevisionId revision,
                                             std::vector<std::string> environment);
  async::Task<void> run_hooks(std::vector<config::Hook> hooks, config::Service service,
                              RevisionId revision, std::vector<std::string> environment);

  // service_memory.cc
  Status open_state_socket();
  [[nodiscard]] Status give_state_socket_to_its_user() const;
  [[nodiscard]] Result<InstanceId> identify(PeerIdentity const& peer) const;
  [[nodiscard]] HelloAnswer describe(InstanceId instance) const;
  void on_hello(InstanceId instance);
  void on_load(InstanceId instance);
  Result<SrpListener> on_listen(InstanceId instance, std::string const& address);
  void perform(action::ExportMemory action);
  void perform(action::DeliverMemory action);
  void perform(action::Release action);
  void perform(action::ReclaimMemory action);
  void perform(action::Resume action);
  /// What the swap moved is kept for whoever serves next, should nobody else have it any more.
  void keep_memory();
  async::Task<void> export_memory(SwapId swap, RevisionId from);
  async::Task<bool> has_died(RevisionId revision) const;
  async::Task<void> deliver_memory(SwapId swap, RevisionId to, std::optional<State> memory);
  async::Task<void> reclaim_memory(SwapId swap, RevisionId from);
  async::Task<void> release(RevisionId revision);
  async::Task<void> resume(RevisionId revision, std::optional<State> memory,
                           std::shared_ptr<async::Event> done);
  async::Task<void> answer_outside_swap(InstanceId instance);
  /// Its connections are to end by themselves from now on, by the deadline of the drain.
  void announce_drain(RevisionId revision, Duration deadline);
  async::Task<void> tell_drain(RevisionId revision, Duration deadline,
                               std::optional<Duration> spread);
  void ready_after_memory(InstanceId instance);
  async::Task<void> mark_ready_after_memory(InstanceId instance);
  [[nodiscard]] std::shared_ptr<SrpSession> session(RevisionId revision) const;
  [[nodiscard]] bool holds_memory(RevisionId revision) const;

  // service_check.cc
  [[nodiscard]] async::Task<Status> check_state(SwapId swap);
  [[nodiscard]] Status check_verdict(Check const& check, Status const& ended) const;
  [[nodiscard]] async::Task<Result<std::optional<State>>> copy_memory(RevisionId from);
  [[nodiscard]] std::optional<InstanceId> identify_check(PeerIdentity const& peer) const;
  [[nodiscard]] static bool is_check(InstanceId id);
  [[nodiscard]] HelloAnswer describe_check() const;
  void on_check_load();
  async::Task<void> deliver_copy(SwapId swap);

  std::string name_;
  ServiceDeps deps_;
  async::TaskGroup tasks_;
  supervise::FdStore fd_store_;  ///< Outlives the instances; emptied when the service stops.
  supervise::LogBook logs_;
  supervise::RestartPolicy restart_policy_;
  Listeners listeners_;
  steer::Rescue rescue_;  ///< Carries what waits for a revision that died to the one that serves.
  std::unique_ptr<SrpServer> srp_;
  std::string state_socket_;
  std::set<RevisionId> with_memory_;       ///< Revisions that said they can hand over memory.
  std::optional<State> orphaned_memory_;   ///< Of a swap whose processes all died.
  std::shared_ptr<async::Event> resumed_;  ///< Set when the last RESUME has been answered.
  HealthWatch health_;
  LazyThread counting_;  ///< Counts connections of those that drain.

  std::map<RevisionId, config::Service> specs_;  ///< Of living revisions and of the one before.
  std::map<InstanceId, InstancePtr> instances_;
  std::map<RevisionId, Retiree> retirees_;  ///< Oldest first.
  RevisionId serving_;
  RevisionId previous_;  ///< What a rollback without a running swap goes back to; 0: none.
  std::uint64_t revisions_ = 0;
  std::uint64_t swaps_ = 0;
  std::uint64_t restarts_ = 0;
  Life life_ = Life::Pending;
  bool stopping_ = false;
  std::string told_state_;
  std::optional<std::string> problem_;
  ErrorCode problem_code_ = ErrorCode::ExitedEarly;  ///< Of `problem_`.
  std::optional<int> exit_code_;
  async::Event life_changed_;
  async::Event buried_;
  async::Event bound_changed_;        ///< Somebody may serve who did not, or the other way round.
  Instant stop_by_ = Instant::max();  ///< What has not ended when Aether stops is left behind then.
  std::string_view restart_reason_ = "crash";
  std::uint64_t restart_round_ = 0;  ///< A restart that was planned before this number is void.

  SwapState swap_ = Idle{};
  SwapPolicy policy_;
  std::optional<Current> current_;
  std::deque<SwapEvent> inbox_;
  bool turning_ = false;
  async::Event deadline_changed_;
  std::optional<Waiting> waiting_;
  std::deque<SwapReport> reports_;  ///< The last kReportsMax, oldest first.
  async::Event verdict_told_;
  std::function<void()> on_ended_;
  /// For what may call after the service has gone; last, so that it goes first.
  std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
};

}  // namespace aether::relay
