// SPDX-License-Identifier: Apache-2.0
#include "supervise/instance_body.h"

#include <signal.h>

#include <algorithm>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/check.h"
#include "base/log.h"
#include "http/url.h"
#include "os/accepting.h"

namespace aether::supervise {
namespace {

/// Looking at a starting or ending tree: often at first, when it is most likely to change.
constexpr Duration kPollFirst = std::chrono::milliseconds(5);
constexpr Duration kPollLast = std::chrono::milliseconds(50);
/// Of one attempt of a readiness probe; ready_timeout bounds all of them.
constexpr Duration kProbeTimeout = std::chrono::seconds(5);
/// A probe costs the program something, a command probe a process: not too often.
constexpr Duration kProbePollLast = std::chrono::milliseconds(250);
/// Datagrams taken in one turn of the loop; the kernel's own queue holds a few dozen at most.
constexpr std::size_t kNotifyPerTurn = 256;
/// At the end of the main process everything said before it must be heard.
constexpr std::size_t kNotifyAtEnd = 4096;
/// For SIGKILL to do its work when the instance is closed.
constexpr Duration kClosePatience = std::chrono::seconds(5);

Duration longer(Duration poll, Duration last = kPollLast) {
  return std::min(poll * 5 / 4, last);
}

InstancePolicy policy_of(LaunchSpec const& spec) {
  return {.ready = spec.ready,
          .has_listeners = !spec.listeners.empty(),
          .ready_timeout = spec.ready_timeout,
          .watchdog = spec.watchdog};
}

}  // namespace

Instance::Body::Body(Parts parts)
    : parts_(std::move(parts)),
      machine_(policy_of(parts_.spec), parts_.world.clock.now()),
      started_(parts_.world.clock.now()),
      stdout_(std::move(parts_.stdout_pipe),
              [this](SplitLine line) { append_line(LogStream::Stdout, line); }),
      stderr_(std::move(parts_.stderr_pipe),
              [this](SplitLine line) { append_line(LogStream::Stderr, line); }),
      tasks_(parts_.world.executor,
             fmt::format("{} instance {}", parts_.spec.service, parts_.spec.instance)) {}

Instance::Body::~Body() {
  AETHER_CHECK(closed_, "instance {} of {} was destroyed without close()", parts_.spec.instance,
               parts_.spec.service);
}

void Instance::Body::begin() {
  tasks_.spawn("events", deliver());
  tasks_.spawn("notify socket", watch_notify());
  tasks_.spawn("stdout", stdout_.run());
  tasks_.spawn("stderr", stderr_.run());
  tasks_.spawn("main process", watch_main(&parts_.tree.main()));
  tasks_.spawn("deadlines", watch_time());
  if (machine_.watch() != InstanceMachine::Watch::Nothing) tasks_.spawn("readiness", watch_ready());
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
    exited->last_lines = parts_.world.logs.last_texts(parts_.spec.instance, kLastLines);
  }
  if (auto* late = std::get_if<event::ReadyTimedOut>(&event)) late->hint = late_hint();
  outbox_.push_back(std::move(event));
  outbox_grown_.set();
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
  pid_t const from = parts_.tree.main().pid();
  if (adopt.pid == from) return;
  auto adopted = parts_.tree.adopt_main(adopt.pid);
  if (!adopted) {
    log::warn("{}: {}", parts_.spec.service, adopted.error().message());
    return;
  }
  tasks_.spawn("main process", watch_main(*adopted));
  happen(input::MainAdopted{.from = from, .to = adopt.pid});
}

void Instance::Body::on(perform::AwaitTree) {
  tasks_.spawn("process tree", watch_tree());
}

void Instance::Body::append_line(LogStream stream, SplitLine line) {
  parts_.world.logs.append({.revision = parts_.spec.revision,
                            .instance = parts_.spec.instance,
                            .stream = stream,
                            .continues = line.continues,
                            .text = std::string(line.text)});
}

bool Instance::Body::hear(std::size_t messages_max) {
  return parts_.notify.drain(
      messages_max, [this](pid_t pid) { return parts_.tree.owns(pid); },
      [this](NotifyMessage const& message) { happen(input::Said{message}); });
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
  happen(input::MainEnded{.status = *ended.status, .others_live = ended.others_live});
}

async::Task<void> Instance::Body::watch_main(os::Child* child) {
  int const pidfd = child->pidfd();
  co_await async::readable(pidfd);
  main_ended(*child);
}

async::Task<void> Instance::Body::watch_notify() {
  int const fd = parts_.notify.fd();
  while (true) {
    co_await async::readable(fd);
    hear(kNotifyPerTurn);
  }
}

async::Task<void> Instance::Body::watch_time() {
  while (machine_.phase() != InstanceMachine::Phase::Gone) {
    auto const due = machine_.due();
    if (!due) {
      co_await moved_.wait();
    } else if (parts_.world.clock.now() >= *due) {
      happen(input::Tick{});
    } else {
      co_await moved_.wait_until(*due);
    }
  }
}

async::Task<void> Instance::Body::watch_tree() {
  Duration poll = kPollFirst;
  while (!parts_.tree.members().empty()) {
    // Past its time: again and again, because it may fork while it is being killed.
    if (!machine_.due()) parts_.tree.kill_all();
    co_await async::sleep_for(poll);
    poll = longer(poll);
  }
  stdout_.finish();
  stderr_.finish();
  happen(input::TreeEmpty{});
}

bool Instance::Body::accepts_everywhere() const {
  std::vector<pid_t> const tree = parts_.tree.members();
  if (parts_.spec.listeners.empty()) return os::listens(tree).value_or(false);
  return std::ranges::all_of(parts_.spec.listeners, [&](PassedListener const& listener) {
    return os::is_accepting(tree, listener.inode).value_or(false);
  });
}

ProbeSpec Instance::Body::readiness_probe() const {
  LaunchSpec const& spec = parts_.spec;
  ProbeSpec probe{.timeout = kProbeTimeout,
                  .environment = parts_.environment,
                  .workdir = spec.workdir,
                  .user = spec.user,
                  .known = parts_.world.known};
  for (PassedListener const& listener : spec.listeners)
    if (probe.port == 0 && listener.address.transport == Transport::Tcp)
      probe.port = listener.address.port;
  if (auto const* http = std::get_if<config::ReadyHttp>(&spec.ready))
    probe.what = config::ProbeHttp{http->url};
  else if (auto const* tcp = std::get_if<config::ReadyTcp>(&spec.ready))
    probe.what = config::ProbeTcp{tcp->address};
  else if (auto const* command = std::get_if<config::ReadyCommand>(&spec.ready))
    probe.what = config::ProbeCommand{command->command};
  return probe;
}

async::Task<void> Instance::Body::watch_ready() {
  using Watch = InstanceMachine::Watch;
  ProbeSpec const asked = readiness_probe();
  bool const needs_accepting = machine_.watch() == Watch::Listening || probes_own_listener();
  Duration poll = kPollFirst;
  while (machine_.watch() != Watch::Nothing) {
    if (!needs_accepting || accepts_everywhere()) {
      if (machine_.watch() == Watch::Listening) {
        happen(input::Accepting{});
        co_return;
      }
      async::Task<ProbeResult> asking = probe(parts_.world.clock, asked);
      ProbeResult const answer = co_await std::move(asking);
      last_probe_ = answer.reason;
      if (answer.healthy) happen(input::ProbePassed{});
    }
    co_await async::sleep_for(poll);
    poll = longer(poll, machine_.watch() == Watch::Probe ? kProbePollLast : kPollLast);
  }
}

/// Why it may not have become ready: what is looked for, and what is there instead.
std::string Instance::Body::late_hint() const {
  LaunchSpec const& spec = parts_.spec;
  if (std::holds_alternative<config::ReadyNotify>(spec.ready))
    return "it sent no READY=1 to NOTIFY_SOCKET, and no SDK said hello";
  if (!last_probe_.empty()) return "the last answer of its probe: " + last_probe_;
  using Sockets = std::vector<os::ListeningSocket>;
  auto const sockets = os::listening_sockets(parts_.tree.members());
  for (os::ListeningSocket const& socket : sockets.value_or(Sockets{})) {
    bool const passed = std::ranges::any_of(spec.listeners, [&](PassedListener const& listener) {
      return listener.inode == socket.inode;
    });
    if (!passed)
      return fmt::format(
          "it listens on {}, which it opened itself, and not on the listener that it "
          "was given as fd {}; for a program that binds its own port say `listen: none`",
          socket.address, kFirstListenerFd);
  }
  return fmt::format("it does not accept on the listeners that it was given, from fd {} on",
                     kFirstListenerFd);
}

/// The kernel takes connections for a listener that nobody accepts on yet, and the revision before
/// may answer on the same port: such an answer says nothing about this instance until it accepts.
bool Instance::Body::probes_own_listener() const {
  ProbeSpec const spec = readiness_probe();
  std::uint16_t port = 0;
  std::string path;
  if (auto const* http = std::get_if<config::ProbeHttp>(&spec.what)) {
    if (auto const url = http::parse_url(config::probe_url(http->url, spec.port))) port = url->port;
  } else if (auto const* tcp = std::get_if<config::ProbeTcp>(&spec.what)) {
    auto const address = parse_address(tcp->address);
    if (address) port = address->port;
    if (address) path = address->path;
  }
  return std::ranges::any_of(parts_.spec.listeners, [&](PassedListener const& listener) {
    Address const& address = listener.address;
    return address.is_unix() ? !path.empty() && address.path == path
                             : port != 0 && address.port == port;
  });
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
