// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/address.h"
#include "base/log.h"
#include "config/loader.h"
#include "daemon/debris.h"
#include "daemon/release.h"
#include "functions/handler_hooks.h"
#include "os/child.h"
#include "os/oom_score.h"
#include "os/reap.h"
#include "os/requirements.h"
#include "steer/listener.h"
#include "supervise/printable.h"

namespace aether::daemon {
namespace {

/// Each of the API's two servers may take this part of the descriptors there may be, so that no
/// client can take those that a swap needs.
constexpr std::size_t kApiPart = 8;

http::Limits api_limits() {
  rlimit files{};
  http::Limits limits;
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY) return limits;
  limits.connections = std::clamp<std::size_t>(files.rlim_cur / kApiPart, 16, limits.connections);
  return limits;
}

/// Until orphans are looked for again when they could not be: long enough for a shortage to pass.
constexpr Duration kReapAgain = std::chrono::milliseconds(100);

}  // namespace

Daemon::Daemon(config::Config config, DaemonOptions options, Clock const& clock)
    : config_(std::move(config)),
      options_(std::move(options)),
      clock_(clock),
      began_(clock.now()),
      names_(runtime_names(config_.path)),
      loop_(clock),
      metrics_(feed_),
      routes_(*this, metrics_, feed_, clock),
      tasks_(loop_.executor(), "daemon"),
      functions_(function_deps()) {
  if (options_.echo_fd >= 0) echo_.emplace(loop_.executor(), options_.echo_fd);
}

Daemon::~Daemon() {
  // After a prepare() that failed, tasks wait that never ran: the loop's end is theirs.
  loop_.stop();
}

// ---- Preparing ----------------------------------------------------------------------------------

Status Daemon::prepare() {
  TRY(check_release(config_));
  TRY(check_kernel(config_));
  TRY(os::check_requirements());
  TRY(check_socket_room(names_.folder));
  TRY(make_private_folder(names_.folder));
  TRY(lock_runtime_folder());
  if (auto ended = end_debris(names_.folder); !ended) return fail(std::move(ended).error());
  remove_old_groups(names_.folder);
  TRY_ASSIGN(os::SignalFd signals, os::SignalFd::open({SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1,
                                                       SIGUSR2, SIGWINCH, SIGCHLD, SIGTSTP}));
  signals_ = std::make_unique<os::SignalFd>(std::move(signals));
  os::ignore_sigpipe();
  if (auto subreaper = os::become_subreaper(); !subreaper) {
    log::warn("orphans of services cannot be reaped here: {}", subreaper.error().message());
  }
  if (auto is_safe = os::protect_from_oom(); !is_safe) log::debug("{}", is_safe.error().message());
  for (config::Service const& spec : config_.services) {
    if (auto added = add_service(spec); !added) return fail(std::move(added).error());
  }
  for (config::Function const& function : config_.functions) {
    TRY(functions_.add({.function = function, .settings = config_.orchestrator}));
  }
  functions_.keep_images(config_.orchestrator.snapshot_dir);
  TRY(packets_.apply(config_.orchestrator.ebpf));
  watch_packets();
  TRY(open_jobs());
  TRY(open_api());
  // Last, when nothing can be refused any more: a call that was cut off would wait for a person.
  return jobs_ ? jobs_->start() : Status();
}

Status Daemon::open_jobs() {
  if (!config_.jobs.enabled) return {};
  TRY_ASSIGN(jobs_, Jobs::open(config_, loop_.executor(), clock_, known_));
  feed_.on_added([this](api::FeedEvent const& event) {
    if (event.type == "swap") jobs_->record_swap(event.json);
  });
  return {};
}

/// Held for life, and let go by the kernel however this process ends.
Status Daemon::lock_runtime_folder() {
  lock_ = os::UniqueFd(::open(names_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock_) return fail(system_error("open", names_.folder));
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) return fail(system_error("flock", names_.folder));
  return fail(ErrorCode::AlreadyRunning,
              fmt::format("an Aether is already running for {} (control socket {})", config_.path,
                          names_.control_socket));
}

Result<steer::LookupRouter*> Daemon::lookup_router() {
  if (!router_) {
    TRY_ASSIGN(steer::LookupRouter router, steer::LookupRouter::open());
    router_ = std::move(router);
  }
  return &*router_;
}

Result<Daemon::Entry*> Daemon::add_service(config::Service const& spec) {
  relay::ServiceDeps deps{.executor = loop_.executor(),
                          .clock = clock_,
                          .observer = metrics_,
                          .known = known_,
                          .runtime_dir = names_.folder,
                          .next_instance = [this] { return InstanceId{++instances_}; },
                          .router = [this] { return lookup_router(); },
                          .echo = {}};
  deps.work_line = [this](std::string_view service,
                          std::function<void()> on_claim) -> Result<os::UniqueFd> {
    if (!jobs_) return fail(ErrorCode::Internal, "a worker, and no jobs");
    return jobs_->open_line(std::string(service), std::move(on_claim));
  };
  std::string const sdk = functions::find_sdk_folder();
  if (!sdk.empty()) {
    deps.worker_env = {
        {"PYTHONPATH", sdk + "/python"}, {"NODE_PATH", sdk + "/node"}, {"PYTHONUNBUFFERED", "1"}};
  }
  if (echo_) {
    deps.echo = [this](std::string_view service, RevisionId revision, std::string_view line) {
      echo_->line(service, revision, line);
    };
  }
  auto entry = std::make_unique<Entry>();
  entry->spec = spec;
  entry->service = std::make_unique<relay::Service>(spec, std::move(deps));
  Status opened = entry->service->open_listeners();
  Entry* const added = entries_.emplace_back(std::move(entry)).get();
  if (!opened) {
    // What it did open has tasks, so it is stopped like one that ran.
    added->removed = true;
    tasks_.spawn("remove service", remove_service(added));
    return fail(std::move(opened).error());
  }
  added->service->on_ended([this, added] {
    added->down = true;
    bool const all_down =
        std::ranges::all_of(entries_, [](auto const& one) { return one->down || one->removed; });
    if (!all_down || !functions_.empty() || jobs_) return;
    // Without a code no process of it ever ran, which is no success.
    exit_code_ = entries_.front()->service->exit_code().value_or(1);
    log::info("every service has ended: Aether ends too, with code {}", exit_code_);
    request_stop();
  });
  return added;
}

Status Daemon::open_api() {
  TRY_ASSIGN(std::vector<api::KnownToken> tokens, tokens_.load(config_));
  routes_.set_tokens(std::move(tokens));
  auto const handler = [this](http::Request request) { return routes_.answer(std::move(request)); };
  control_server_ = std::make_unique<http::Server>(loop_.executor(), api_limits(), handler);
  TRY(control_server_->listen_unix(names_.control_socket));
  public_server_ = std::make_unique<http::Server>(loop_.executor(), api_limits(), handler);
  config::Observability const& observability = config_.observability;
  if (observability.metrics_address) {
    TRY_ASSIGN(Address const address, parse_address(*observability.metrics_address));
    Status const open = public_server_->listen_tcp(address.host, address.port);
    if (!open && observability.metrics_given) return open;
    if (!open) {
      log::warn("no metrics page: {} (choose another with observability.metrics_port)",
                open.error().message());
    }
  }
  if (config_.api.port) {
    TRY(public_server_->listen_tcp(config_.api.host, *config_.api.port));
  }
  return {};
}

// ---- Running ------------------------------------------------------------------------------------

/// A full pipe or a stopped terminal on stderr must not stop PID 1.
void Daemon::log_without_waiting() {
  own_log_.emplace(loop_.executor(), STDERR_FILENO);
  log::set_output([this, thread = std::this_thread::get_id()](std::string_view lines) {
    if (std::this_thread::get_id() != thread) return false;
    own_log_->text(lines);
    return true;
  });
}

int Daemon::run() {
  async::Task<void> main = main_task();
  loop_.run_task(std::move(main));
  return exit_code_;
}

async::Task<void> Daemon::main_task() {
  log_without_waiting();
  tasks_.spawn("signals", read_signals());
  tasks_.spawn("start", start_all());
  if (jobs_) jobs_->begin();
  co_await stop_asked_.wait();
  co_await stop_all();
}

async::Task<void> Daemon::start_all() {
  for (auto const& entry : entries_) {
    tasks_.spawn(fmt::format("start {}", entry->service->name()), start_service(entry.get()));
  }
  functions_starting_ = config_.functions.size();
  for (config::Function const& function : config_.functions) {
    tasks_.spawn(fmt::format("start {}", function.id),
                 start_function({.function = function, .settings = config_.orchestrator}));
  }
  if (functions_starting_ > 0) co_await functions_settled_.wait();
  // By index: a reload may add services while this waits.
  std::size_t const count = entries_.size();
  for (std::size_t i = 0; i < count; ++i) co_await entries_[i]->settled->wait();
  if (!stopping_) outer_.tell("READY=1");
  if (!options_.started) co_return;
  std::string const told = options_.started(*this);
  if (echo_) echo_->text(told);
}

async::Task<void> Daemon::start_service(Entry* entry) {
  for (std::string const& name : entry->spec.after) {
    Entry* const first = find(name);
    if (first != nullptr) co_await first->settled->wait();
  }
  if (stopping_ || entry->removed) co_return;
  Status const started = co_await entry->service->start();
  if (!started && !stopping_) {
    std::string const told = started.error().describe();
    log::error("{}", echo_ ? supervise::without_quotes(told) : told);
  }
  entry->settled->set();
}

// ---- Signals ------------------------------------------------------------------------------------

async::Task<void> Daemon::read_signals() {
  for (;;) {
    co_await async::readable(signals_->fd());
    for (;;) {
      auto const signal = signals_->read();
      if (!signal) log::error("{}", signal.error().describe());
      if (!signal || !*signal) break;
      // Whatever comes of one signal, the next one must still be heard.
      try {
        on_signal(**signal);
      } catch (Error const& error) {
        log::error("{}: {}", os::signal_name((*signal)->signal), error.describe());
      }
    }
  }
}

void Daemon::on_signal(os::SignalInfo const& signal) {
  switch (signal.signal) {
    case SIGCHLD:
      reap();
      break;
    case SIGHUP:
      reload_by_signal();
      break;
    case SIGTSTP:
      // ^Z: the shell gets its terminal back. The services have sessions of their own and go on.
      log::info("suspended by the terminal; the services go on, unsupervised until `fg` or `bg`");
      (void)::raise(SIGSTOP);
      break;
    case SIGTERM:
    case SIGINT:
    case SIGQUIT:
      if (stop_asked_.is_set()) {
        log::warn("stopping at once, as asked a second time");
        for (auto const& entry : entries_) entry->service->hurry();
        functions_.hurry();
      }
      request_stop();
      break;
    case SIGWINCH:
      // A terminal was resized. To Apache and nginx the same signal means: stop.
      break;
    default:
      forward(signal.signal);
      break;
  }
}

void Daemon::forward(int signal) {
  if (entries_.empty()) return;
  relay::Service& main = *entries_.front()->service;
  if (auto sent = main.signal(signal); !sent) {
    log::warn("{} was not passed on: {}", os::signal_name(signal), sent.error().message());
  }
}

void Daemon::reap() {
  auto const reaped = os::reap_orphans([this](pid_t pid) { return known_.contains(pid); });
  if (!reaped) {
    log::error("{}; orphans are reaped later", reaped.error().describe());
    if (!tasks_.stopping()) tasks_.spawn("reap again", reap_later());
    return;
  }
  if (!reaped->empty()) metrics_.reaped(reaped->size());
}

async::Task<void> Daemon::reap_later() {
  co_await async::sleep_for(kReapAgain);
  reap();
}

// ---- ControlPlane -------------------------------------------------------------------------------

namespace {

api::ServerLoad load_of(http::Server const& server) {
  return {.connections = server.connections(), .turned_away = server.turned_away()};
}

}  // namespace

api::AetherInfo Daemon::info() const {
  auto const moves = steer::tcp_migrate_req();
  return {.version = options_.version,
          .pid = ::getpid(),
          .config_path = config_.path,
          .uptime = clock_.now() - began_,
          .now = clock_.wall(),
          .tcp_migrate_req = moves ? std::optional(*moves) : std::nullopt,
          .control = load_of(*control_server_),
          .public_port = load_of(*public_server_),
          .packets = packets_.is_attached() ? packets_.counts(functions_.status(), services())
                                            : std::nullopt};
}

std::vector<relay::ServiceStatus> Daemon::services() const {
  std::vector<relay::ServiceStatus> all;
  for (auto const& entry : entries_) {
    if (!entry->removed) all.push_back(entry->service->status());
  }
  return all;
}

Result<config::Service> Daemon::specification(std::string_view service) const {
  Entry const* const entry = find(service);
  if (entry == nullptr) {
    return fail(ErrorCode::ServiceUnknown, fmt::format("there is no service {}", service));
  }
  return entry->spec;
}

Result<supervise::LogBook*> Daemon::log_book(std::string_view service) {
  Entry* const entry = find(service);
  if (entry != nullptr) return &entry->service->log_book();
  if (supervise::LogBook* const book = functions_.log_book(service)) return book;
  return fail(ErrorCode::ServiceUnknown,
              fmt::format("there is neither a service nor a function {}", service));
}

}  // namespace aether::daemon
