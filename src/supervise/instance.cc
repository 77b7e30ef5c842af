// SPDX-License-Identifier: Apache-2.0
#include "supervise/instance.h"

#include <fmt/format.h>

#include "base/log.h"
#include "os/accepting.h"
#include "os/proc.h"
#include "supervise/instance_body.h"

namespace aether::supervise {
namespace {

Status fill_inodes(std::vector<PassedListener>& listeners) {
  for (PassedListener& listener : listeners) {
    if (listener.inode != 0) continue;
    TRY_ASSIGN(listener.inode, os::socket_inode(listener.fd));
  }
  return {};
}

config::Variables user_defaults(std::optional<os::Credentials> const& user) {
  config::Variables defaults;
  if (!user) return defaults;
  if (!user->home.empty()) defaults.emplace_back("HOME", user->home);
  if (!user->name.empty()) defaults.emplace_back("USER", user->name);
  if (!user->name.empty()) defaults.emplace_back("LOGNAME", user->name);
  return defaults;
}

ChildEnvironment child_environment(LaunchSpec const& spec, std::string const& notify_socket,
                                   std::optional<os::Credentials> const& user) {
  return {.service = spec.service,
          .revision = spec.revision,
          .instance = spec.instance,
          .listeners = spec.listeners,
          .state_socket = spec.state_socket,
          .notify_socket = notify_socket,
          .watchdog = spec.watchdog,
          .compat = spec.compat,
          .user_defaults = user_defaults(user),
          .configured = spec.env};
}

std::vector<os::ChildFd> child_fds(LaunchSpec const& spec, OutputPipe const& out,
                                   OutputPipe const& err) {
  std::vector<os::ChildFd> fds = {{out.write_end.get(), 1}, {err.write_end.get(), 2}};
  int target = kFirstListenerFd;
  for (PassedListener const& listener : spec.listeners) fds.push_back({listener.fd, target++});
  return fds;
}

}  // namespace

LaunchSpec launch_spec(config::Service const& service, RevisionId revision, InstanceId instance) {
  return {.service = service.name,
          .revision = revision,
          .instance = instance,
          .command = service.command,
          .env = service.env,
          .workdir = service.workdir,
          .user = service.user,
          .limits = service.limits,
          .compat = service.compat,
          .ready = service.ready,
          .ready_timeout = service.ready_timeout,
          .stop_signal = service.stop_signal,
          .stop_timeout = service.stop_timeout,
          .watchdog = service.watchdog};
}

Result<Instance::Body::Parts> Instance::Body::start(LaunchSpec spec, InstanceWorld world,
                                                    Events events) {
  std::string const tag = own_tag();
  std::string const name = fmt::format("aether-{}-{}-{}", tag, spec.service, spec.instance);
  std::optional<os::Credentials> user;
  if (spec.user) {
    TRY_ASSIGN(user, os::find_credentials(*spec.user));
  }
  TRY(fill_inodes(spec.listeners));
  std::optional<uid_t> const speaker = user ? std::optional(user->uid) : std::nullopt;
  // The number alone: a service's name may be longer than a socket's path can be.
  std::string path = fmt::format("{}/notify-{}-{}", spec.runtime_dir, spec.instance, tag);
  TRY_ASSIGN(NotifySocket notify, NotifySocket::open(std::move(path), speaker));
  TRY_ASSIGN(OutputPipe out, OutputPipe::open());
  TRY_ASSIGN(OutputPipe err, OutputPipe::open());

  ChildEnvironment const child = child_environment(spec, notify.path(), user);
  os::SpawnSpec spawn{.environment = build_environment(world.own_environment, child),
                      .fds = child_fds(spec, out, err),
                      .workdir = spec.workdir.value_or(""),
                      .user = user,
                      .set_listen_pid = !spec.listeners.empty(),
                      .limits = resource_limits(spec.limits)};
  TRY_ASSIGN(spawn.argv, substitute_fds(spec.command, spec.listeners));
  // The socket's path is in the environment of the whole tree, and of no other process here.
  TRY_ASSIGN(Tree tree,
             Tree::start(std::move(spawn), name, "NOTIFY_SOCKET=" + notify.path(), world.known));
  LimitSet limits =
      LimitSet::create(spec.limits, tree.cgroup(), fmt::format("aether-{}-{}", ::getpid(), name));
  limits.hold(limits.folders().empty() ? std::vector<pid_t>{} : tree.members());
  for (std::string const& warning : limits.warnings()) log::warn("{}: {}", spec.service, warning);
  std::vector<std::string> environment = build_hook_environment(world.own_environment, child);
  return Parts{.spec = std::move(spec),
               .world = std::move(world),
               .events = std::move(events),
               .tree = std::move(tree),
               .notify = std::move(notify),
               .limits = std::move(limits),
               .stdout_pipe = std::move(out.read_end),
               .stderr_pipe = std::move(err.read_end),
               .environment = std::move(environment)};
}

Result<std::unique_ptr<Instance>> Instance::launch(LaunchSpec spec, InstanceWorld world,
                                                   Events events) {
  TRY_ASSIGN(Body::Parts parts, Body::start(std::move(spec), std::move(world), std::move(events)));
  auto body = std::make_unique<Body>(std::move(parts));
  body->begin();
  return std::unique_ptr<Instance>(new Instance(std::move(body)));
}

Instance::Instance(std::unique_ptr<Body> body) : body_(std::move(body)) {}
Instance::~Instance() = default;

InstanceId Instance::id() const {
  return body_->parts_.spec.instance;
}
RevisionId Instance::revision() const {
  return body_->parts_.spec.revision;
}
pid_t Instance::pid() const {
  return body_->parts_.tree.main().pid();
}
Instant Instance::started() const {
  return body_->started_;
}
InstanceMachine::Phase Instance::phase() const {
  return body_->machine_.phase();
}
bool Instance::is_ready() const {
  return body_->machine_.is_ready();
}
std::string const& Instance::status_text() const {
  return body_->machine_.status_text();
}
std::optional<os::ExitStatus> Instance::exit_status() const {
  return body_->machine_.exit_status();
}
std::vector<pid_t> Instance::tree() const {
  return body_->parts_.tree.members();
}
bool Instance::owns(pid_t pid) const {
  return body_->parts_.tree.owns(pid);
}

std::uint64_t Instance::resident_bytes() const {
  std::uint64_t bytes = 0;
  for (pid_t const member : tree()) bytes += os::read_rss_bytes(member);
  return bytes;
}

InstanceCounters Instance::counters() const {
  NotifySocket::Counts const& counts = body_->parts_.notify.counts();
  return {.notify_messages = counts.messages,
          .notify_dropped = counts.dropped,
          .fds_refused = counts.fds_refused,
          .log_bytes = body_->log_bytes()};
}

void Instance::mark_ready_by_sdk() {
  body_->happen(input::SdkReady{});
}

void Instance::signal_main(int signal) {
  if (exit_status()) return;
  if (auto const sent = body_->parts_.tree.main().signal(signal); !sent)
    log::warn("{}: {}", body_->parts_.spec.service, sent.error().describe());
}

void Instance::begin_stop(int signal, Duration timeout) {
  body_->happen(input::StopAsked{.signal = signal, .timeout = timeout});
}

void Instance::begin_stop() {
  LaunchSpec const& spec = body_->parts_.spec;
  begin_stop(spec.stop_signal, spec.stop_timeout);
}

void Instance::kill_tree() {
  body_->happen(input::KillAsked{});
}

async::Task<os::ExitStatus> Instance::stop(int signal, Duration timeout) {
  begin_stop(signal, timeout);
  co_await body_->ended();
  co_return *exit_status();
}

async::Task<os::ExitStatus> Instance::stop() {
  begin_stop();
  co_await body_->ended();
  co_return *exit_status();
}

async::Task<void> Instance::ended() {
  return body_->ended();
}

async::Task<void> Instance::close() {
  return body_->close();
}

}  // namespace aether::supervise
