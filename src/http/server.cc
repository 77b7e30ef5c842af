// SPDX-License-Identifier: Apache-2.0
#include "http/server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "async/task_group.h"
#include "async/timers.h"
#include "base/log.h"
#include "http/connection.h"
#include "http/head.h"
#include "http/listen.h"
#include "http/problem.h"
#include "os/unix_socket.h"

namespace aether::http {
namespace {

// Connections taken at one wake-up of a listener before others have their turn.
constexpr int kAcceptsPerTurn = 64;
// Connections that were told to give way and have not ended yet: those of one wake-up.
constexpr std::size_t kGivingWayMax = kAcceptsPerTurn;
// A burst waits here while the loop is busy; a connect() to a full queue is refused (man 7 unix).
constexpr int kUnixBacklog = 1024;
// After the deadline of a stop: cancelled connections end at once, unless a handler ignores it.
constexpr Duration kCancelGrace = std::chrono::seconds(5);

// A socket's file, with its identity: only our own file is removed.
struct SocketFile {
  std::string path;
  dev_t device = 0;
  ino_t inode = 0;
};

std::optional<SocketFile> identify(std::string const& path) {
  struct stat status{};
  if (path.starts_with('@') || ::lstat(path.c_str(), &status) != 0) return std::nullopt;
  return SocketFile{.path = path, .device = status.st_dev, .inode = status.st_ino};
}

void remove_file(SocketFile const& file) {
  auto const now = identify(file.path);
  if (!now || now->device != file.device || now->inode != file.inode) return;
  if (::unlink(file.path.c_str()) != 0) {
    log::warn("http: {}", system_error("unlink", file.path).message());
  }
}

struct Listener {
  Socket socket;
  std::string name;  // for the log
  std::optional<SocketFile> file;
};

}  // namespace

struct Server::State {
  State(async::Executor executor, Limits limits, Handler handler);
  ~State();

  [[nodiscard]] async::Task<void> accept_from(Listener& listener);
  [[nodiscard]] Status accept_some(Listener& listener);
  void take(Accepted client);
  [[nodiscard]] async::Task<void> serve(os::UniqueFd fd, Peer peer);
  void turn_away(os::UniqueFd fd);
  [[nodiscard]] bool make_room();
  void listen(os::UniqueFd fd, std::string name, std::optional<SocketFile> file);

  ConnectionContext context;
  std::vector<std::unique_ptr<Listener>> listeners;
  std::uint16_t port = 0;
  std::uint64_t turned_away = 0;
  async::TaskGroup acceptors;
  async::TaskGroup connections;
};

Server::State::State(async::Executor executor, Limits limits, Handler handler)
    : context{.executor = executor, .limits = limits, .handler = std::move(handler)},
      acceptors(executor, "http listeners"),
      connections(executor, "http connections", limits.connections + kGivingWayMax) {}

Server::State::~State() = default;

void Server::State::listen(os::UniqueFd fd, std::string name, std::optional<SocketFile> file) {
  listeners.push_back(
      std::make_unique<Listener>(Socket(context.executor, std::move(fd)), name, std::move(file)));
  acceptors.spawn(std::move(name), accept_from(*listeners.back()));
}

async::Task<void> Server::State::accept_from(Listener& listener) {
  while (true) {
    co_await listener.socket.wait_readable();
    Status const accepted = accept_some(listener);
    if (accepted) continue;
    if (accepted.error().code() != ErrorCode::LimitReached) throw accepted.error();
    log::warn("http: a connection to {} waits: {}", listener.name, accepted.error().message());
    co_await async::sleep_for(kAcceptPause);
  }
}

Status Server::State::accept_some(Listener& listener) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    TRY_ASSIGN(std::optional<Accepted> client, accept_client(listener.socket.fd()));
    if (!client) return {};
    take(std::move(*client));
  }
  return {};
}

void Server::State::take(Accepted client) {
  std::size_t const most = context.limits.connections;
  bool const full = connections.size() >= most;
  // Those that give way end on the loop's next turns; until then they count above the limit.
  if (full && (connections.size() >= most + kGivingWayMax || !make_room())) {
    return turn_away(std::move(client.fd));
  }
  std::string name = client.peer.address;
  connections.spawn(std::move(name), serve(std::move(client.fd), std::move(client.peer)));
}

/// The client that has kept us waiting longest gives way: a thousand that say nothing must not
/// lock out the one that has something to say. If there is none, the one that has waited longest
/// for the answer to a GET does, which it may ask again. False if there is none of these either.
bool Server::State::make_room() {
  Connection* longest = nullptr;
  Instant since = Instant::max();
  bool silent = false;  // What is found so far has not said what it wants.
  for (Connection* const one : context.open) {
    bool const waits = one->waiting_since().has_value();
    auto const here = waits ? one->waiting_since() : one->repeatable_since();
    if (!here || (silent && !waits)) continue;
    if (waits == silent && *here >= since) continue;
    longest = one;
    since = *here;
    silent = waits;
  }
  if (longest == nullptr) return false;
  longest->give_way();
  return true;
}

// The root of a connection's task: a client that goes away is no fault of ours.
async::Task<void> Server::State::serve(os::UniqueFd fd, Peer peer) {
  std::string const who = peer.address;
  Connection connection(context, Socket(context.executor, std::move(fd)), std::move(peer));
  try {
    co_await connection.serve();
  } catch (Error const& error) {
    log::debug("http: {}: {}", who, error.describe());
  }
}

// One line, if the kernel takes it at once, and the end: this must cost nothing.
void Server::State::turn_away(os::UniqueFd fd) {
  ++turned_away;
  Response const response =
      problem(503, fmt::format("{} connections are open already", context.limits.connections));
  auto head = response_head(response, {.framing = Framing::Length,
                                       .length = response.body.size(),
                                       .keep_alive = false,
                                       .date = context.clock.wall()});
  if (!head) return;
  *head += response.body;
  (void)::send(fd.get(), head->data(), head->size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(fd.get(), SHUT_WR);
}

Server::Server(async::Executor executor, Limits limits, Handler handler)
    : state_(std::make_unique<State>(std::move(executor), limits, std::move(handler))) {}

Server::~Server() = default;

Status Server::listen_tcp(std::string_view host, std::uint16_t port) {
  TRY_ASSIGN(TcpListener listener, open_tcp_listener(host, port));
  if (state_->port == 0) state_->port = listener.port;
  std::string name = fmt::format("{}:{}", host, listener.port);
  state_->listen(std::move(listener.fd), std::move(name), std::nullopt);
  return {};
}

Status Server::listen_unix(std::string path, unsigned mode) {
  TRY_ASSIGN(os::UniqueFd fd, os::listen_unix(path, os::UnixKind::Stream, mode, kUnixBacklog));
  auto file = identify(path);
  state_->listen(std::move(fd), std::move(path), std::move(file));
  return {};
}

async::Task<void> Server::stop(Duration deadline) {
  State& state = *state_;
  state.context.stopping = true;
  co_await async::ignore_cancellation();
  co_await state.acceptors.stop(kCancelGrace);
  for (auto const& listener : state.listeners) {
    if (listener->file) remove_file(*listener->file);
  }
  state.listeners.clear();
  for (Connection* connection : state.context.open) connection->begin_stop();
  try {
    co_await async::with_deadline(deadline, state.connections.join());
  } catch (...) {
    // The caller is cancelled: no more patience for the requests in flight.
    if (!async::is_cancelled(std::current_exception())) throw;
  }
  co_await state.connections.stop(kCancelGrace);
  co_await async::heed_cancellation();
}

std::uint16_t Server::port() const {
  return state_->port;
}

std::size_t Server::connections() const {
  return state_->connections.size();
}

std::uint64_t Server::turned_away() const {
  return state_->turned_away;
}

}  // namespace aether::http
