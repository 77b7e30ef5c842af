// SPDX-License-Identifier: Apache-2.0
// How an instance's readiness shows: who accepts, what a probe is answered, what comes through its
// descriptor; and what to say when it does not show.
#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "http/url.h"
#include "os/accepting.h"
#include "supervise/instance_body.h"

namespace aether::supervise {
namespace {

/// Of one attempt of a readiness probe; ready_timeout bounds all of them.
constexpr Duration kProbeTimeout = std::chrono::seconds(5);
/// A probe costs the program something, a command probe a process: not too often.
constexpr Duration kProbePollLast = std::chrono::milliseconds(250);

/// A unix path leads to the revision that is steered to: this instance's own socket has another.
std::string own_address(std::string const& text, std::vector<PassedListener> const& listeners) {
  auto const address = parse_address(text);
  if (!address || !address->is_unix() || address->abstract_name) return text;
  auto const same = std::ranges::find_if(listeners, [&](PassedListener const& listener) {
    return listener.address.is_unix() && listener.address.path == address->path;
  });
  bool const known = same != listeners.end() && !same->own_path.empty();
  return known ? "unix:" + same->own_path : text;
}

}  // namespace

bool Instance::Body::accepts_everywhere() const {
  std::vector<pid_t> const tree = parts_.tree.members();
  auto const& own = parts_.world.own_binds;
  if (own && !own->complete(tree)) return false;
  if (parts_.spec.listeners.empty()) return own || os::listens(tree).value_or(false);
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
  if (auto const& own = parts_.world.own_binds) {
    probe.own_port = own->own_port;
    if (probe.port == 0) probe.port = own->first_port;
  }
  if (auto const* http = std::get_if<config::ReadyHttp>(&spec.ready))
    probe.what = config::ProbeHttp{http->url};
  else if (auto const* tcp = std::get_if<config::ReadyTcp>(&spec.ready))
    probe.what = config::ProbeTcp{own_address(tcp->address, spec.listeners)};
  else if (auto const* command = std::get_if<config::ReadyCommand>(&spec.ready))
    probe.what = config::ProbeCommand{command->command};
  return probe;
}

async::Task<void> Instance::Body::watch_ready() {
  using Watch = InstanceMachine::Watch;
  ProbeSpec asked = readiness_probe();
  // The revision before is steered to still: it must not be the one that answers.
  if (probes_own_listener()) asked.introduce = parts_.world.introduce;
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
std::string Instance::Body::late_hint(event::ReadyTimedOut const& late) const {
  LaunchSpec const& spec = parts_.spec;
  if (spec.pid_file && late.backgrounded)
    return fmt::format("it went to the background, and {} named none of its processes",
                       *spec.pid_file);
  if (spec.work_fd >= 0)
    return "it has not asked for work through AETHER_WORK_FD: a program that does the jobs of an "
           "agent ends with serve()";
  if (std::holds_alternative<config::ReadyNotify>(spec.ready))
    return "it sent no READY=1 to NOTIFY_SOCKET, and no SDK said hello";
  if (auto const* ready = std::get_if<config::ReadyFd>(&spec.ready))
    return fmt::format("it wrote no newline to its descriptor {}", ready->fd);
  if (auto const* ready = std::get_if<config::ReadyLog>(&spec.ready))
    return fmt::format("no line of its output had \"{}\"", ready->pattern);
  if (!last_probe_.empty()) return "the last answer of its probe: " + last_probe_;
  using Sockets = std::vector<os::ListeningSocket>;
  auto const sockets = os::listening_sockets(parts_.tree.members());
  for (os::ListeningSocket const& socket : sockets.value_or(Sockets{})) {
    bool const passed = std::ranges::any_of(spec.listeners, [&](PassedListener const& listener) {
      return listener.inode == socket.inode;
    });
    bool const own = parts_.world.own_binds.has_value();
    if (own)
      return fmt::format("it listens on {}, and has not bound all of {} (steer: bpf)",
                         socket.address, parts_.world.own_binds->addresses);
    if (!passed)
      return fmt::format(
          "it listens on {}, which it opened itself, and not on the listener that it "
          "was given as fd {}; for a program that binds its own port say `listen: none`",
          socket.address, kFirstListenerFd);
  }
  if (auto const& own = parts_.world.own_binds)
    return fmt::format("it has not bound all of {} (steer: bpf)", own->addresses);
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
  if (parts_.world.own_binds) return true;
  return std::ranges::any_of(parts_.spec.listeners, [&](PassedListener const& listener) {
    Address const& address = listener.address;
    if (!address.is_unix()) return port != 0 && address.port == port;
    return !path.empty() && (address.path == path || listener.own_path == path);
  });
}

bool Instance::Body::hear_ready_pipe() {
  std::array<char, 256> bytes{};
  while (true) {
    ssize_t const count = ::read(parts_.ready_pipe.get(), bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return true;
    if (count <= 0) return false;  // Closed without a word: it will not be ready by this.
    std::string_view const text(bytes.data(), static_cast<std::size_t>(count));
    if (!text.contains('\n')) continue;
    happen(input::FdNewline{});
    return false;
  }
}

async::Task<void> Instance::Body::watch_ready_pipe() {
  do {
    int const fd = parts_.ready_pipe.get();
    co_await async::readable(fd);
  } while (hear_ready_pipe());
  parts_.ready_pipe.reset();
}

}  // namespace aether::supervise
