// SPDX-License-Identifier: Apache-2.0
#include "supervise/instance.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.h"
#include "os/accepting.h"
#include "os/proc.h"
#include "supervise/instance_body.h"

namespace aether::supervise {
namespace {

/// Empty if it is none that could be connected to by name.
std::string bound_path(int fd) {
  sockaddr_un name{};
  socklen_t size = sizeof(name);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) return {};
  if (name.sun_family != AF_UNIX || name.sun_path[0] != '/') return {};
  return {name.sun_path, ::strnlen(name.sun_path, sizeof(name.sun_path))};
}

Status fill_inodes(std::vector<PassedListener>& listeners) {
  for (PassedListener& listener : listeners) {
    if (listener.address.is_unix()) listener.own_path = bound_path(listener.fd);
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

/// 128 random bits, as systemd has them (man 5 systemd.exec, INVOCATION_ID).
std::string new_invocation_id() {
  std::array<unsigned char, 16> bits{};
  if (::getentropy(bits.data(), bits.size()) != 0) return {};
  return fmt::format("{:02x}", fmt::join(bits, ""));
}

/// Without a NOTIFY_SOCKET something else must tell the tree's processes from all others.
std::string mark_of(LaunchSpec const& spec, std::string const& notify_socket) {
  bool const has_socket = spec.notify_access != config::NotifyAccess::None;
  return (has_socket ? "NOTIFY_SOCKET=" : "AETHER_INSTANCE_MARK=") + notify_socket;
}

/// What the store has for this instance. The readiness descriptor's number is given away already,
/// and half of our own limit is what spawn() needs to sort the numbers.
std::vector<FdStore::Stored> stored_for(LaunchSpec const& spec, FdStore const* store) {
  if (store == nullptr) return {};
  std::vector<FdStore::Stored> stored = store->stored();
  std::size_t const listeners = kFirstListenerFd + spec.listeners.size();
  std::size_t room = static_cast<std::size_t>(std::max(::sysconf(_SC_OPEN_MAX), 64L)) / 2 - 32;
  if (auto const* ready = std::get_if<config::ReadyFd>(&spec.ready))
    room = std::min(room, static_cast<std::size_t>(ready->fd));
  room -= std::min(room, listeners);
  if (stored.size() > room) {
    log::warn("{}: {} of its {} stored descriptors are not given to it: there are no numbers left",
              spec.service, stored.size() - room, stored.size());
    stored.resize(room);
  }
  return stored;
}

/// Behind all that has a number of its own.
int work_number(LaunchSpec const& spec, std::vector<FdStore::Stored> const& stored) {
  int const next = kFirstListenerFd + static_cast<int>(spec.listeners.size() + stored.size());
  auto const* const ready = std::get_if<config::ReadyFd>(&spec.ready);
  return ready == nullptr ? next : std::max(next, ready->fd + 1);
}

ChildEnvironment child_environment(LaunchSpec const& spec, std::string const& notify_socket,
                                   std::optional<os::Credentials> const& user,
                                   std::vector<FdStore::Stored> const& stored,
                                   FdStore const* store) {
  ChildEnvironment child{.service = spec.service,
                         .revision = spec.revision,
                         .instance = spec.instance,
                         .invocation_id = new_invocation_id(),
                         .listeners = spec.listeners,
                         .state_socket = spec.state_socket,
                         .watchdog = spec.watchdog,
                         .compat = spec.compat,
                         .user_defaults = user_defaults(user),
                         .configured = spec.env};
  for (FdStore::Stored const& one : stored) child.stored_names.push_back(one.name);
  if (spec.work_fd >= 0) child.work_fd = work_number(spec, stored);
  if (spec.notify_access == config::NotifyAccess::None) return child;
  child.notify_socket = notify_socket;
  if (store != nullptr) child.fd_store_max = store->max();
  return child;
}

/// The pipe whose newline shows readiness; both ends empty if it shows otherwise.
Result<OutputPipe> ready_pipe(LaunchSpec const& spec) {
  if (!std::holds_alternative<config::ReadyFd>(spec.ready)) return OutputPipe{};
  return OutputPipe::open();
}

struct ChildPipes {
  OutputPipe out;
  OutputPipe err;
  OutputPipe ready;
};

Result<ChildPipes> open_pipes(LaunchSpec const& spec) {
  ChildPipes pipes;
  TRY_ASSIGN(pipes.out, OutputPipe::open());
  TRY_ASSIGN(pipes.err, OutputPipe::open());
  TRY_ASSIGN(pipes.ready, ready_pipe(spec));
  return pipes;
}

std::vector<os::ChildFd> child_fds(LaunchSpec const& spec, ChildPipes const& pipes,
                                   std::vector<FdStore::Stored> const& stored) {
  std::vector<os::ChildFd> fds = {{pipes.out.write_end.get(), 1}, {pipes.err.write_end.get(), 2}};
  int target = kFirstListenerFd;
  for (PassedListener const& listener : spec.listeners) fds.push_back({listener.fd, target++});
  for (FdStore::Stored const& one : stored) fds.push_back({one.fd, target++});
  for (int const fd : spec.passed) fds.push_back({fd, target++});
  if (auto const* ready = std::get_if<config::ReadyFd>(&spec.ready))
    fds.push_back({pipes.ready.write_end.get(), ready->fd});
  if (spec.work_fd >= 0) fds.push_back({spec.work_fd, work_number(spec, stored)});
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
          .watchdog = service.watchdog,
          .notify_access = service.notify_access,
          .pid_file = service.pid_file};
}

std::string group_name(LaunchSpec const& spec) {
  return fmt::format("aether-{}-{}-{}", own_tag(), spec.service, spec.instance);
}

Instance::Body::Parts Instance::Body::take_over(LaunchSpec spec, Running running,
                                                InstanceWorld world, Events events) {
  // What it would say of itself came from the original, and has been heard.
  spec.ready = config::ReadyAuto{};
  spec.listeners.clear();
  pid_t const pid = running.child.pid();
  Tree tree = Tree::adopt(std::move(running.child), world.known);
  if (running.cgroup && running.cgroup->contains(pid)) tree.join(std::move(*running.cgroup));
  return Parts{.spec = std::move(spec),
               .world = std::move(world),
               .events = std::move(events),
               .tree = std::move(tree),
               .notify = {},
               .limits = {},
               .cpu = {},
               .stdout_pipe = std::move(running.stdout_pipe),
               .stderr_pipe = std::move(running.stderr_pipe),
               .ready_pipe = {},
               .environment = {},
               .user_id = {}};
}

Result<Instance::Body::Parts> Instance::Body::start(LaunchSpec spec, InstanceWorld world,
                                                    Events events) {
  std::string const tag = own_tag();
  std::string const name = group_name(spec);
  std::optional<os::Credentials> user;
  if (spec.user) {
    TRY_ASSIGN(user, os::find_credentials(*spec.user));
  }
  TRY(fill_inodes(spec.listeners));
  std::optional<uid_t> const speaker = user ? std::optional(user->uid) : std::nullopt;
  // The number alone: a service's name may be longer than a socket's path can be.
  std::string path = fmt::format("{}/notify-{}-{}", spec.runtime_dir, spec.instance, tag);
  TRY_ASSIGN(NotifySocket notify, NotifySocket::open(std::move(path), speaker));
  TRY_ASSIGN(ChildPipes pipes, open_pipes(spec));
  std::vector<FdStore::Stored> const stored = stored_for(spec, world.store);
  ChildEnvironment const child = child_environment(spec, notify.path(), user, stored, world.store);
  os::SpawnSpec spawn{.environment = build_environment(world.own_environment, child),
                      .fds = child_fds(spec, pipes, stored),
                      .workdir = spec.workdir.value_or(""),
                      .user = user,
                      .new_pid_namespace = spec.new_pid_namespace,
                      .set_listen_pid = !spec.listeners.empty() || !stored.empty(),
                      .set_watchdog_pid = spec.watchdog.has_value(),
                      .limits = resource_limits(spec.limits),
                      .sandbox = spec.sandbox};
  TRY_ASSIGN(spawn.argv, substitute_fds(spec.command, spec.listeners));
  // The socket's path is in the environment of the whole tree, and of no other process here.
  std::string mark = mark_of(spec, notify.path());
  if (spec.notify_access == config::NotifyAccess::None) spawn.environment.push_back(mark);
  Tree::Prepare const prepare = world.own_binds ? world.own_binds->prepare : Tree::Prepare();
  TRY_ASSIGN(Tree tree, Tree::start(std::move(spawn), name, std::move(mark), world.known, prepare));
  LimitSet limits =
      LimitSet::create(spec.limits, tree.cgroup(), fmt::format("aether-{}-{}", ::getpid(), name));
  for (std::string const& warning : limits.warnings()) log::warn("{}: {}", spec.service, warning);
  std::optional<CpuGroup> cpu;
  if (spec.priority == config::StartupPriority::Low)
    cpu = CpuGroup::find(tree.cgroup(), limits, fmt::format("aether-{}-{}", ::getpid(), name));
  std::vector<std::string> environment = build_hook_environment(world.own_environment, child);
  return Parts{.spec = std::move(spec),
               .world = std::move(world),
               .events = std::move(events),
               .tree = std::move(tree),
               .notify = std::move(notify),
               .limits = std::move(limits),
               .cpu = std::move(cpu),
               .stdout_pipe = std::move(pipes.out.read_end),
               .stderr_pipe = std::move(pipes.err.read_end),
               .ready_pipe = std::move(pipes.ready.read_end),
               .environment = std::move(environment),
               .user_id = speaker};
}

Result<std::unique_ptr<Instance>> Instance::launch(LaunchSpec spec, InstanceWorld world,
                                                   Events events) {
  TRY_ASSIGN(Body::Parts parts, Body::start(std::move(spec), std::move(world), std::move(events)));
  auto body = std::make_unique<Body>(std::move(parts));
  body->begin();
  return std::unique_ptr<Instance>(new Instance(std::move(body)));
}

std::unique_ptr<Instance> Instance::adopt(LaunchSpec spec, Running running, InstanceWorld world,
                                          Events events) {
  auto body = std::make_unique<Body>(
      Body::take_over(std::move(spec), std::move(running), std::move(world), std::move(events)));
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
bool Instance::is_reloading() const {
  return body_->machine_.is_reloading();
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
  auto const& notify = body_->parts_.notify;
  NotifySocket::Counts const counts = notify ? notify->counts() : NotifySocket::Counts{};
  return {.notify_messages = counts.messages,
          .notify_dropped = counts.dropped,
          .fds_refused = body_->fds_refused(),
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

Status Instance::signal_handled(int signal) {
  if (exit_status()) return {};
  pid_t const main = pid();
  bool const would_end = os::read_disposition(main, signal) == os::Disposition::Default &&
                         os::default_action_ends(signal);
  if (would_end)
    return fail(ErrorCode::RequestInvalid,
                fmt::format("{} was not sent to process {} ({}): it has no handler for that signal "
                            "now, and would be ended by it",
                            os::signal_name(signal), main, os::read_comm(main)));
  signal_main(signal);
  return {};
}

void Instance::give_way() {
  body_->give_way(body_->parts_.spec.stop_timeout / 2);
}

void Instance::compete() {
  body_->compete();
}

void Instance::begin_stop(int signal, Duration timeout) {
  body_->happen(input::StopAsked{.signal = signal, .timeout = timeout});
}

void Instance::begin_stop() {
  LaunchSpec const& spec = body_->parts_.spec;
  begin_stop(spec.stop_signal, spec.stop_timeout);
}

async::Task<void> Instance::grouped() {
  return body_->grouped();
}

Status Instance::freeze() {
  Tree const& tree = body_->parts_.tree;
  if (tree.cgroup() != nullptr && tree.cgroup()->freeze(os::Cgroup::Frozen::Yes)) return {};
  tree.signal_all(SIGSTOP);
  return {};
}

Status Instance::thaw() {
  Tree const& tree = body_->parts_.tree;
  if (tree.cgroup() != nullptr && tree.cgroup()->freeze(os::Cgroup::Frozen::No)) return {};
  tree.signal_all(SIGCONT);
  return {};
}

std::uint64_t Instance::memory_kills() const {
  return body_->parts_.limits ? body_->parts_.limits->memory_kills() : 0;
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
