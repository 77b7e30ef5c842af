// SPDX-License-Identifier: Apache-2.0
// Service: one program that Aether keeps running. Owns its listeners, its instances, its log and
// the memory in handoff; performs what the swap machine decides.
//
// Lives on the loop's thread; nothing here is thread-safe. Start it once, stop it once: the
// destructor checks that stop() has ended.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "relay/listeners.h"
#include "relay/observer.h"
#include "relay/swap_report.h"

namespace aether::supervise {
class KnownChildren;
class LogBook;
}  // namespace aether::supervise

namespace aether::relay {

/// What a service needs from the house. Everything outlives the service.
struct ServiceDeps {
  boost::asio::any_io_executor executor;
  Clock const& clock;
  Observer& observer;
  /// Whose exit statuses are waited for, for whoever reaps orphans.
  supervise::KnownChildren& known;
  /// Where sockets of this service are made; exists, is private to the user.
  std::string runtime_dir;
  /// Gives each instance of this Aether its number.
  std::function<InstanceId()> next_instance;
  /// For programs that bind their own port; absent: there is no such service.
  RouterSource router = {};
  /// Called with each line of the program's output as it comes, e.g. to show it on the terminal.
  std::function<void(std::string_view service, RevisionId, std::string_view line)> echo;
  /// The worker's end of a line to the jobs (config::Service::is_worker); may be null. `on_claim`
  /// is called when work is asked for on it for the first time, also after the service has gone.
  std::function<Result<os::UniqueFd>(std::string_view service, std::function<void()> on_claim)>
      work_line = {};
  /// What workers are told besides: where the SDKs are. Weaker than the service's own `env`.
  config::Variables worker_env = {};
};

struct ReloadRequest {
  std::string reason = "api";
  /// Supersede a running swap instead of being refused.
  bool force = false;
  /// The service as the configuration says it now.
  config::Service spec;
};

struct InstanceStatus {
  RevisionId revision;
  InstanceId instance;
  pid_t pid = 0;
  std::string state;        ///< "starting", "ready", "draining".
  std::string status_text;  ///< The program's last STATUS=.
  WallTime since{};
  std::uint64_t memory_bytes = 0;  ///< RSS of the tree; 0 if it cannot be read.
};

/// A revision that no longer serves and finishes what it has.
struct DrainStatus {
  RevisionId revision;
  pid_t pid = 0;
  std::string stage;  ///< As stage_name() of the retirement machine.
  WallTime since{};
  WallTime deadline{};
  std::optional<std::size_t> connections;  ///< Still open, as last counted; absent: not known.
};

/// Descriptors that the program left with Aether (FDSTORE=1).
struct FdStoreStatus {
  std::size_t count = 0;
  std::size_t max = 0;
  std::uint64_t refused = 0;       ///< Closed because it was full.
  std::vector<std::string> names;  ///< In the order in which they came.
};

struct ServiceStatus {
  std::string name;
  std::string state;                      ///< The seed's public state name.
  std::string phase;                      ///< The swap machine's phase.
  std::vector<InstanceStatus> instances;  ///< The serving one first.
  std::vector<ListenerStatus> listeners;
  RevisionId revision;  ///< The serving one.
  pid_t pid = 0;        ///< Of the serving instance; 0 if none runs.
  int percent = 100;    ///< Of new connections, to `revision`; less while a canary soaks.
  pid_t old_pid = 0;    ///< Of the other one while a swap runs, or of who began to drain last.
  std::vector<DrainStatus> draining;  ///< Oldest first.
  std::uint64_t restarts = 0;
  FdStoreStatus fd_store;
  std::uint64_t rescued = 0;    ///< Connections carried over from revisions that died, ever.
  std::uint64_t log_lines = 0;  ///< Written by its programs and hooks, ever.
  std::optional<SwapReport> last_swap;
  std::optional<std::string> problem;  ///< Why it does not run: crash loop, ...
  std::vector<std::string> command;
};

class Service {
 public:
  Service(config::Service spec, ServiceDeps deps);
  ~Service();
  Service(Service const&) = delete;
  Service& operator=(Service const&) = delete;

  [[nodiscard]] std::string const& name() const;

  /// Opens the listeners. Before start(), so that a port in use is known before anything runs.
  [[nodiscard]] Status open_listeners();
  /// Starts the first revision and waits until it is ready, or says why it did not get there. The
  /// service then goes on trying as its restart policy says.
  [[nodiscard]] async::Task<Status> start();

  /// Begins a swap. SwapRunning if one runs that has no verdict yet and `force` is not set. Old
  /// revisions that still drain are in nobody's way, unless there are too many (max_revisions).
  [[nodiscard]] Result<SwapId> reload(ReloadRequest request);
  /// As reload, but while a swap runs it is remembered (once) and begins when that one is over.
  void reload_later(ReloadRequest request);
  /// Takes back a swap that soaks; when none runs, swaps to the revision before this one.
  [[nodiscard]] Result<SwapId> rollback(std::string reason);
  /// Waits for the verdict of a swap.
  [[nodiscard]] async::Task<SwapReport> verdict(SwapId swap);

  /// Passes a signal on to the serving process.
  [[nodiscard]] Status signal(int number);
  /// Ends everything: a running swap, every instance, listeners. Within the service's stop_timeout.
  [[nodiscard]] async::Task<void> stop();
  /// Kills at once, and starts nothing any more. stop() has been called, or will be.
  void hurry();

  [[nodiscard]] ServiceStatus status() const;
  [[nodiscard]] supervise::LogBook& log_book();
  /// Exit code of the last serving process that ended for good (128+n for a signal).
  [[nodiscard]] std::optional<int> exit_code() const;
  /// Called when the service stays down as its restart policy says; not after a crash loop, which
  /// waits for a reload.
  void on_ended(std::function<void()> callback);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace aether::relay
