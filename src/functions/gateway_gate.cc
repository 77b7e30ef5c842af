// SPDX-License-Identifier: Apache-2.0
#include "functions/gateway_gate.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"
#include "functions/gateway_client.h"

namespace aether::functions {
namespace {

constexpr std::size_t kIdBytes = 16;

void set_option(int fd, int level, int option, int value) {
  (void)::setsockopt(fd, level, option, &value, sizeof(value));
}

/// A client whose machine is gone without a word is known after two minutes (60 + 4 * 15 s): a
/// tunnel or an event stream has no other limit.
void prepare_client(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

bool is_scarcity(int reason) {
  return reason == EMFILE || reason == ENFILE || reason == ENOBUFS || reason == ENOMEM;
}

bool somebody_waits(int listener) {
  pollfd asked{.fd = listener, .events = POLLIN, .revents = 0};
  return ::poll(&asked, 1, 0) > 0;
}

}  // namespace

std::string IdMint::make() {
  if (random_.size() < kIdBytes) {
    random_.resize(256 * kIdBytes);
    std::size_t filled = 0;
    while (filled < random_.size()) {
      ssize_t const got = ::getrandom(random_.data() + filled, random_.size() - filled, 0);
      AETHER_CHECK(got > 0 || errno == EINTR, "getrandom: {}", errno);
      if (got > 0) filled += static_cast<std::size_t>(got);
    }
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string id;
  id.reserve(2 * kIdBytes);
  for (std::size_t i = 0; i < kIdBytes; ++i) {
    unsigned const byte = random_.back();
    random_.pop_back();
    id.push_back(kDigits[byte >> 4U]);
    id.push_back(kDigits[byte & 15U]);
  }
  return id;
}

Gate::Gate(GatewayShared shared, RouteSpec route, std::shared_ptr<GatewayCounts> counts)
    : Watcher(shared.poller),
      shared_(shared),
      route_(std::move(route)),
      counts_(std::move(counts)),
      told_at_(shared.poller.turn()) {}

Gate::~Gate() {
  if (listener_) poller().unwatch(listener_.get());
}

Status Gate::open(os::UniqueFd listener) {
  listening_.watcher = this;
  TRY(poller().watch(listener.get(), listening_));
  listener_ = std::move(listener);
  return {};
}

void Gate::change(RouteSpec const& route) {
  std::string const function = std::exchange(route_, route).function;
  AETHER_CHECK(route_.function == function);
  hand_out();
}

void Gate::add(Backend const& backend) {
  remove(backend.instance, {.kind = BackendEnd::Kind::Died, .message = "its port has changed"});
  auto made =
      std::make_unique<GatewayBackend>(poller(), shared_.limits, backend, poller().clock().now());
  if (backend.ring && !open_line(*made, backend.ring)) return;
  backends_.push_back(std::move(made));
  hand_out();
}

GatewayBackend* Gate::find(InstanceId instance) {
  auto const found =
      std::ranges::find(backends_, instance, [](auto const& each) { return each->instance; });
  return found == backends_.end() ? nullptr : found->get();
}

void Gate::remove(InstanceId instance, BackendEnd const& why) {
  GatewayBackend* const backend = find(instance);
  if (backend == nullptr) return;
  bool const is_gone = why.kind != BackendEnd::Kind::Retired;
  // What it wrote before it ended counts.
  if (is_gone && backend->line) backend->line->woken();
  backend->retiring = true;
  backend->drop_kept();
  if (is_gone) {
    std::vector<GatewayClient*> const its = clients_of(*backend);
    // The last of them may take the backend with it.
    for (GatewayClient* client : its) client->backend_ended(why);
  }
  if (GatewayBackend* const left = find(instance)) erase_if_over(*left);
  queue_changed();
}

void Gate::erase_if_over(GatewayBackend& backend) {
  if (!backend.retiring || backend.in_flight > 0) return;
  InstanceId const instance = backend.instance;
  std::erase_if(backends_, [&](auto const& each) { return each.get() == &backend; });
  auto const [first, last] = drained_.equal_range(instance);
  for (auto each = first; each != last; ++each) each->second();
  drained_.erase(first, last);
}

void Gate::when_drained(InstanceId instance, std::function<void()> then) {
  GatewayBackend const* const backend = find(instance);
  if (backend == nullptr || backend->in_flight == 0) return then();
  drained_.emplace(instance, std::move(then));
}

void Gate::fail_waiting(std::string const& reason) {
  std::vector<GatewayClient*> const waiting(queue_.begin(), queue_.end());
  for (GatewayClient* client : waiting) {
    client->refuse({.status = 503, .code = "unavailable", .message = reason});
  }
}

// ---- Requests

GatewayBackend* Gate::choose() {
  // The least busy; of equals the oldest, so that the youngest become idle and can go.
  GatewayBackend* best = nullptr;
  for (auto const& each : backends_) {
    if (!each->takes_requests()) continue;
    if (route_.concurrency > 0 && each->in_flight >= route_.concurrency) continue;
    if (best == nullptr || each->in_flight < best->in_flight) best = each.get();
  }
  return best;
}

void Gate::give(GatewayClient& client, GatewayBackend& backend) {
  ++in_flight_;
  ++backend.in_flight;
  counts_->in_flight.store(in_flight_, std::memory_order_relaxed);
  touched(backend);
  // Told before it has a byte of it: one whose first request kills it has not failed to start.
  if (!std::exchange(backend.was_given, true))
    shared_.mail.busy(route_.function, backend.instance, backend.in_flight);
  client.give(backend);
}

void Gate::arrived(GatewayClient& client) {
  if (queue_.empty()) {
    if (GatewayBackend* const backend = choose()) return give(client, *backend);
  }
  client.state_ = GatewayClient::State::Waiting;
  client.queued_at_ = queue_.insert(queue_.end(), &client);
  client.in_queue_ = true;
  poller().set_alarm(client, client.request_.deadline);
  queue_changed();
}

void Gate::wait_again(GatewayClient& client) {
  client.state_ = GatewayClient::State::Waiting;
  client.queued_at_ = queue_.insert(queue_.begin(), &client);
  client.in_queue_ = true;
  poller().set_alarm(client, client.request_.deadline);
  poller().wake(*this);  // another one may have room
  queue_changed();
}

void Gate::leave_queue(GatewayClient& client) {
  if (!std::exchange(client.in_queue_, false)) return;
  queue_.erase(client.queued_at_);
  counts_->queued.store(static_cast<std::uint32_t>(queue_.size()), std::memory_order_relaxed);
  if (queue_.empty()) shared_.mail.wanted(route_.function, 0);
}

void Gate::queue_changed() {
  auto const waiting = static_cast<std::uint32_t>(queue_.size());
  counts_->queued.store(waiting, std::memory_order_relaxed);
  if (waiting == 0) return;
  // Or what is busy already would be taken for free.
  if (busy_changed_) tell_busy();
  shared_.mail.wanted(route_.function, waiting);
}

void Gate::hand_out() {
  while (!queue_.empty()) {
    GatewayBackend* const backend = choose();
    if (backend == nullptr) return;
    GatewayClient& client = *queue_.front();
    leave_queue(client);
    give(client, *backend);
    // What it sent while it waited makes no edge again.
    poller().wake(client);
  }
}

void Gate::release(GatewayBackend& backend) {
  AETHER_CHECK(backend.in_flight > 0 && in_flight_ > 0);
  --in_flight_;
  --backend.in_flight;
  counts_->in_flight.store(in_flight_, std::memory_order_relaxed);
  touched(backend);
  if (!queue_.empty()) poller().wake(*this);
  erase_if_over(backend);
}

void Gate::unreachable(GatewayBackend& backend, std::string why) {
  if (std::exchange(backend.unreachable, true)) return;
  backend.drop_kept();
  log::warn("function {}: instance {} gets no more requests: {}", route_.function, backend.instance,
            why);
  shared_.mail.unreachable(route_.function, backend.instance, std::move(why));
}

void Gate::timed_out(GatewayBackend& backend) {
  backend.hangs = true;
  backend.drop_kept();
  shared_.mail.timed_out(route_.function, backend.instance);
}

void Gate::touched(GatewayBackend& backend) {
  // One that began and ended a request since the owner was told has not been idle.
  backend.touched = true;
  if (std::exchange(busy_changed_, true)) return;
  // Many requests come and go in that time; whoever is told wants to know how it is, not each of
  // them.
  poller().set_alarm(*this, std::min(told_at_ + kBusyInterval, accept_again_));
}

void Gate::tell_busy() {
  busy_changed_ = false;
  told_at_ = poller().turn();
  for (auto const& each : backends_) {
    if (!std::exchange(each->touched, false)) continue;
    shared_.mail.busy(route_.function, each->instance, each->in_flight);
  }
}

// ---- Connections

void Gate::woken() {
  hand_out();
  if (listening_.readable && accept_again_ == Instant::max()) accept_clients(kAcceptsPerTurn);
}

void Gate::due() {
  Instant const now = poller().turn();
  if (accept_again_ <= now) {
    accept_again_ = Instant::max();
    poller().wake(*this);
  }
  if (busy_changed_ && told_at_ + kBusyInterval <= now) {
    // One that has nothing to do while somebody waits is about to get that request.
    hand_out();
    tell_busy();
  }
  Instant const next = busy_changed_ ? told_at_ + kBusyInterval : Instant::max();
  Instant const then = std::min(next, accept_again_);
  if (then != Instant::max()) poller().set_alarm(*this, then);
}

void Gate::accept_clients(int most) {
  for (int i = 0; i < most; ++i) {
    if (!accept_one()) return;
  }
  poller().wake(*this);  // there may be more
}

/// False if there is none to accept now.
bool Gate::accept_one() {
  http::SocketAddress from;
  from.length = sizeof(from.storage);
  auto* out = reinterpret_cast<sockaddr*>(&from.storage);
  os::UniqueFd fd(::accept4(listener_.get(), out, &from.length, SOCK_CLOEXEC | SOCK_NONBLOCK));
  int const reason = errno;
  if (!fd && reason == EAGAIN) {
    listening_.readable = false;
    return false;
  }
  if (!fd && is_scarcity(reason)) {
    // The kernel wants a descriptor before it looks whether anybody is there.
    listening_.readable = somebody_waits(listener_.get());
    if (!listening_.readable) return false;
    // One that we wait for gives its descriptor. Without one we look again a little later: the
    // edge is over, and a loop would spin.
    if (!resting_.empty()) {
      make_place();
      return true;
    }
    if (!std::exchange(scarce_, true)) {
      log::warn("function {}: {}; its clients wait", route_.function,
                system_error_from(reason, "accept4").message());
    }
    accept_again_ = poller().turn() + shared_.limits.accept_pause;
    poller().set_alarm(*this, accept_again_);
    return false;
  }
  // All else is the fate of that one connection (man 2 accept): the next one may be well.
  if (!fd) return true;
  scarce_ = false;
  prepare_client(fd.get());
  if (clients_.size() >= shared_.limits.clients) make_place();
  auto client = std::make_unique<GatewayClient>(*this, from);
  if (!client->open(std::move(fd))) {
    client->leave();
    return true;
  }
  clients_.emplace(client.get(), std::move(client));
  return true;
}

/// The one that has kept us waiting longest for its next request gives way.
void Gate::make_place() {
  if (!resting_.empty()) resting_.front()->leave();
}

void Gate::began_rest(GatewayClient& client) {
  client.resting_at_ = resting_.insert(resting_.end(), &client);
  client.in_rest_ = true;
}

void Gate::ended_rest(GatewayClient& client) {
  if (std::exchange(client.in_rest_, false)) resting_.erase(client.resting_at_);
}

void Gate::gone(GatewayClient& client) {
  auto const found = clients_.find(&client);
  if (found == clients_.end()) return;
  poller().bury(std::move(found->second));
  clients_.erase(found);
  closed_if_over();
}

void Gate::close(std::function<void()> then) {
  closed_ = std::move(then);
  if (!std::exchange(closing_, true)) {
    // Who is in the backlog was accepted by the kernel: closing would reset it.
    while (accept_one() && clients_.size() < shared_.limits.clients) {
    }
    poller().unwatch(listener_.get());
    listener_.reset();
    listening_.readable = false;
    std::vector<GatewayClient*> all;
    for (auto const& [client, owned] : clients_) all.push_back(client);
    for (GatewayClient* client : all) client->hurry();
  }
  closed_if_over();
}

void Gate::closed_if_over() {
  if (closing_ && clients_.empty() && closed_) std::exchange(closed_, {})();
}

void Gate::cut_all() {
  std::vector<GatewayClient*> all;
  for (auto const& [client, owned] : clients_) all.push_back(client);
  for (GatewayClient* client : all) client->leave();
}

}  // namespace aether::functions
