// SPDX-License-Identifier: Apache-2.0
#include "steer/rescue.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "async/event.h"
#include "async/task_group.h"
#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "os/unix_socket.h"
#include "steer/carrier.h"

namespace aether::steer {

struct Rescue::State {
  State(async::Executor executor, RescueLimits given)
      : limits(given), tasks(std::move(executor), "rescue", 2 * given.connections_max + 1) {}

  RescueLimits limits;
  RescueReport totals;
  std::size_t open = 0;
  async::Event room;
  async::TaskGroup tasks;
};

namespace {

using RescueState = std::shared_ptr<Rescue::State>;

/// When fds have run out, somebody else has to close some.
constexpr Duration kPauseWithoutFds = std::chrono::milliseconds(10);
/// The largest datagram on a unix socket (net.core.wmem_default).
constexpr std::size_t kDatagramBytesMax = 256 * 1024;

enum class TakeOutcome : std::uint8_t { QueueEmpty, NoRoom, NoFds, LaneEnded };

std::size_t bound_by_fd_limit(std::size_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  return std::clamp<std::size_t>(limit.rlim_cur / 8, 1, wanted);
}

/// Counts an open connection for as long as it exists.
class OpenConnection {
 public:
  explicit OpenConnection(RescueState state) : state_(std::move(state)) { ++state_->open; }
  OpenConnection(OpenConnection const&) = delete;
  OpenConnection& operator=(OpenConnection const&) = delete;
  ~OpenConnection() {
    --state_->open;
    state_->room.set();
  }

 private:
  RescueState state_;
};

/// A task's root: the client's or the program's reset is their business, and not logged as ours.
async::Task<void> carry_answers(std::shared_ptr<OpenConnection> open,
                                std::shared_ptr<CarriedPair> pair, Duration half_closed) {
  try {
    co_await carry(pair, Direction::ToClient);
    bool const done = co_await pair->client_done.wait_for(half_closed);
    if (!done) pair->cut();
  } catch (Error const& error) {
    log::debug("rescue: a connection ended: {}", error.describe());
  }
  open.reset();
}

async::Task<void> rescue_one(RescueState state, std::shared_ptr<OpenConnection> open,
                             os::UniqueFd client, Address target) {
  bool reached = false;
  try {
    auto pair = std::make_shared<CarriedPair>();
    pair->client = std::move(client);
    pair->transport = target.transport;
    pair->server = co_await connect_within(target, state->limits.connect_deadline);
    reached = true;
    ++state->totals.carried;
    bool const begun = state->tasks.spawn(
        "answers", carry_answers(open, pair, state->limits.half_closed_deadline));
    if (!begun) pair->cut();
    co_await carry(pair, Direction::ToServer);
    pair->client_done.set();
  } catch (Error const& error) {
    if (!reached) ++state->totals.lost;
    log::debug("rescue: a connection ended: {}", error.describe());
  }
}

/// Accepts until nothing waits, or there is no room for more.
TakeOutcome take_connections(RescueState const& state, int lane, Address const& target,
                             Rescue::IsDead const& is_dead, RescueReport& report) {
  while (state->open < state->limits.connections_max) {
    if (!is_dead()) return TakeOutcome::LaneEnded;
    os::UniqueFd client(accept4(lane, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (client) {
      int const yes = 1;
      if (target.transport == Transport::Tcp)
        setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
      ++report.taken;
      ++state->totals.taken;
      auto open = std::make_shared<OpenConnection>(state);
      bool const begun = state->tasks.spawn(
          "connection", rescue_one(state, std::move(open), std::move(client), target));
      if (!begun) ++state->totals.lost;
      continue;
    }
    if (errno == EAGAIN) return TakeOutcome::QueueEmpty;
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
      return TakeOutcome::NoFds;
    if (errno == EINVAL || errno == EBADF || errno == ENOTSOCK) return TakeOutcome::LaneEnded;
    // What else accept() says is about that one connection (man 2 accept, "Error handling").
  }
  return TakeOutcome::NoRoom;
}

async::Task<void> drain_connections(RescueState state, int lane, Address target,
                                    Rescue::IsDead is_dead, RescueReport* report) {
  while (true) {
    state->room.reset();
    switch (take_connections(state, lane, target, is_dead, *report)) {
      case TakeOutcome::QueueEmpty: {
        bool const more = co_await async::readable_for(lane, state->limits.settle);
        if (!more) co_return;
        break;
      }
      case TakeOutcome::NoRoom:
        co_await state->room.wait();
        break;
      case TakeOutcome::NoFds:
        co_await async::sleep_for(kPauseWithoutFds);
        break;
      case TakeOutcome::LaneEnded:
        co_return;
    }
  }
}

async::Task<void> forward_datagram(int to, std::string datagram) {
  while (true) {
    auto const sent = or_throw(os::send_with_fds(to, datagram));
    if (sent) co_return;
    co_await async::writable(to);
  }
}

async::Task<void> drain_datagrams(RescueState state, int lane, Address target,
                                  Rescue::IsDead is_dead, RescueReport* report) {
  os::UniqueFd out;
  if (target.is_unix()) out = co_await connect_within(target, state->limits.connect_deadline);
  std::string buffer(kDatagramBytesMax, '\0');
  while (is_dead()) {
    auto const received = or_throw(os::receive_with_fds(lane, std::span<char>(buffer)));
    if (!received) {
      bool const more = co_await async::readable_for(lane, state->limits.settle);
      if (!more) co_return;
      continue;
    }
    ++report->taken;
    ++state->totals.taken;
    if (out) co_await forward_datagram(out.get(), buffer.substr(0, received->bytes));
    ++(out ? state->totals.carried : state->totals.lost);
    ++(out ? report->carried : report->lost);
  }
}

async::Task<RescueReport> drain_lane(RescueState state, os::UniqueFd lane, Address target,
                                     Rescue::IsDead is_dead) {
  int const flags = fcntl(lane.get(), F_GETFL);
  if (flags < 0 || fcntl(lane.get(), F_SETFL, flags | O_NONBLOCK) != 0)
    throw system_error("fcntl", "O_NONBLOCK on a lane");
  RescueReport report;
  auto const before = state->totals;
  async::Task<void> work = target.has_connections()
                               ? drain_connections(state, lane.get(), target, is_dead, &report)
                               : drain_datagrams(state, lane.get(), target, is_dead, &report);
  bool const emptied = co_await async::with_deadline(state->limits.drain_deadline, std::move(work));
  report.deadline_passed = !emptied;
  // Its next program gets it as it was.
  if (!is_dead()) fcntl(lane.get(), F_SETFL, flags);
  report.carried = state->totals.carried - before.carried;
  report.lost = state->totals.lost - before.lost;
  if (report.taken > 0 && !state->limits.is_routine)
    log::info("rescue: {} left in the queue of a dead revision on {}: {}", report.taken,
              target.text(),
              target.transport == Transport::Udp ? "lost, as no answer would find its way back"
                                                 : "carried to the serving one");
  co_return report;
}

async::Task<RescueReport> retire_carefully(ListenerGroup& group, RevisionId revision,
                                           Rescue& rescue) {
  if (revision == group.steered())
    throw Error(ErrorCode::RequestInvalid,
                fmt::format("listener \"{}\": revision {} still gets the new connections; steer to "
                            "another one first",
                            group.name(), revision));
  RescueReport report;
  report.moved_by_kernel = group.moves_by_itself(revision);
  if (!report.moved_by_kernel) {
    auto lane = or_throw(group.duplicate_lane(revision));
    Rescue::IsDead const is_dead = [&group, revision] { return group.steered() != revision; };
    report = co_await rescue.drain(std::move(lane), group.bound(), is_dead);
    if (!is_dead()) co_return report;
  }
  or_throw(group.retire(revision));
  co_return report;
}

}  // namespace

Rescue::Rescue(async::Executor executor, RescueLimits limits) {
  limits.connections_max = bound_by_fd_limit(limits.connections_max);
  state_ = std::make_shared<State>(std::move(executor), limits);
}
Rescue::~Rescue() = default;

async::Task<RescueReport> Rescue::drain(os::UniqueFd lane, Address target, IsDead is_dead) {
  if (!is_dead) is_dead = [] { return true; };
  return drain_lane(state_, std::move(lane), std::move(target), std::move(is_dead));
}

RescueReport Rescue::totals() const {
  return state_->totals;
}
std::size_t Rescue::open_connections() const {
  return state_->open;
}

async::Task<void> Rescue::stop(Duration deadline) {
  co_await state_->tasks.stop(deadline);
}

async::Task<RescueReport> retire_lane(ListenerGroup& group, RevisionId revision, Rescue& rescue) {
  bool const nothing_to_retire =
      group.mode() != ListenMode::Steered || group.socket_inode(revision) == 0;
  if (nothing_to_retire) co_return RescueReport{};
  co_return co_await retire_carefully(group, revision, rescue);
}

}  // namespace aether::steer
