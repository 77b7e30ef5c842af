// SPDX-License-Identifier: Apache-2.0
#include "functions/lookup_route.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "steer/connections.h"
#include "steer/queue.h"

namespace aether::functions {
namespace {

/// A demand that was not answered is told again.
constexpr Duration kAskAgain = std::chrono::seconds(1);
constexpr Duration kQueueLook = std::chrono::milliseconds(2);
constexpr Duration kLookupTasksEnd = std::chrono::seconds(2);

/// The waiting listener is looked at as long as it lives: nothing has to settle.
constexpr steer::RescueLimits kEntranceLimits{.settle = Duration::zero(), .is_routine = true};
constexpr steer::RescueLimits kLeftLimits{.is_routine = true};

os::UniqueFd duplicate(int fd) {
  return os::UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

/// Whether only IPv6 reaches it.
bool is_only_ipv6(int listener) {
  int family = 0;
  socklen_t size = sizeof(family);
  if (::getsockopt(listener, SOL_SOCKET, SO_DOMAIN, &family, &size) != 0 || family != AF_INET6)
    return false;
  int only = 0;
  size = sizeof(only);
  return ::getsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &only, &size) == 0 && only != 0;
}

std::uint32_t depth(int listener) {
  auto const queue = steer::read_queue(listener, Transport::Tcp);
  return queue ? queue->connections : 0;
}

std::uint32_t depth(std::vector<os::UniqueFd> const& listeners) {
  std::uint32_t all = 0;
  for (os::UniqueFd const& one : listeners) all += depth(one.get());
  return all;
}

}  // namespace

Result<std::unique_ptr<LookupRoute>> LookupRoute::open(async::Executor executor,
                                                       steer::LookupRouter& router,
                                                       std::uint16_t port, Wanted wanted) {
  TRY_ASSIGN(Address address, parse_address(fmt::format(":{}", port)));
  TRY_ASSIGN(steer::Route route,
             router.claim({.name = fmt::format("port {}", port), .address = std::move(address)}));
  os::UniqueFd waiting = duplicate(route.waiting_fd());
  if (!waiting) return fail(system_error("fcntl", "F_DUPFD_CLOEXEC of a waiting listener"));
  auto made = std::unique_ptr<LookupRoute>(
      new LookupRoute(executor, std::move(route), port, std::move(wanted)));
  made->waiting_ = std::move(waiting);
  made->tasks_.spawn("demand", made->watch());
  return made;
}

LookupRoute::LookupRoute(async::Executor executor, steer::Route route, std::uint16_t port,
                         Wanted wanted)
    : port_(port),
      wanted_(std::move(wanted)),
      route_(std::move(route)),
      left_(executor, kLeftLimits),
      entrance_(executor, kEntranceLimits),
      counting_(1),
      tasks_(executor, fmt::format("lookup route :{}", port)) {}

LookupRoute::~LookupRoute() = default;

// ---- Who serves ---------------------------------------------------------------------------------

bool LookupRoute::takes(Server const& server) const {
  return server.revision == steered_ && !server.paused && !server.listeners.empty();
}

LookupRoute::Server const* LookupRoute::first_server() const {
  auto const found =
      std::ranges::find_if(serving_, [&](auto const& one) { return takes(one.second); });
  return found == serving_.end() ? nullptr : &found->second;
}

Status LookupRoute::apply() {
  if (!route_) return fail(ErrorCode::NotRunning, "the port is closed");
  std::vector<steer::Share> shares;
  for (auto const& [instance, server] : serving_) {
    if (!takes(server)) continue;
    for (os::UniqueFd const& listener : server.listeners) {
      bool const has_room = shares.size() < steer::kRouteSharesMax;
      if (has_room) shares.push_back({.fd = listener.get(), .weight = 1, .tag = instance.value});
    }
  }
  changed_.set();
  return route_->direct(shares);
}

void LookupRoute::applied() {
  if (!route_) return;
  if (Status const told = apply(); !told) log::error("port {}: {}", port_, told.error().describe());
}

Status LookupRoute::steer_to(RevisionId revision) {
  RevisionId const before = std::exchange(steered_, revision);
  Status const told = apply();
  if (!told) steered_ = before;
  return told;
}

void LookupRoute::add(InstanceId instance, RevisionId revision,
                      std::vector<os::UniqueFd> listeners) {
  serving_[instance] = {.revision = revision, .listeners = std::move(listeners)};
  applied();
}

void LookupRoute::remove(InstanceId instance) {
  auto const found = serving_.find(instance);
  if (found == serving_.end()) return;
  std::vector<os::UniqueFd> listeners = std::move(found->second.listeners);
  serving_.erase(found);
  applied();
  for (os::UniqueFd& one : listeners) {
    if (route_) tasks_.spawn("bring over what waits", bring_over(instance, std::move(one)));
  }
}

void LookupRoute::pause(InstanceId instance) {
  auto const found = serving_.find(instance);
  if (found == serving_.end() || found->second.paused) return;
  found->second.paused = true;
  applied();
}

void LookupRoute::resume(InstanceId instance) {
  auto const found = serving_.find(instance);
  if (found == serving_.end() || !found->second.paused) return;
  found->second.paused = false;
  applied();
}

// ---- Who waits ----------------------------------------------------------------------------------

std::uint32_t LookupRoute::queued_at(InstanceId instance) const {
  auto const found = serving_.find(instance);
  return found == serving_.end() ? 0 : depth(found->second.listeners);
}

bool LookupRoute::queue_empty(RevisionId revision, InstanceId instance) const {
  bool const is_steered = revision == steered_ && route_;
  return queued_at(instance) == 0 && !(is_steered && has_waiting(waiting_.get()));
}

std::uint32_t LookupRoute::queued() const {
  std::uint32_t all = route_ ? depth(waiting_.get()) : 0;
  for (auto const& [instance, server] : serving_) all += depth(server.listeners);
  return all;
}

async::Task<std::optional<std::uint32_t>> LookupRoute::connections(std::vector<pid_t> tree) {
  // What the kernel gives away has the documented port, whatever its listener is bound to.
  auto count = [from = steer::AcceptedFrom{.tcp_ports = {port_}, .unix_names = {}},
                tree = std::move(tree)] { return steer::count_connections(from, tree); };
  async::Task<Result<std::size_t>> counting = async::offload(counting_, std::move(count));
  Result<std::size_t> const counted = co_await std::move(counting);
  if (!counted) co_return std::nullopt;
  co_return static_cast<std::uint32_t>(*counted);
}

std::optional<std::uint64_t> LookupRoute::given() const {
  std::uint64_t all = 0;
  if (!route_) return all;
  for (steer::ShareCount const& one : route_->counts()) all += one.given;
  return all;
}

void LookupRoute::refuse_waiting() {
  if (route_ && first_server() == nullptr) refuse_connections(waiting_.get());
}

Address LookupRoute::target() const {
  Server const* const server = first_server();
  bool const by_ipv6 = server != nullptr && is_only_ipv6(server->listeners.front().get());
  return {.transport = Transport::Tcp, .host = by_ipv6 ? "::1" : "127.0.0.1", .port = port_};
}

async::Task<void> LookupRoute::watch() {
  while (route_) {
    changed_.reset();
    async::Task<void> reading = async::readable(waiting_.get());
    bool const waits = co_await async::until(changed_, std::move(reading));
    if (!waits || !route_) continue;
    if (first_server() != nullptr) {
      async::Task<void> bringing = bring_in();
      co_await std::move(bringing);
      continue;
    }
    wanted_();
    async::Task<bool> pausing = changed_.wait_for(kAskAgain);
    co_await std::move(pausing);
  }
}

async::Task<void> LookupRoute::bring_in() {
  // Brought to the port itself: nobody must be brought back to where he waited.
  steer::Rescue::IsDead const may_go_on = [this] { return route_ && first_server() != nullptr; };
  os::UniqueFd lane = duplicate(waiting_.get());
  if (!lane) {
    co_await async::sleep_for(kAskAgain);
    co_return;
  }
  async::Task<steer::RescueReport> bringing = entrance_.drain(std::move(lane), target(), may_go_on);
  co_await std::move(bringing);
}

async::Task<void> LookupRoute::bring_over(InstanceId instance, os::UniqueFd listener) {
  // A process that is frozen has the same socket, and may serve again: it finds its mode as it was.
  os::UniqueFd const again = duplicate(listener.get());
  int const flags = ::fcntl(again.get(), F_GETFL);
  steer::Rescue::IsDead const is_left = [this, instance] {
    return route_ && !serving_.contains(instance);
  };
  async::Task<steer::RescueReport> bringing = left_.drain(std::move(listener), target(), is_left);
  co_await std::move(bringing);
  (void)::fcntl(again.get(), F_SETFL, flags);
}

// ---- The end ------------------------------------------------------------------------------------

async::Task<void> LookupRoute::close(Duration limit) {
  Instant const deadline = async::deadline_in(limit);
  while (route_ && first_server() != nullptr && has_waiting(waiting_.get())) {
    if (async::deadline_in(Duration::zero()) >= deadline) break;
    co_await async::sleep_for(kQueueLook);
  }
  async::Task<std::vector<std::string>> ending = tasks_.stop(kLookupTasksEnd);
  co_await std::move(ending);
  waiting_.reset();
  route_.reset();
}

async::Task<void> LookupRoute::stop() {
  async::Task<void> closing = close(Duration::zero());
  co_await std::move(closing);
  async::Task<void> ending = left_.stop(kLookupTasksEnd);
  co_await std::move(ending);
  async::Task<void> entering = entrance_.stop(kLookupTasksEnd);
  co_await std::move(entering);
}

}  // namespace aether::functions
