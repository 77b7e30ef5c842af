// SPDX-License-Identifier: Apache-2.0
// Daemon: builds the parts from a configuration and runs them: services in their order, the API,
// the duties of PID 1. One per process; everything on one loop.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/control_plane.h"
#include "api/events.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "async/event.h"
#include "async/loop.h"
#include "async/task_group.h"
#include "base/time.h"
#include "config/config.h"
#include "daemon/jobs_plane.h"
#include "daemon/outer_manager.h"
#include "daemon/packet_watch.h"
#include "daemon/runtime_dir.h"
#include "daemon/tokens.h"
#include "functions/registry.h"
#include "http/server.h"
#include "os/signals.h"
#include "os/unique_fd.h"
#include "relay/service.h"
#include "steer/lookup_router.h"
#include "supervise/echo.h"
#include "supervise/known_children.h"

namespace aether::daemon {

struct DaemonOptions {
  std::string version;
  /// Where lines of the programs' output are shown, -1: nowhere. Borrowed.
  int echo_fd = -1;
  /// Called once everything that can start has started; what it returns is shown there too.
  std::function<std::string(api::ControlPlane const&)> started;
};

class Daemon final : public api::ControlPlane {
 public:
  Daemon(config::Config config, DaemonOptions options, Clock const& clock);
  ~Daemon() override;

  /// Opens the listeners, sockets and API: all that can be refused. Call os::block_all_early first.
  [[nodiscard]] Status prepare();
  /// Runs until a stop was asked for and everything has ended, or the last service went down by
  /// itself. Returns the exit code: 0 after a stop, else that of the first service.
  [[nodiscard]] int run();

  // api::ControlPlane
  [[nodiscard]] api::AetherInfo info() const override;
  [[nodiscard]] std::vector<relay::ServiceStatus> services() const override;
  [[nodiscard]] Result<std::vector<api::SwapTicket>> reload(api::ReloadCall call) override;
  [[nodiscard]] Result<api::SwapTicket> rollback(std::string_view service,
                                                 std::string reason) override;
  [[nodiscard]] async::Task<relay::SwapReport> verdict(api::SwapTicket ticket) override;
  [[nodiscard]] Result<config::Service> specification(std::string_view service) const override;
  [[nodiscard]] Result<supervise::LogBook*> log_book(std::string_view service) override;
  [[nodiscard]] std::vector<functions::FunctionStatus> functions() const override;
  [[nodiscard]] Result<config::Function> function_specification(std::string_view id) const override;
  [[nodiscard]] async::Task<std::vector<api::DeployReport>> deploy(api::DeployCall call) override;
  [[nodiscard]] async::Task<api::DeployReport> rollback_function(std::string id) override;
  [[nodiscard]] async::Task<void> remove_function(std::string id) override;
  [[nodiscard]] api::JobsPlane* jobs() override { return jobs_.get(); }
  void request_stop() override;

 private:
  /// A service and the event that says that it had its chance to start.
  struct Entry {
    std::unique_ptr<relay::Service> service;
    config::Service spec;
    std::unique_ptr<async::Event> settled = std::make_unique<async::Event>();
    std::unique_ptr<async::Event> gone = std::make_unique<async::Event>();  ///< Removed, stopped.
    bool removed = false;  ///< No longer in the configuration; kept for whoever reads its log.
    bool down = false;
  };

  [[nodiscard]] Status lock_runtime_folder();
  /// The kernel's routes for programs that bind their own port, made when they are first wanted.
  [[nodiscard]] Result<steer::LookupRouter*> lookup_router();
  [[nodiscard]] Status open_jobs();
  [[nodiscard]] Status open_api();
  /// What became of functions, for the journal of jobs, if there is one; and what there are now.
  void tell_jobs(std::string_view action, std::string const& function, std::string const& failed);
  [[nodiscard]] functions::RegistryDeps function_deps();
  [[nodiscard]] Result<Entry*> add_service(config::Service const& spec);
  [[nodiscard]] Entry* find(std::string_view service) const;
  /// Tokens that were read again count from here on, whatever becomes of the swaps.
  [[nodiscard]] Result<config::Config> load_again();
  [[nodiscard]] Result<config::Config> read_config();
  void reload_by_signal();
  void apply_services(config::Config const& next);
  // daemon_functions.cc
  /// The ports of what there is now.
  void watch_packets();
  void apply_functions(config::Config const& next);
  [[nodiscard]] Result<std::vector<functions::FunctionSpec>> specs_of(
      api::DeployCall const& call) const;
  async::Task<api::DeployReport> deploy_one(functions::FunctionSpec spec);
  async::Task<void> start_function(functions::FunctionSpec spec);
  async::Task<void> redeploy(functions::FunctionSpec spec);
  async::Task<void> stop_functions();
  void on_signal(os::SignalInfo const& signal);
  void forward(int signal);
  void reap();
  async::Task<void> reap_later();
  async::Task<void> read_signals();
  async::Task<void> start_all();
  async::Task<void> start_service(Entry* entry);
  async::Task<void> remove_service(Entry* entry);
  async::Task<void> main_task();
  async::Task<void> stop_all();
  async::Task<void> stop_service(Entry* entry, std::vector<Entry*> before);
  void log_without_waiting();
  /// Each after those that it names in `after:`; else in the file's order.
  [[nodiscard]] std::vector<Entry*> starting_order();

  config::Config config_;
  DaemonOptions options_;
  Clock const& clock_;
  Instant began_;
  RuntimeNames names_;
  OuterManager outer_;
  async::Loop loop_;
  supervise::KnownChildren known_;
  std::optional<supervise::Echo> echo_;
  std::optional<supervise::Echo> own_log_;  ///< Aether's own lines, as long as it runs.
  api::EventFeed feed_;
  api::Metrics metrics_;
  api::Routes routes_;
  Tokens tokens_;
  async::TaskGroup tasks_;
  std::optional<steer::LookupRouter> router_;  ///< Before whoever has routes of it.
  functions::Registry functions_;
  PacketWatch packets_;
  std::unique_ptr<Jobs> jobs_;  ///< Null: no section of the configuration asks for jobs.
  std::size_t functions_starting_ = 0;
  async::Event functions_settled_;               ///< Each had its chance to start.
  std::vector<std::unique_ptr<Entry>> entries_;  ///< In the file's order. Grows by a reload.
  std::unique_ptr<http::Server> control_server_;
  std::unique_ptr<http::Server> public_server_;
  std::unique_ptr<os::SignalFd> signals_;
  os::UniqueFd lock_;  ///< Of the runtime folder: one Aether a configuration.
  async::Event stop_asked_;
  std::uint64_t instances_ = 0;
  bool stopping_ = false;
  int exit_code_ = 0;
};

}  // namespace aether::daemon
