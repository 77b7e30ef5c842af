// SPDX-License-Identifier: Apache-2.0
#include "supervise/instance_body.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/check.h"
#include "base/log.h"
#include "os/accepting.h"
#include "os/proc.h"

namespace aether::supervise {
namespace {

/// At the end of the main process everything said before it must be heard.
constexpr std::size_t kNotifyAtEnd = 4096;
/// For SIGKILL to do its work when the instance is closed.
constexpr Duration kClosePatience = std::chrono::seconds(5);

InstancePolicy policy_of(LaunchSpec const& spec, InstanceWorld const& world) {
  return {.ready = spec.ready,
          .has_listeners = !spec.listeners.empty() || world.own_binds,
          .ready_timeout = spec.ready_timeout,
          .stop_timeout = spec.stop_timeout,
          .watchdog = spec.watchdog,
          .access = spec.notify_access,
          .has_pid_file = spec.pid_file.has_value()};
}

/// The configuration was checked when it was read.
std::optional<Pattern> ready_line_of(config::Ready const& ready) {
  auto const* log = std::get_if<config::ReadyLog>(&ready);
  return log != nullptr ? std::optional(or_throw(Pattern::compile(log->pattern))) : std::nullopt;
}

}  // namespace

Instance::Body::Body(Parts parts)
    : parts_(std::move(parts)),
      machine_(policy_of(parts_.spec, parts_.world), parts_.world.clock.now()),
      started_(parts_.world.clock.now()),
      stdout_(std::move(parts_.stdout_pipe),
              [this](SplitLine line) { append_line(LogStream::Stdout, line); }),
      stderr_(std::move(parts_.stderr_pipe),
              [this](SplitLine line) { append_line(LogStream::Stderr, line); }),
      ready_line_(ready_line_of(parts_.spec.ready)),
      tasks_(parts_.world.executor,
             fmt::format("{} instance {}", parts_.spec.service, parts_.spec.instance)) {}

Instance::Body::~Body() {
  AETHER_CHECK(closed_, "instance {} of {} was destroyed without close()", parts_.spec.instance,
               parts_.spec.service);
}

void Instance::Body::begin() {
  tasks_.spawn("events", deliver());
  if (parts_.notify) tasks_.spawn("notify socket", watch_notify());
  tasks_.spawn("stdout", stdout_.run());
  tasks_.spawn("stderr", stderr_.run());
  tasks_.spawn("main process", watch_main(&parts_.tree.main()));
  tasks_.spawn("deadlines", watch_time());
  if (parts_.spec.beside) give_way(parts_.spec.ready_timeout / 2);
  begin_grouping();
  if (machine_.watch() != InstanceMachine::Watch::Nothing) tasks_.spawn("readiness", watch_ready());
  if (parts_.ready_pipe) tasks_.spawn("readiness descriptor", watch_ready_pipe());
  if (parts_.spec.pid_file) tasks_.spawn("pid file", watch_pid_file());
}

void Instance::Body::begin_grouping() {
  if (!parts_.limits) {
    tasks_.spawn("control groups", join_own_groups());
    return;
  }
  std::vector<std::string> folders = parts_.limits->folders();
  if (parts_.cpu && !parts_.cpu->to_join().empty()) folders.push_back(parts_.cpu->to_join());
  if (folders.empty())
    grouped_.set();
  else
    tasks_.spawn("control groups", join_groups(std::move(folders)));
}

void Instance::Body::happen(InstanceInput input) {
  inputs_.push_back(std::move(input));
  if (performing_) return;
  performing_ = true;
  while (!inputs_.empty()) {
    InstanceInput const next = std::move(inputs_.front());
    inputs_.pop_front();
    for (InstanceAction const& action : machine_.step(next, parts_.world.clock.now()))
      perform(action);
  }
  performing_ = false;
  moved_.set();
  moved_.reset();
}

void Instance::Body::perform(InstanceAction const& action) {
  std::visit([this](auto const& what) { on(what); }, action);
}

void Instance::Body::on(perform::Tell const& tell) {
  InstanceEvent event = tell.event;
  if (auto* exited = std::get_if<event::Exited>(&event)) {
    exited->late = late_;
    exited->last_lines = parts_.world.logs.last_texts(parts_.spec.instance, kLastLines);
  }
  // At once: from now on it may have to serve.
  if (std::holds_alternative<event::BecameReady>(event)) compete();
  if (auto* late = std::get_if<event::ReadyTimedOut>(&event)) {
    late->hint = late_hint(*late);
    // Of an extended deadline nobody wants the nanoseconds.
    Duration const waited = std::chrono::floor<std::chrono::milliseconds>(late->waited);
    late_ = fmt::format("did not become ready within {}: {}", format_duration(waited), late->hint);
  }
  outbox_.push_back(std::move(event));
  outbox_grown_.set();
}

void Instance::Body::give_way(Duration time_max) {
  if (parts_.spec.priority != config::StartupPriority::Low || priority_.is_low()) return;
  std::vector<pid_t> const tree = parts_.tree.members();
  priority_ = BackgroundPriority::lower(tree, parts_.cpu ? &*parts_.cpu : nullptr);
  if (!priority_.is_low()) return;
  BackgroundPatience patience{.since = parts_.world.clock.now(), .time_max = time_max};
  if (auto const share = BackgroundPriority::share(tree)) patience.before = *share;
  tasks_.spawn("priority", watch_priority(patience));
}

void Instance::Body::compete() {
  if (priority_.is_low()) priority_.restore(parts_.tree.members());
}

void Instance::Body::on(perform::SignalMain signal) {
  os::Child const& main = parts_.tree.main();
  if (auto const sent = main.signal(signal.signal); !sent)
    log::warn("{}: {}", parts_.spec.service, sent.error().describe());
  // A stopped process (SIGSTOP, a debugger) would not see the signal before it goes on.
  (void)main.signal(SIGCONT);
}

void Instance::Body::on(perform::SignalTree signal) {
  parts_.tree.signal_all(signal.signal);
  parts_.tree.signal_all(SIGCONT);
}

void Instance::Body::on(perform::KillTree) {
  parts_.tree.kill_all();
}

void Instance::Body::on(perform::AdoptMain adopt) {
  if (adopt.pid != parts_.tree.main().pid()) this->adopt(adopt.pid, adopt.pidfd_id);
}

void Instance::Body::adopt(pid_t pid, std::optional<std::uint64_t> pidfd_id) {
  pid_t const from = parts_.tree.main().pid();
  auto adopted = parts_.tree.adopt_main(pid, pidfd_id);
  if (!adopted) {
    log::warn("{}: {}", parts_.spec.service, adopted.error().message());
    return;
  }
  log::info("{}: process {} took over from {}", parts_.spec.service, pid, from);
  tasks_.spawn("main process", watch_main(*adopted));
  happen(input::MainAdopted{.from = from, .to = pid});
}

void Instance::Body::on(perform::AwaitTree) {
  tasks_.spawn("process tree", watch_tree());
}

void Instance::Body::append_line(LogStream stream, SplitLine line) {
  if (ready_line_ && machine_.phase() == InstanceMachine::Phase::Starting &&
      ready_line_->found_in(line.text))
    happen(input::LineSeen{});
  parts_.world.logs.append({.revision = parts_.spec.revision,
                            .instance = parts_.spec.instance,
                            .stream = stream,
                            .continues = line.continues,
                            .text = std::string(line.text)});
}

bool Instance::Body::hear(std::size_t messages_max) {
  if (!parts_.notify) return false;
  return parts_.notify->drain(
      messages_max, [this](os::PeerCredentials const& sender) { return may_speak(sender); },
      [this](NotifyMessage const& message, std::vector<os::UniqueFd>& fds) {
        store(message, fds);
        happen(input::Said{message});
      });
}

bool Instance::Body::may_speak(os::PeerCredentials const& sender) const {
  bool const is_main = sender.pid == parts_.tree.main().pid();
  return machine_.hears(is_main) && (is_main || is_ours(sender));
}

bool Instance::Body::is_ours(os::PeerCredentials const& sender) const {
  if (sender.pid != 0 && parts_.tree.owns(sender.pid)) return true;
  bool const is_its_user = parts_.user_id == sender.uid;
  if (sender.uid != 0 && sender.uid != ::geteuid() && !is_its_user) return false;
  // Gone already, or in a namespace that we cannot see into: only this tree knows the address.
  auto const process = os::read_process(sender.pid);
  if (sender.pid == 0 || !process || process->ended()) return true;
  // An orphan that has lost all marks (its environment, session and parents) is a child of ours by
  // now; the main processes of other instances are, too.
  bool const is_known = parts_.world.known != nullptr && parts_.world.known->contains(sender.pid);
  return process->parent == ::getpid() && !is_known;
}

void Instance::Body::store(NotifyMessage const& message, std::vector<os::UniqueFd>& fds) {
  FdStore* const store = parts_.world.store;
  if (message.fd_store_remove && message.fd_name && store != nullptr)
    store->remove(*message.fd_name);
  if (!message.fd_store) return;
  auto const watched = message.fd_poll ? FdStore::Watched::Yes : FdStore::Watched::No;
  for (os::UniqueFd& fd : fds) {
    if (store == nullptr) {
      ++fds_refused_;
      continue;
    }
    std::string name = message.fd_name.value_or(std::string(kStoredFdName));
    if (store->keep(std::move(fd), std::move(name), watched) == FdStore::Kept::Full) ++fds_refused_;
  }
}

void Instance::Body::main_ended(os::Child& child) {
  // What it said comes first: MAINPID= makes this end no crash, and its last lines tell why.
  hear(kNotifyAtEnd);
  stdout_.drain(kPipeBytesMax);
  stderr_.drain(kPipeBytesMax);
  bool const is_main = &child == &parts_.tree.main();
  Tree::Ended ended = parts_.tree.reap(child);
  if (!is_main) return;
  if (!ended.status) {
    log::warn("{}: how process {} ended cannot be known: its parent took its status",
              parts_.spec.service, child.pid());
    ended.status = os::ExitStatus{.code = 255};
  }
  stdout_.flush();
  stderr_.flush();
  if (ended.others_live && ended.status->success()) {
    follow_pid_file();
    if (&child != &parts_.tree.main()) return;  // It had named its successor in time.
  }
  happen(input::MainEnded{.status = *ended.status, .others_live = ended.others_live});
}

async::Task<void> Instance::Body::deliver() {
  while (true) {
    co_await outbox_grown_.wait();
    outbox_grown_.reset();
    while (!outbox_.empty()) {
      InstanceEvent const event = std::move(outbox_.front());
      outbox_.pop_front();
      if (!closing_ && parts_.events) parts_.events(parts_.spec.instance, event);
      if (std::holds_alternative<event::TreeEnded>(event)) tree_ended_.set();
    }
  }
}

async::Task<void> Instance::Body::ended() {
  co_await tree_ended_.wait();
}

async::Task<void> Instance::Body::grouped() {
  co_await grouped_.wait();
}

async::Task<void> Instance::Body::close() {
  co_await async::ignore_cancellation();
  closing_ = true;
  if (machine_.phase() != InstanceMachine::Phase::Gone) {
    happen(input::KillAsked{});
    bool const gone = co_await tree_ended_.wait_for(kClosePatience);
    if (!gone)
      log::error("{}: processes of instance {} do not end, not even by SIGKILL: is a disk hung?",
                 parts_.spec.service, parts_.spec.instance);
  }
  async::Task<std::vector<std::string>> stopping = tasks_.stop(kClosePatience);
  co_await std::move(stopping);
  closed_ = true;
}

}  // namespace aether::supervise
