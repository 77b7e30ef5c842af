// SPDX-License-Identifier: Apache-2.0
#include "steer/rescue.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <fstream>
#include <functional>
#include <thread>

#include <gmock/gmock.h>

#include "async/testing.h"
#include "async/timers.h"
#include "async/wait_fd.h"
#include "base/log.h"
#include "os/proc.h"
#include "os/temp_dir.h"
#include "os/unix_socket.h"
#include "steer/testing.h"

namespace aether::steer {
namespace {

using namespace testing;
using async::Loop;
using async::Task;

constexpr Duration kStopDeadline = std::chrono::seconds(10);

/// Blocking work (the clients) in a thread, awaited by the loop.
class Beside {
 public:
  explicit Beside(std::function<void()> work)
      : ended_(eventfd(0, EFD_CLOEXEC)), thread_([this, work = std::move(work)] {
          work();
          eventfd_write(ended_.get(), 1);
        }) {}
  ~Beside() {
    if (thread_.joinable()) thread_.join();
  }
  Task<void> ended() {
    co_await async::readable(ended_.get());
    thread_.join();
  }

 private:
  os::UniqueFd ended_;
  std::thread thread_;
};

/// Clients that have connected and sent a line each, to be answered with it.
class QueuedClients {
 public:
  QueuedClients(Address const& address, int count) {
    for (int i = 0; i < count; ++i) {
      clients_.push_back(connect_to(address));
      auto const line = line_of(i);
      EXPECT_EQ(send(clients_.back().get(), line.data(), line.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(line.size()));
    }
  }
  int count_answered() {
    int answered = 0;
    for (std::size_t i = 0; i < clients_.size(); ++i)
      if (read_line(clients_[i].get()) == line_of(static_cast<int>(i))) ++answered;
    return answered;
  }

 private:
  static std::string line_of(int i) { return "hello " + std::to_string(i) + "\n"; }
  std::vector<os::UniqueFd> clients_;
};

/// Revision 2 took connections and died; revision 1 is steered to again.
void die_with_a_queue(ListenerGroup& group) {
  EXPECT_TRUE(group.steer_to(revision(1)));
  EXPECT_FALSE(group.queue(revision(2))->empty);
}

Task<int> rescue_and_count(Loop& loop, ListenerGroup& group, int count) {
  Rescue rescue(loop.executor());
  lane(group, 1);
  lane(group, 2);
  EXPECT_TRUE(group.steer_to(revision(2)));
  QueuedClients clients(group.bound(), count);
  die_with_a_queue(group);
  LaneServer const server(lane(group, 1));
  auto const report = co_await retire_lane(group, revision(2), rescue);
  bool const by_kernel =
      group.bound().transport == Transport::Tcp && tcp_migrate_req().value_or(false);
  EXPECT_EQ(report.moved_by_kernel, by_kernel);
  if (!by_kernel) EXPECT_EQ(report.taken, static_cast<std::uint64_t>(count));
  EXPECT_EQ(group.lanes().size(), 1U);
  int answered = 0;
  Beside reader([&] { answered = clients.count_answered(); });
  co_await reader.ended();
  co_await rescue.stop(kStopDeadline);
  EXPECT_EQ(rescue.open_connections(), 0U);
  EXPECT_EQ(rescue.totals().lost, 0U);
  co_return answered;
}

CORO_TEST(Rescue, AnswersAll200ConnectionsQueuedAtADeadRevision) {
  auto group = open_group("127.0.0.1:0");
  int const answered = co_await rescue_and_count(loop, group, 200);
  EXPECT_EQ(answered, 200);
}

CORO_TEST(Rescue, ReachesAListenerOnEveryInterface) {
  auto group = open_group(":0");
  int const answered = co_await rescue_and_count(loop, group, 20);
  EXPECT_EQ(answered, 20);
}

CORO_TEST(Rescue, AnswersWhatIsQueuedAtADeadUnixLane) {
  auto const folder = os::TempDir::create("rescue");
  auto group = open_group("unix:" + folder->file("app.sock"));
  int const answered = co_await rescue_and_count(loop, group, 200);
  EXPECT_EQ(answered, 200);
}

CORO_TEST(Rescue, KeepsTheBoundsOfRecords) {
  auto const folder = os::TempDir::create("rescue");
  auto group = open_group("unix-seqpacket:" + folder->file("app.sock"));
  Rescue rescue(loop.executor());
  lane(group, 1);
  lane(group, 2);
  EXPECT_TRUE(group.steer_to(revision(2)));
  auto const client = connect_to(group.bound());
  EXPECT_EQ(send(client.get(), "one", 3, 0), 3);
  EXPECT_EQ(send(client.get(), "three", 5, 0), 5);
  die_with_a_queue(group);
  co_await retire_lane(group, revision(2), rescue);
  co_await async::readable(lane(group, 1));
  auto const server = accept_now(lane(group, 1));
  CO_ASSERT_TRUE(server);
  char record[16];
  co_await async::readable(server.get());
  EXPECT_EQ(recv(server.get(), record, sizeof(record), 0), 3);
  co_await async::readable(server.get());
  EXPECT_EQ(recv(server.get(), record, sizeof(record), 0), 5);
  co_await rescue.stop(kStopDeadline);
}

CORO_TEST(Rescue, CarriesDescriptorsOverUnixStreams) {
  auto const folder = os::TempDir::create("rescue");
  auto group = open_group("unix:" + folder->file("app.sock"));
  Rescue rescue(loop.executor());
  lane(group, 1);
  int const two = lane(group, 2);
  EXPECT_TRUE(group.steer_to(revision(2)));
  auto const client = connect_to(group.bound());
  std::array const fds{two};
  EXPECT_TRUE(os::send_with_fds(client.get(), "take", fds));
  die_with_a_queue(group);
  co_await retire_lane(group, revision(2), rescue);
  co_await async::readable(lane(group, 1));
  auto const server = accept_now(lane(group, 1));
  CO_ASSERT_TRUE(server);
  co_await async::readable(server.get());
  char bytes[16];
  auto const received = or_throw(os::receive_with_fds(server.get(), std::span<char>(bytes), 4));
  CO_ASSERT_TRUE(received.has_value());
  EXPECT_EQ(received->bytes, 4U);
  EXPECT_EQ(received->fds.size(), 1U);
  co_await rescue.stop(kStopDeadline);
}

CORO_TEST(Rescue, CarriesMegabytesBothWaysAndTheEndOfEachStream) {
  auto group = open_group("127.0.0.1:0");
  Rescue rescue(loop.executor());
  lane(group, 1);
  lane(group, 2);
  EXPECT_TRUE(group.steer_to(revision(2)));
  auto const client = connect_to(group.bound());
  die_with_a_queue(group);
  auto dead = or_throw(group.duplicate_lane(revision(2)));
  co_await rescue.drain(std::move(dead), group.bound());
  co_await async::readable(lane(group, 1));
  auto const server = accept_now(lane(group, 1));
  CO_ASSERT_TRUE(server);
  std::string const question(5'000'000, 'q');
  std::string const answer(7'000'000, 'a');
  std::optional<std::string> asked;
  std::optional<std::string> answered;
  {
    Beside program([&] {
      asked = read_all(server.get());
      EXPECT_EQ(send(server.get(), answer.data(), answer.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(answer.size()));
      shutdown(server.get(), SHUT_WR);
    });
    Beside caller([&] {
      EXPECT_EQ(send(client.get(), question.data(), question.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(question.size()));
      shutdown(client.get(), SHUT_WR);
      answered = read_all(client.get());
    });
    co_await program.ended();
    co_await caller.ended();
  }
  EXPECT_EQ(asked, question);
  EXPECT_EQ(answered, answer);
  co_await rescue.stop(kStopDeadline);
}

CORO_TEST(Rescue, LeavesInTheQueueWhatIsOverItsLimitUntilThereIsRoom) {
  auto group = open_group("127.0.0.1:0");
  Rescue rescue(loop.executor(),
                {.connections_max = 4, .half_closed_deadline = std::chrono::milliseconds(20)});
  lane(group, 1);
  lane(group, 2);
  EXPECT_TRUE(group.steer_to(revision(2)));
  QueuedClients clients(group.bound(), 40);
  die_with_a_queue(group);
  LaneServer const server(lane(group, 1));
  int answered = 0;
  Beside reader([&] { answered = clients.count_answered(); });
  auto dead = or_throw(group.duplicate_lane(revision(2)));
  auto const report = co_await rescue.drain(std::move(dead), group.bound());
  co_await reader.ended();
  EXPECT_EQ(report.taken, 40U);
  EXPECT_FALSE(report.deadline_passed);
  EXPECT_EQ(answered, 40);
  co_await rescue.stop(kStopDeadline);
}

CORO_TEST(Rescue, SaysSoWhenItsDeadlinePassesBeforeTheQueueIsEmpty) {
  auto group = open_group("127.0.0.1:0");
  Rescue rescue(loop.executor(),
                {.connections_max = 1, .drain_deadline = std::chrono::milliseconds(50)});
  lane(group, 1);
  lane(group, 2);
  EXPECT_TRUE(group.steer_to(revision(2)));
  QueuedClients const clients(group.bound(), 3);
  die_with_a_queue(group);
  auto const report = co_await retire_lane(group, revision(2), rescue);
  EXPECT_TRUE(report.deadline_passed);
  EXPECT_EQ(report.taken, 1U);
  EXPECT_EQ(rescue.open_connections(), 1U);
  co_await rescue.stop(kStopDeadline);
  EXPECT_EQ(rescue.open_connections(), 0U);
}

CORO_TEST(Rescue, LeavesAloneWhatWaitsInALaneThatIsSteeredToAgain) {
  auto group = open_group("127.0.0.1:0");
  Rescue rescue(loop.executor());
  lane(group, 1);
  lane(group, 2);
  EXPECT_TRUE(group.steer_to(revision(2)));
  QueuedClients const clients(group.bound(), 3);
  int const flags = fcntl(lane(group, 2), F_GETFL);
  // Its program ended, and is started again after one connection was taken. What is carried to the
  // address from then on would come back to the lane, to be taken again.
  int asked = 0;
  Rescue::IsDead const is_dead = [&asked] { return ++asked <= 1; };
  auto dead = or_throw(group.duplicate_lane(revision(2)));
  auto const report = co_await rescue.drain(std::move(dead), group.bound(), is_dead);
  EXPECT_EQ(report.taken, 1U);
  EXPECT_FALSE(report.deadline_passed);
  EXPECT_FALSE(group.queue(revision(2))->empty);
  EXPECT_EQ(fcntl(lane(group, 2), F_GETFL), flags) << "a program may expect accept() to block";
  co_await rescue.stop(kStopDeadline);
}

CORO_TEST(Rescue, CountsWhatCouldNotBeCarried) {
  auto group = open_group("127.0.0.1:0");
  Rescue rescue(loop.executor());
  lane(group, 1);
  QueuedClients clients(group.bound(), 5);
  auto nowhere = open_group("127.0.0.1:0").bound();
  auto dead = or_throw(group.duplicate_lane(revision(1)));
  co_await rescue.drain(std::move(dead), nowhere);
  EXPECT_EQ(rescue.totals().taken, 5U);
  EXPECT_EQ(rescue.totals().lost, 5U);
  EXPECT_EQ(rescue.open_connections(), 0U);
  co_await rescue.stop(kStopDeadline);
}

CORO_TEST(Rescue, ForwardsUnixDatagramsAndCountsUdpOnesAsLost) {
  auto const folder = os::TempDir::create("rescue");
  for (auto const& text : {"unix-dgram:" + folder->file("log"), std::string("udp://127.0.0.1:0")}) {
    auto group = open_group(text);
    Rescue rescue(loop.executor());
    lane(group, 1);
    lane(group, 2);
    EXPECT_TRUE(group.steer_to(revision(2)));
    auto const client = connect_to(group.bound());
    for (int i = 0; i < 5; ++i) EXPECT_EQ(send(client.get(), "line", 4, 0), 4);
    die_with_a_queue(group);
    auto const report = co_await retire_lane(group, revision(2), rescue);
    EXPECT_EQ(report.taken, 5U);
    bool const udp = group.bound().transport == Transport::Udp;
    EXPECT_EQ(udp ? report.lost : report.carried, 5U);
    char buffer[8];
    if (!udp) EXPECT_EQ(recv(lane(group, 1), buffer, sizeof(buffer), MSG_DONTWAIT), 4);
    co_await rescue.stop(kStopDeadline);
  }
}

CORO_TEST(Rescue, RefusesToRetireTheSteeredRevisionAndIgnoresAnUnknownOne) {
  auto group = open_group("127.0.0.1:0");
  Rescue rescue(loop.executor());
  lane(group, 1);
  auto const nothing = co_await retire_lane(group, revision(7), rescue);
  EXPECT_EQ(nothing.taken, 0U);
  ErrorCode code = ErrorCode::Internal;
  try {
    co_await retire_lane(group, revision(1), rescue);
  } catch (Error const& error) {
    code = error.code();
  }
  EXPECT_EQ(code, ErrorCode::RequestInvalid);
  co_await rescue.stop(kStopDeadline);
}

CORO_TEST(Rescue, LeaksNoFds) {
  auto group = open_group("127.0.0.1:0");
  co_await rescue_and_count(loop, group, 2);
  lane(group, 1);
  auto const before = os::count_own_fds();
  for (int round = 0; round < 10; ++round) {
    int const answered = co_await rescue_and_count(loop, group, 20);
    EXPECT_EQ(answered, 20);
  }
  EXPECT_EQ(os::count_own_fds(), before);
}

/// Runs in a network namespace of its own (a thread has one for itself), where the kernel moves
/// queues. False without the right to make one.
bool enter_namespace_that_migrates() {
  if (unshare(CLONE_NEWNET) != 0) return false;
  os::UniqueFd const any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq loopback{};
  std::string_view("lo").copy(loopback.ifr_name, 2);
  loopback.ifr_flags = IFF_UP;
  if (ioctl(any.get(), SIOCSIFFLAGS, &loopback) != 0) return false;
  return static_cast<bool>(std::ofstream("/proc/sys/net/ipv4/tcp_migrate_req")
                           << "1" << std::flush);
}

TEST(RescueByKernel, IsLeftToTheKernelWhereItMovesQueues) {
  bool entered = false;
  std::thread([&] {
    entered = enter_namespace_that_migrates();
    if (!entered) return;
    ASSERT_TRUE(tcp_migrate_req().value_or(false));
    SystemClock const clock;
    Loop loop(clock);
    auto group = open_group("127.0.0.1:0");
    EXPECT_EQ(loop.run_task(rescue_and_count(loop, group, 200)), 200);
  }).join();
  if (!entered) GTEST_SKIP() << "a network namespace needs CAP_SYS_ADMIN";
}

/// With a third lane the kernel would choose by hash, not by our program: Aether rescues itself.
TEST(RescueByKernel, IsNotTrustedWithMoreThanTwoLanes) {
  bool entered = false;
  std::thread([&] {
    entered = enter_namespace_that_migrates();
    if (!entered) return;
    auto group = open_group("127.0.0.1:0");
    lane(group, 1);
    lane(group, 2);
    EXPECT_TRUE(group.moves_by_itself(revision(2)));
    lane(group, 3);
    EXPECT_FALSE(group.moves_by_itself(revision(2)));
  }).join();
  if (!entered) GTEST_SKIP() << "a network namespace needs CAP_SYS_ADMIN";
}

}  // namespace
}  // namespace aether::steer
