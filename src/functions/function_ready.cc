// SPDX-License-Identifier: Apache-2.0
// When a process of a function serves: it says so, or answers so, and listens.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "functions/function_impl.h"
#include "http/client.h"
#include "os/accepting.h"
#include "supervise/printable.h"

namespace aether::functions {
namespace {

/// How often is looked whether a handler listens.
constexpr Duration kListenPollFirst = std::chrono::microseconds(500);
constexpr Duration kListenPollLast = std::chrono::milliseconds(20);
/// How often it is asked, which costs it something, and how long it may take to answer.
constexpr Duration kAskPollFirst = std::chrono::milliseconds(10);
constexpr Duration kAskPollLast = std::chrono::milliseconds(250);
constexpr Duration kAnswerLimit = std::chrono::seconds(5);

bool is_on_port(os::ListeningSocket const& socket, std::uint16_t port) {
  return !socket.address.starts_with("unix:") && socket.address.ends_with(fmt::format(":{}", port));
}

std::vector<os::ListeningSocket> sockets_of(supervise::Instance const& instance) {
  std::vector<pid_t> const tree = instance.tree();
  auto sockets = os::listening_sockets(tree);
  return sockets ? std::move(*sockets) : std::vector<os::ListeningSocket>{};
}

}  // namespace

std::string with_last_lines(std::string text, std::vector<std::string> const& lines) {
  for (std::string const& line : lines)
    text += fmt::format("{}{}", supervise::kQuoted, supervise::excerpt(line));
  return text;
}

/// It waits for connections where it is to be reached. A listener that it inherits listens already:
/// then it must have a thread that waits there.
bool Function::Impl::takes_connections(Live& live) const {
  if (live.ring) return live.ring->is_attached();
  if (live.binds) return find_listener(live);
  if (is_direct()) {
    std::vector<pid_t> const tree = live.instance->tree();
    return os::is_accepting(tree, direct_->inode(live.revision->id)).value_or(false);
  }
  return std::ranges::any_of(sockets_of(*live.instance),
                             [&](auto const& socket) { return is_on_port(socket, live.port); });
}

async::Task<Status> Function::Impl::until_serving(InstanceId instance, Duration limit) {
  Instant const deadline = deps_.clock.now() + limit;
  Duration poll = kListenPollFirst;
  while (true) {
    Live* const live = find(instance);
    if (live == nullptr) co_return fail(ErrorCode::ExitedEarly, fmt::format("{} is gone", id_));
    config::Function const& function = live->revision->spec.function;
    if (live->exited) {
      std::string const told = fmt::format(
          "handler {} {} before it was ready{}", function.handler_path,
          live->exited->status.describe(),
          live->instance->memory_kills() > 0
              ? fmt::format(": memory limit of {} MB exceeded", function.memory_limit_mb)
              : "");
      co_return fail(ErrorCode::ExitedEarly, with_last_lines(told, live->exited->last_lines));
    }
    if (live->ending || stopping_)
      co_return fail(ErrorCode::NotReady, fmt::format("{}: it was ended before it was ready", id_));
    bool ready = live->ready_said && takes_connections(*live);
    auto const* http = std::get_if<config::ReadyHttp>(&function.ready);
    if (ready && http != nullptr) {
      async::Task<bool> asking = answers_ready(instance, http->url);
      ready = co_await std::move(asking);
      poll = std::clamp(poll * 2, kAskPollFirst, kAskPollLast);
    } else {
      poll = std::min(poll * 5 / 4, kListenPollLast);
    }
    if (ready) co_return Status{};
    if (deps_.clock.now() >= deadline) co_return not_ready(instance, limit);
    Live* const still = find(instance);
    if (still == nullptr) continue;
    async::Task<bool> moving =
        still->moved.wait_until(std::min(deadline, deps_.clock.now() + poll));
    co_await std::move(moving);
  }
}

Failure Function::Impl::not_ready(InstanceId instance, Duration limit) {
  Live const* const live = find(instance);
  if (live == nullptr) return fail(ErrorCode::ExitedEarly, fmt::format("{} is gone", id_));
  return fail(ErrorCode::NotReady,
              with_last_lines(fmt::format("handler {} was not ready within {}: {}",
                                          live->revision->spec.function.handler_path,
                                          humanize(limit), late_hint(*live)),
                              logs_.last_texts(instance, supervise::kLastLines)));
}

async::Task<bool> Function::Impl::answers_ready(InstanceId instance, std::string path) {
  Live* const live = find(instance);
  if (live == nullptr) co_return false;
  async::Task<Answered> asking = live->ring ? ask_ring(live->ring, path, kAnswerLimit)
                                            : ask(live->revision, live->port, path, kAnswerLimit);
  Answered const answered = co_await std::move(asking);
  Live* const still = find(instance);
  if (still == nullptr) co_return false;
  still->asked = answered.status == 0
                     ? fmt::format("GET {} failed: {}", path, answered.why)
                     : fmt::format("GET {} was answered with {}", path, answered.status);
  co_return answered.status >= 200 && answered.status < 300;
}

async::Task<Function::Impl::Answered> Function::Impl::ask(RevisionPtr revision, std::uint16_t port,
                                                          std::string path, Duration limit) {
  http::Endpoint endpoint = http::Endpoint::tcp("127.0.0.1", port);
  if (is_direct() && !is_looked_up())
    endpoint.before_connect = [this, id = revision->id](int socket) {
      direct_->introduce(id, socket);
    };
  http::Request request{.method = "GET", .target = path};
  async::Task<http::Response> asking = http::fetch(std::move(endpoint), std::move(request), limit);
  Answered answered;
  try {
    http::Response const answer = co_await std::move(asking);
    answered.status = answer.status;
  } catch (Error const& error) {
    answered.why = error.message();
  }
  if (is_direct()) direct_->farewell(revision->id);
  co_return answered;
}

std::string Function::Impl::late_hint(Live const& live) const {
  auto const sockets = sockets_of(*live.instance);
  auto const tcp = std::ranges::find_if(sockets, [](os::ListeningSocket const& socket) {
    return !socket.address.starts_with("unix:");
  });
  if (!live.ready_said)
    return tcp == sockets.end() || is_direct()
               ? "it neither said READY on AETHER_SOCKET nor READY=1 on NOTIFY_SOCKET (ready: port "
                 "does without)"
               : fmt::format(
                     "it listens on {}, but said READY neither on AETHER_SOCKET nor on "
                     "NOTIFY_SOCKET (ready: port does without)",
                     tcp->address);
  if (!live.asked.empty()) return live.asked;
  if (live.ring)
    return live.ring->complaint().empty() ? "it said READY, but has not attached the ring that "
                                            "AETHER_RING names (docs/functions-ring.md)"
                                          : live.ring->complaint();
  if (is_direct() && !live.binds)
    return fmt::format(
        "it does not wait for connections on the listener that it inherits, descriptor {} "
        "(LISTEN_FDS; docs/functions.md, route: direct)",
        supervise::kFirstListenerFd);
  bool const says = std::holds_alternative<config::ReadyNotify>(live.revision->spec.function.ready);
  if (tcp == sockets.end())
    return says ? "it said READY, but listens nowhere" : "it listens nowhere";
  return fmt::format(
      "it listens on {}, and not on the port that AETHER_TRIGGER_PORT and PORT name, "
      "{}",
      tcp->address, live.port);
}

}  // namespace aether::functions
