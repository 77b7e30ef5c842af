// SPDX-License-Identifier: Apache-2.0
#include "async/event.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "async/channel.h"
#include "async/task_group.h"
#include "async/testing.h"
#include "async/timers.h"

namespace aether::async {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

Task<void> count_when_set(Event& event, int& count) {
  co_await event.wait();
  ++count;
}

CORO_TEST(Event, WakesEveryWaiterEvenIfItIsResetAtOnce) {
  Event event;
  int count = 0;
  TaskGroup group(loop.executor(), "waiters");
  for (int i = 0; i < 5; ++i) group.spawn("waiter", count_when_set(event, count));
  co_await yield();
  co_await yield();
  event.set();
  event.reset();
  co_await group.join();
  EXPECT_EQ(count, 5);
  EXPECT_FALSE(event.is_set());
}

CORO_TEST(Event, DoesNotWaitWhenItIsSet) {
  Event event;
  event.set();
  co_await event.wait();
  bool const set = co_await event.wait_for(Duration::zero());
  EXPECT_TRUE(set);
}

CORO_TEST(Event, StopsWaitingAtTheDeadline) {
  Event event;
  bool const set = co_await event.wait_for(milliseconds(5));
  EXPECT_FALSE(set);
}

CORO_TEST(Event, CancelsItsWaitersWhenItIsDestroyed) {
  auto event = std::make_unique<Event>();
  int count = 0;
  TaskGroup group(loop.executor(), "waiters");
  group.spawn("waiter", count_when_set(*event, count));
  co_await yield();
  co_await yield();
  event.reset();
  co_await group.join();
  EXPECT_EQ(count, 0);
}

Task<void> send_numbers(Channel<int>& channel, int count) {
  for (int i = 0; i < count; ++i) {
    bool const sent = co_await channel.send(i);
    EXPECT_TRUE(sent);
    EXPECT_LE(channel.size(), channel.capacity());
  }
  channel.close();
}

CORO_TEST(Channel, PassesValuesInOrderAndHoldsTheSenderBack) {
  Channel<int> channel(3);
  TaskGroup group(loop.executor(), "sender");
  group.spawn("send", send_numbers(channel, 100));
  std::vector<int> received;
  while (true) {
    std::optional<int> const value = co_await channel.receive();
    if (!value) break;
    received.push_back(*value);
    co_await yield();
  }
  CO_ASSERT_EQ(received.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(received[static_cast<std::size_t>(i)], i);
  co_await group.join();
}

CORO_TEST(Channel, RefusesAtItsCapacityAndAfterItsClose) {
  Channel<std::string> channel(2);
  EXPECT_TRUE(channel.try_send("a"));
  EXPECT_TRUE(channel.try_send("b"));
  EXPECT_FALSE(channel.try_send("c"));
  channel.close();
  bool const sent = co_await channel.send("d");
  EXPECT_FALSE(sent);
  std::optional<std::string> const first = co_await channel.receive();
  EXPECT_EQ(first, "a");
  EXPECT_EQ(channel.try_receive(), "b");
  std::optional<std::string> const last = co_await channel.receive();
  EXPECT_EQ(last, std::nullopt);
}

CORO_TEST(Channel, WakesASenderThatWaitsWhenItIsClosed) {
  Channel<int> channel(1);
  EXPECT_TRUE(channel.try_send(1));
  bool sent = true;
  TaskGroup group(loop.executor(), "sender");
  auto send = [](Channel<int>& to, bool& result) -> Task<void> { result = co_await to.send(2); };
  group.spawn("send", send(channel, sent));
  co_await yield();
  co_await yield();
  channel.close();
  co_await group.join();
  EXPECT_FALSE(sent);
}

Task<void> take(Channel<int>& channel, int& taken) {
  while (true) {
    std::optional<int> const value = co_await channel.receive();
    if (!value) co_return;
    ++taken;
  }
}

CORO_TEST(Channel, GivesEachValueToOneOfSeveralReceivers) {
  Channel<int> channel(2);
  int taken = 0;
  TaskGroup group(loop.executor(), "receivers");
  for (int i = 0; i < 4; ++i) group.spawn("take", take(channel, taken));
  for (int i = 0; i < 50; ++i) {
    bool const sent = co_await channel.send(i);
    EXPECT_TRUE(sent);
  }
  channel.close();
  co_await group.join();
  EXPECT_EQ(taken, 50);
}

}  // namespace
}  // namespace aether::async
