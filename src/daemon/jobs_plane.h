// SPDX-License-Identifier: Apache-2.0
// Jobs: the journal, the tools and the engine of one Aether, for its API. Owns the key that signs.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/jobs_plane.h"
#include "async/offload.h"
#include "async/task.h"
#include "async/task_group.h"
#include "base/time.h"
#include "config/config.h"
#include "daemon/counted_journal.h"
#include "journal/journal.h"
#include "journal/signer.h"
#include "os/unique_fd.h"
#include "supervise/known_children.h"
#include "tools/function_tool.h"
#include "tools/tool.h"

namespace aether::daemon {

/// Where functions are called, told to the jobs' thread.
class KnownPorts final : public tools::FunctionPorts {
 public:
  void set(std::map<std::string, std::uint16_t, std::less<>> ports);
  [[nodiscard]] Result<std::uint16_t> port_of(std::string_view function) const override;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::uint16_t, std::less<>> ports_;
};

class Jobs final : public api::JobsPlane {
 public:
  /// Opens the store and makes the tools. `known` outlives it.
  [[nodiscard]] static Result<std::unique_ptr<Jobs>> open(config::Config const& config,
                                                          async::Executor executor,
                                                          Clock const& clock,
                                                          supervise::KnownChildren& known);
  ~Jobs() override;

  /// Goes on with what a former process left: the first calls may be made at once.
  [[nodiscard]] Status start();
  /// Signs the journal from time to time and keeps the schedules, until it is stopped.
  void begin();
  /// Lets calls under way end, then signs a last time. Call it before the functions stop.
  [[nodiscard]] async::Task<void> stop();
  /// After each change of the functions.
  void set_functions(std::vector<config::Function> const& functions);
  /// At a reload: jobs that come from now on see these. ConfigInvalid: those that are, stay.
  [[nodiscard]] Status set_agents(std::vector<config::Agent> agents);
  /// The worker's end of a line over which it asks for work; served until it is closed.
  [[nodiscard]] Result<os::UniqueFd> open_line(std::string service, std::function<void()> on_claim);
  /// A swap's verdict, as the API tells it.
  void record_swap(std::string const& swap_json);

  // api::JobsPlane
  [[nodiscard]] async::Task<jobs::Submitted> submit(jobs::Asker asker,
                                                    jobs::Submission submission) override;
  [[nodiscard]] async::Task<jobs::RunStatus> control(jobs::Asker asker, jobs::RunId run,
                                                     jobs::Control control,
                                                     std::string reason) override;
  [[nodiscard]] async::Task<jobs::RunStatus> signal(jobs::Asker asker, jobs::RunId run,
                                                    jobs::SignalReceived signal) override;
  [[nodiscard]] async::Task<jobs::RunStatus> answer(jobs::Asker asker, jobs::RunId run,
                                                    std::string path, jobs::WaitEnd end,
                                                    boost::json::value payload) override;
  [[nodiscard]] async::Task<jobs::RunStatus> resolve(jobs::Asker asker, jobs::RunId run,
                                                     std::string effect,
                                                     jobs::Resolution resolution,
                                                     boost::json::value result) override;
  [[nodiscard]] async::Task<jobs::RunId> fork(jobs::Asker asker, jobs::RunId run, std::string step,
                                              jobs::RunSpec spec) override;
  [[nodiscard]] async::Task<api::Erasure> erase(jobs::Asker asker, jobs::RunId run,
                                                std::string reason) override;
  [[nodiscard]] async::Task<std::vector<jobs::ClaimedRun>> claim(jobs::WorkClaim claim,
                                                                 Duration wait) override;
  [[nodiscard]] async::Task<jobs::WorkAnswers> work(
      jobs::RunId run, std::string token, std::vector<jobs::WorkMessage> messages) override;
  void note(std::string actor, jobs::AuditNoted note) override;
  [[nodiscard]] async::Task<std::vector<jobs::RunSummary>> list(jobs::ListQuery query) override;
  [[nodiscard]] async::Task<jobs::RunState> show(jobs::RunId run) override;
  [[nodiscard]] async::Task<std::vector<journal::Event>> events(jobs::RunId run,
                                                                std::uint64_t after,
                                                                std::size_t count) override;
  [[nodiscard]] async::Task<std::string> trace(jobs::RunId run, api::TraceForm form) override;
  [[nodiscard]] async::Task<boost::json::value> replay(jobs::RunId run) override;
  [[nodiscard]] async::Task<std::string> evidence(jobs::RunId run) override;
  [[nodiscard]] async::Task<std::string> checkpoint(std::optional<std::uint64_t> old_size) override;
  [[nodiscard]] std::shared_ptr<api::RunWatch> watch(jobs::RunId const& run) override;
  [[nodiscard]] api::JobCounts counts() const override;
  [[nodiscard]] Result<boost::json::value> agent(std::string_view name) const override;

 private:
  Jobs(async::Executor executor, Clock const& clock, std::unique_ptr<journal::Journal> journal,
       std::string store, journal::Signer signer);

  [[nodiscard]] Status set_schedules(std::vector<config::Schedule> schedules);
  [[nodiscard]] Result<jobs::Submission> job_of(config::Schedule const& schedule,
                                                WallTime time) const;
  async::Task<void> keep_schedule(config::Schedule schedule);
  /// Makes the job that is due at `time`. What is wrong with it goes to the log.
  async::Task<void> submit_scheduled(config::Schedule const* schedule, WallTime time);
  async::Task<void> sign_now_and_then();
  async::Task<void> sign();
  void progressed(jobs::RunId const& run, jobs::RunProgress progress);
  void tell_watchers(jobs::RunId const& run, jobs::RunProgress progress);
  async::Task<void> look_how_far(jobs::RunId run);
  /// On a shared store: steps of runs that other processes work on are told by nobody.
  async::Task<void> look_at_watched();

  async::Executor executor_;
  Clock const& clock_;
  std::unique_ptr<CountedJournal> journal_;
  std::string store_;  ///< Its file; empty: it has none.
  journal::Signer signer_;
  std::uint64_t signed_size_ = 0;
  KnownPorts ports_;
  std::unique_ptr<tools::ToolSet> tools_;
  std::unique_ptr<jobs::Engine> engine_;
  std::vector<config::Agent> agents_;
  std::vector<config::Schedule> schedules_;
  std::map<std::string, std::weak_ptr<api::RunWatch>, std::less<>> watches_;
  std::atomic<std::size_t> watching_{0};  ///< So that the engine posts nothing for nobody.
  async::TaskGroup tasks_;
  async::ThreadPool readers_;  ///< Reading waits for the disk.
};

}  // namespace aether::daemon
