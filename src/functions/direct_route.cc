// SPDX-License-Identifier: Apache-2.0
#include "functions/direct_route.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "steer/connections.h"

namespace aether::functions {
namespace {

/// What connects before anything is ready waits in the lane of a revision that never is.
constexpr RevisionId kWaitingRoom{std::numeric_limits<std::uint64_t>::max()};
/// A demand that was not answered is told again.
constexpr Duration kAskAgain = std::chrono::seconds(1);
constexpr Duration kQueueLook = std::chrono::milliseconds(2);
constexpr Duration kRouteTasksEnd = std::chrono::seconds(2);
/// Refused in one go; more come at the next demand.
constexpr int kRefusedMax = 4096;

/// Its client gets ECONNRESET, as from a server that is not there.
void reset(int connection) {
  linger const at_once{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

}  // namespace

bool has_waiting(int listener) {
  pollfd waiting{.fd = listener, .events = POLLIN, .revents = 0};
  return ::poll(&waiting, 1, 0) == 1 && (waiting.revents & POLLIN) != 0;
}

void refuse_connections(int listener) {
  int refused = 0;
  while (refused < kRefusedMax && has_waiting(listener)) {
    os::UniqueFd const connection(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) break;
    reset(connection.get());
    ++refused;
  }
}

Result<std::unique_ptr<DirectRoute>> DirectRoute::open(async::Executor executor, std::uint16_t port,
                                                       Wanted wanted) {
  TRY_ASSIGN(Address address, parse_address(fmt::format(":{}", port)));
  TRY_ASSIGN(steer::ListenerGroup group,
             steer::ListenerGroup::open({.name = "http", .address = std::move(address)}));
  if (auto room = group.lane_fd(kWaitingRoom); !room) return fail(std::move(room).error());
  std::uint16_t const bound = group.bound().port;
  return std::unique_ptr<DirectRoute>(
      new DirectRoute(executor, std::move(group), bound, std::move(wanted)));
}

DirectRoute::DirectRoute(async::Executor executor, steer::ListenerGroup group, std::uint16_t port,
                         Wanted wanted)
    : port_(port),
      wanted_(std::move(wanted)),
      group_(std::move(group)),
      rescue_(executor),
      counting_(1),
      tasks_(executor, fmt::format("direct route :{}", port)) {
  look_at(kWaitingRoom);
  tasks_.spawn("demand", watch());
}

DirectRoute::~DirectRoute() = default;

Result<std::optional<supervise::PassedListener>> DirectRoute::lane(RevisionId revision) {
  if (!group_) return fail(ErrorCode::NotRunning, "the listener is closed");
  TRY_ASSIGN(int const fd, group_->lane_fd(revision));
  return supervise::PassedListener{.name = group_->name(),
                                   .fd = fd,
                                   .address = group_->bound(),
                                   .inode = group_->socket_inode(revision)};
}

std::uint64_t DirectRoute::inode(RevisionId revision) const {
  return group_ ? group_->socket_inode(revision) : 0;
}

// ---- Demand -------------------------------------------------------------------------------------

bool DirectRoute::serves(RevisionId revision) const {
  return std::ranges::any_of(serving_, [&](auto const& one) { return one.second == revision; });
}

void DirectRoute::changed() {
  changed_.set();
}

void DirectRoute::look_at(RevisionId revision) {
  auto lane = group_->duplicate_lane(revision);
  if (lane)
    watched_ = std::move(*lane);
  else
    log::error("port {}: {}", port_, lane.error().describe());
  changed();
}

async::Task<void> DirectRoute::watch() {
  while (group_) {
    changed_.reset();
    if (serves(group_->steered()) || !watched_) {
      co_await changed_.wait();
      continue;
    }
    // Closed with the wait, not before it.
    os::UniqueFd const lane(::fcntl(watched_.get(), F_DUPFD_CLOEXEC, 0));
    if (!lane) {
      co_await async::sleep_for(kAskAgain);
      continue;
    }
    int const fd = lane.get();
    async::Task<void> reading = async::readable(fd);
    bool const waits = co_await async::until(changed_, std::move(reading));
    if (!waits || !group_ || serves(group_->steered())) continue;
    wanted_();
    async::Task<bool> pausing = changed_.wait_for(kAskAgain);
    co_await std::move(pausing);
  }
}

void DirectRoute::add(InstanceId instance, RevisionId revision, std::vector<os::UniqueFd>) {
  serving_[instance] = revision;
  changed();
}

void DirectRoute::remove(InstanceId instance) {
  auto const found = serving_.find(instance);
  if (found == serving_.end()) return;
  RevisionId const revision = found->second;
  serving_.erase(found);
  changed();
  bring_over_abandoned(revision);
}

bool DirectRoute::queue_empty(RevisionId revision, InstanceId) const {
  if (!group_) return true;
  auto const queue = group_->queue(revision);
  return !queue || queue->empty;
}

std::uint32_t DirectRoute::queued() const {
  if (!group_) return 0;
  auto const queue = group_->queue(group_->steered());
  return queue ? queue->connections : 0;
}

async::Task<std::optional<std::uint32_t>> DirectRoute::connections(std::vector<pid_t> tree) {
  auto count = [from = steer::AcceptedFrom{.tcp_ports = {port_}, .unix_names = {}},
                tree = std::move(tree)] { return steer::count_connections(from, tree); };
  async::Task<Result<std::size_t>> counting = async::offload(counting_, std::move(count));
  Result<std::size_t> const counted = co_await std::move(counting);
  if (!counted) co_return std::nullopt;
  co_return static_cast<std::uint32_t>(*counted);
}

void DirectRoute::refuse_waiting() {
  // No process takes from it meanwhile: nobody serves.
  if (watched_) refuse_connections(watched_.get());
}

// ---- From one revision to the next --------------------------------------------------------------

Status DirectRoute::steer_to(RevisionId revision) {
  if (!group_) return fail(ErrorCode::NotRunning, "the listener is closed");
  RevisionId const before = group_->steered();
  TRY(group_->steer_to(revision));
  if (before == revision) return {};
  look_at(revision);
  if (before == kWaitingRoom)
    retire(before);
  else
    bring_over_abandoned(before);
  return {};
}

void DirectRoute::bring_over_abandoned(RevisionId revision) {
  bool const abandoned = group_ && group_->steered() != revision && !serves(revision);
  if (abandoned && !queue_empty(revision))
    tasks_.spawn("bring over what waits", bring_over(revision));
}

async::Task<void> DirectRoute::bring_over(RevisionId revision) {
  auto lane = group_->duplicate_lane(revision);
  auto const again = group_->duplicate_lane(revision);
  if (!lane || !again) co_return;
  // Its template has the same socket, and may serve again: it finds its mode as it was.
  int const flags = ::fcntl(again->get(), F_GETFL);
  steer::Rescue::IsDead const is_dead = [this, revision] {
    return group_ && group_->steered() != revision && !serves(revision);
  };
  async::Task<steer::RescueReport> draining =
      rescue_.drain(std::move(*lane), group_->bound(), is_dead);
  co_await std::move(draining);
  (void)::fcntl(again->get(), F_SETFL, flags);
}

void DirectRoute::retire(RevisionId revision) {
  if (group_ && group_->steered() != revision) tasks_.spawn("retire lane", retire_lane(revision));
}

async::Task<void> DirectRoute::retire_lane(RevisionId revision) {
  if (!group_) co_return;
  async::Task<steer::RescueReport> retiring = steer::retire_lane(*group_, revision, rescue_);
  co_await std::move(retiring);
}

void DirectRoute::introduce(RevisionId revision, int socket) {
  sockaddr_in name{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {}, .sin_zero = {}};
  socklen_t size = sizeof(name);
  auto* const address = reinterpret_cast<sockaddr*>(&name);
  bool const bound =
      ::bind(socket, address, size) == 0 && ::getsockname(socket, address, &size) == 0;
  if (!bound || !group_) return;
  if (auto admitted = group_->admit(revision, ntohs(name.sin_port)); !admitted)
    log::warn("port {}: {}", port_, admitted.error().describe());
}

void DirectRoute::farewell(RevisionId revision) {
  if (group_) (void)group_->admit(revision, 0);
}

// ---- The end ------------------------------------------------------------------------------------

async::Task<void> DirectRoute::close(Duration limit) {
  Instant const deadline = async::deadline_in(limit);
  while (group_ && serves(group_->steered()) && !queue_empty(group_->steered())) {
    if (async::deadline_in(Duration::zero()) >= deadline) break;
    co_await async::sleep_for(kQueueLook);
  }
  // A lane may be on its way out: its task uses the group.
  async::Task<std::vector<std::string>> ending = tasks_.stop(kRouteTasksEnd);
  co_await std::move(ending);
  group_.reset();
  watched_.reset();
}

async::Task<void> DirectRoute::stop() {
  async::Task<void> closing = close(Duration::zero());
  co_await std::move(closing);
  async::Task<void> ending = rescue_.stop(kRouteTasksEnd);
  co_await std::move(ending);
}

}  // namespace aether::functions
