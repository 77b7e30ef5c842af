// SPDX-License-Identifier: Apache-2.0
// The inside of Function, one file for each subject: function.cc (open, deploy, rollback, stop),
// function_revision.cc (how a revision is made ready), function_instances.cc (how instances come
// and go), function_ready.cc (when they serve), function_pool.cc (asks the pool machine and
// performs what it decides), function_way.cc (how requests reach them), function_bind.cc
// (instances that bind the port that is documented), function_image.cc (images),
// function_ring.cc (the same with ipc: ring), function_describe.cc
// (status). Private to functions.
#pragma once
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/task_group.h"
#include "functions/autoscaler.h"
#include "functions/direct_way.h"
#include "functions/function.h"
#include "functions/gateway.h"
#include "functions/handler_ring.h"
#include "functions/image_launcher.h"
#include "functions/pool_machine.h"
#include "functions/ready_socket.h"
#include "functions/template_worker.h"
#include "os/temp_dir.h"
#include "steer/bind_rewriter.h"
#include "supervise/instance.h"
#include "supervise/log_book.h"

namespace aether::functions {

/// For an instance that was asked to end.
inline constexpr Duration kStopTimeout = std::chrono::seconds(5);

/// A message, and below it what the handler wrote last.
[[nodiscard]] std::string with_last_lines(std::string text, std::vector<std::string> const& lines);

class Function::Impl {
 public:
  Impl(FunctionSpec spec, std::uint64_t number, FunctionDeps deps);
  ~Impl();

  Status open();
  async::Task<Result<Deployed>> deploy(FunctionSpec spec);
  Result<Deployed> rollback();
  async::Task<void> stop(Duration limit);
  void hurry();
  void wanted(std::uint32_t waiting);
  void busy(InstanceId instance, std::uint32_t in_flight);
  void timed_out(InstanceId instance);
  void unreachable(InstanceId instance, std::string why);
  [[nodiscard]] FunctionStatus status() const;

  std::string const id_;
  FunctionSpec spec_;
  supervise::LogBook logs_;

 private:
  /// One process that lives, or has just ended.
  struct Live;
  /// One immutable version: what it takes to make instances of it.
  struct Revision {
    RevisionId id;
    FunctionSpec spec;
    config::Command command;
    bool binds_documented = false;  ///< Instances are told trigger_port; the kernel hides theirs.
    /// Where its first process listens. Without binds_documented that is what it was told.
    std::uint16_t port = 0;
    Making making = Making::Spawn;
    std::vector<std::string> not_cloneable;
    std::vector<std::string> notes;
    std::unique_ptr<TemplateWorker> worker;  ///< With `making` Copy.
    ImageLauncher::StoredPtr image;          ///< With `launch: image`, which needs no template.
    InstanceId original;                     ///< The template's process; 0: none.
    bool has_hook = false;
    int faults = 0;            ///< Copies that failed, one after another.
    bool own_numbers = false;  ///< Its first process is the first of a pid namespace.
  };
  using RevisionPtr = std::shared_ptr<Revision>;
  struct Live {
    RevisionPtr revision;
    std::unique_ptr<supervise::Instance> instance;
    std::uint16_t port = 0;
    std::optional<steer::BindRewriter> binds;  ///< Of one that was spawned to bind trigger_port.
    std::vector<os::UniqueFd> listeners;       ///< Its own, where the kernel is told of them.
    std::shared_ptr<HandlerRing> ring;         ///< With `ipc: ring`.
    StartTier made = StartTier::Cold;
    WallTime since{};
    std::uint32_t in_flight = 0;
    bool ready_said = false;
    bool offered = false;  ///< Takes requests, as far as we decide that.
    bool watched = false;  ///< A task counts its connections.
    std::string asked;     ///< What its `ready: {http: ...}` was answered last.
    bool ending = false;   ///< We asked for its end.
    std::string reason;    ///< Why we did, if its requests are to be told.
    std::optional<supervise::event::Exited> exited;
    async::Event moved;  ///< It said READY, or ended.
  };

  // function_revision.cc
  [[nodiscard]] Status check(config::Function const& function) const;
  async::Task<Result<RevisionPtr>> prepare(FunctionSpec spec);
  /// As prepare(), one at a time.
  async::Task<Result<RevisionPtr>> prepare_alone(FunctionSpec spec);
  /// Makes it the template of its revision; the fault says why it cannot be.
  async::Task<Status> freeze(RevisionPtr revision, InstanceId instance);
  async::Task<void> tell_snapshot(RevisionPtr revision, InstanceId instance);
  /// False if it did not come to rest for long.
  async::Task<bool> until_at_rest(pid_t pid);
  async::Task<Status> warm_up(RevisionPtr revision, std::uint16_t port);
  void watch_original_end(RevisionPtr const& revision, std::string why);
  /// Until the template ends: where it has several threads, its end shows only if it is looked for.
  async::Task<void> watch_template(RevisionPtr revision);
  /// A copy was made, or could not be.
  void judge_template(RevisionPtr const& revision, std::optional<Error> const& fault);
  async::Task<void> remake(FunctionSpec spec);
  void drop_revision(RevisionId revision);
  async::Task<void> end_original(RevisionPtr revision);
  [[nodiscard]] PoolPolicy policy_of(Revision const& revision) const;

  // function_instances.cc
  [[nodiscard]] supervise::LaunchSpec launch_spec(Revision const& revision, InstanceId instance,
                                                  std::uint16_t port) const;
  [[nodiscard]] supervise::InstanceWorld world();
  /// A process that was executed; it may need long to be ready.
  [[nodiscard]] Result<Live*> spawn(RevisionPtr revision, InstanceId instance);
  async::Task<Result<Live*>> copy(RevisionPtr revision, InstanceId instance, Duration limit);
  void on_event(InstanceId instance, supervise::InstanceEvent const& event);
  void on_exited(InstanceId instance, Live& live, supervise::event::Exited const& exited);
  async::Task<void> bury(InstanceId instance);
  void on_ready_word(pid_t pid);
  [[nodiscard]] Live* find(InstanceId instance);
  void end(Live& live);

  // function_ready.cc
  async::Task<Status> until_serving(InstanceId instance, Duration limit);
  [[nodiscard]] bool takes_connections(Live& live) const;
  [[nodiscard]] std::string late_hint(Live const& live) const;
  [[nodiscard]] Failure not_ready(InstanceId instance, Duration limit);
  async::Task<bool> answers_ready(InstanceId instance, std::string path);
  struct Answered {
    int status = 0;   ///< 0: none.
    std::string why;  ///< There is none.
  };
  /// GET `path` of a process that is not offered yet.
  async::Task<Answered> ask_ring(std::shared_ptr<HandlerRing> ring, std::string path,
                                 Duration limit);
  /// GET `path` of that revision's process.
  async::Task<Answered> ask(RevisionPtr revision, std::uint16_t port, std::string path,
                            Duration limit);

  // function_ring.cc
  [[nodiscard]] static bool has_ring(Revision const& revision);
  /// None without `ipc: ring`.
  [[nodiscard]] Result<std::shared_ptr<HandlerRing>> make_ring(Revision const& revision) const;

  // function_image.cc
  /// Finds the image of the revision, or makes one of a process that it starts for that.
  /// ImageFailed and others: it could not be made, or not be restored.
  async::Task<Status> prepare_image(RevisionPtr revision);
  async::Task<Result<RevisionPtr>> prepare_with_image(RevisionPtr revision);
  async::Task<Status> make_image(RevisionPtr revision, std::vector<std::string> facts);
  /// Restores one for a moment.
  async::Task<Status> prove_image(RevisionPtr revision);
  async::Task<Result<Live*>> restore(RevisionPtr revision, InstanceId instance, Duration limit);
  /// Lets a CRIU wait for the next restore.
  async::Task<void> prepare_restore(RevisionPtr revision);
  async::Task<void> drop_old_images();
  [[nodiscard]] static bool is_copied(Revision const& revision) {
    return revision.making == Making::Copy && (revision.worker || revision.image);
  }
  /// The pool knows copies only.
  [[nodiscard]] static StartTier shown_tier(StartTier tier, Revision const& revision) {
    return tier == StartTier::Clone && revision.image ? StartTier::Image : tier;
  }

  // function_bind.cc
  /// Whether instances bind trigger_port themselves: BpfUnavailable if they are to and cannot.
  [[nodiscard]] Result<bool> choose_bind(config::Function const& function,
                                         std::vector<std::string>& notes) const;
  /// Lets the process that is launched with it bind the port; `binds` is kept with the process.
  [[nodiscard]] Result<supervise::OwnBinds> own_binds(
      std::shared_ptr<std::optional<steer::BindRewriter>> binds) const;
  /// Finds what it has bound. False: not the port, yet.
  [[nodiscard]] bool find_listener(Live& live) const;
  /// A copy has a listener like its original's, on a port of its own: the kernel is to know it.
  [[nodiscard]] Status take_listener(Live& live, FreshCopy const& copy) const;
  /// Direct, and each instance has a listener of its own.
  [[nodiscard]] bool is_looked_up() const { return direct_ && direct_->has_own_listeners(); }

  // function_way.cc
  [[nodiscard]] bool is_direct() const { return direct_ != nullptr; }
  [[nodiscard]] Status open_way();
  /// Where it is reached cannot change while it runs.
  [[nodiscard]] Status check_way(config::Function const& next) const;
  async::Task<void> close_way(Duration limit);
  [[nodiscard]] Status steer_way(RevisionId revision);
  void refuse_waiting(std::string const& why);
  void offer_way(InstanceId instance, Live& live, StartTier tier);
  void withdraw_way(InstanceId instance, BackendEnd why);
  [[nodiscard]] RequestCounts request_counts() const;
  /// Freezes it, and counts its connections when nothing of it runs any more. None: it is gone.
  async::Task<std::optional<std::uint32_t>> hold(InstanceId instance);
  async::Task<void> drain_direct(InstanceId instance);
  async::Task<void> end_unused(InstanceId instance);
  async::Task<void> watch_use(InstanceId instance);
  async::Task<void> watch_first_use(InstanceId instance);
  async::Task<std::optional<std::uint32_t>> count_use(InstanceId instance);
  [[nodiscard]] static bool heeds_term(Live const& live);

  // function_pool.cc
  void happen(PoolInput input);
  void perform(pool::Start const& start);
  void perform(pool::Freeze freeze);
  void perform(pool::Thaw thaw);
  void perform(pool::Offer offer);
  void perform(pool::Withdraw withdraw);
  void perform(pool::End const& end);
  void perform(pool::FailWaiting const& fail);
  void perform(pool::DropRevision drop);
  async::Task<void> start(pool::Start order);
  async::Task<void> park(InstanceId instance);
  async::Task<void> drain(InstanceId instance);
  async::Task<void> tick();
  async::Task<void> scale();
  [[nodiscard]] std::uint32_t load() const;
  [[nodiscard]] RevisionPtr revision_of(RevisionId revision) const;

  // function_describe.cc
  [[nodiscard]] FunctionInstanceStatus status_of(InstanceId instance, Live const& live) const;
  [[nodiscard]] RouteSpec route() const;
  [[nodiscard]] AutoscalerPolicy scaling() const;
  /// The rest of stop().
  async::Task<void> until_empty(Instant deadline);

  FunctionDeps deps_;
  std::string socket_path_;
  std::optional<os::TempDir> scratch_;  ///< What a strict handler may write to.
  std::unique_ptr<ReadySocket> ready_;
  std::unique_ptr<ImageLauncher> images_;  ///< From the first revision on that has one.
  std::unique_ptr<DirectWay> direct_;      ///< None: the gateway's.
  PoolMachine pool_;
  Autoscaler autoscaler_;
  std::deque<PoolInput> inputs_;
  bool performing_ = false;
  std::map<InstanceId, std::unique_ptr<Live>> lives_;
  std::map<RevisionId, RevisionPtr> revisions_;
  std::uint64_t last_revision_ = 0;
  std::array<StartCounts, 5> starts_;
  std::uint64_t crashes_ = 0;
  std::uint64_t out_of_memory_ = 0;
  std::optional<std::string> problem_;
  Instant retry_at_{Instant::max()};  ///< None was ready yet, and one failed.
  bool deploying_ = false;
  bool opened_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  async::Event moved_;  ///< The pool has moved, or a process was buried.
  async::TaskGroup tasks_;
};

}  // namespace aether::functions
