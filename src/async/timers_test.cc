// SPDX-License-Identifier: Apache-2.0
#include "async/timers.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "async/task_group.h"
#include "async/testing.h"
#include "base/error.h"

namespace aether::async {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

Task<int> answer() {
  co_await yield();
  co_return 42;
}

Task<int> answer_too_late(bool& cancelled) {
  try {
    co_await sleep_for(hours(1));
  } catch (...) {
    cancelled = is_cancelled(std::current_exception());
    throw;
  }
  co_return 42;
}

Task<int> answer_in_spite_of_it() {
  co_await ignore_cancellation();
  Event never;
  co_await never.wait_outcome(Instant::max());
  co_return 7;
}

Task<int> answer_with_a_fault() {
  co_await yield();
  throw Error(ErrorCode::NotFound, "no answer");
}

CORO_TEST(Timers, SleepAtLeastAsLongAsAsked) {
  Instant const begin = loop.clock().now();
  co_await sleep_for(milliseconds(20));
  EXPECT_GE(loop.clock().now() - begin, milliseconds(20));
  co_await sleep_until(begin);
}

CORO_TEST(Timers, TakeTheLongestDurationForForever) {
  EXPECT_EQ(deadline_in(Duration::max()), Instant::max());
  bool const ended = co_await with_deadline(Duration::max(), yield());
  EXPECT_TRUE(ended);
}

CORO_TEST(WithDeadline, GivesTheValueOfATaskThatEndsInTime) {
  std::optional<int> const value = co_await with_deadline(seconds(30), answer());
  EXPECT_EQ(value, 42);
}

CORO_TEST(WithDeadline, CancelsTheTaskAndWaitsForItsEnd) {
  bool cancelled = false;
  std::optional<int> const value =
      co_await with_deadline(milliseconds(5), answer_too_late(cancelled));
  EXPECT_EQ(value, std::nullopt);
  EXPECT_TRUE(cancelled);
}

CORO_TEST(WithDeadline, KeepsAValueThatCameInSpiteOfTheCancellation) {
  std::optional<int> const value = co_await with_deadline(milliseconds(5), answer_in_spite_of_it());
  EXPECT_EQ(value, 7);
}

CORO_TEST(WithDeadline, ThrowsWhatTheTaskThrew) {
  std::optional<ErrorCode> code;
  try {
    co_await with_deadline(seconds(30), answer_with_a_fault());
  } catch (Error const& error) {
    code = error.code();
  }
  EXPECT_EQ(code, ErrorCode::NotFound);
}

Task<void> wait_within(bool& cancelled, bool& went_on) {
  co_await with_deadline(hours(1), answer_too_late(cancelled));
  went_on = true;
}

CORO_TEST(WithDeadline, PassesACancellationOfItsCallerOn) {
  bool cancelled = false;
  bool went_on = false;
  TaskGroup group(loop.executor(), "group");
  group.spawn("task", wait_within(cancelled, went_on));
  for (int i = 0; i < 5; ++i) co_await yield();
  std::vector<std::string> const late = co_await group.stop(seconds(30));
  EXPECT_TRUE(late.empty());
  EXPECT_TRUE(cancelled);
  EXPECT_FALSE(went_on);
}

Task<void> set_later(Event& event) {
  co_await sleep_for(milliseconds(2));
  event.set();
}

Task<void> drop(Task<int> task) {
  co_await std::move(task);
}

CORO_TEST(Until, CancelsTheTaskWhenTheEventIsSet) {
  Event event;
  bool cancelled = false;
  TaskGroup group(loop.executor(), "group");
  group.spawn("set", set_later(event));
  bool const ended = co_await until(event, drop(answer_too_late(cancelled)));
  EXPECT_FALSE(ended);
  EXPECT_TRUE(cancelled);
  co_await group.join();
}

CORO_TEST(Until, LetsTheTaskEndIfTheEventIsNeverSet) {
  Event event;
  bool const ended = co_await until(event, drop(answer()));
  EXPECT_TRUE(ended);
}

Task<void> wait_until_set(Event& event, bool& cancelled, bool& went_on) {
  co_await until(event, drop(answer_too_late(cancelled)));
  went_on = true;
}

CORO_TEST(Until, PassesACancellationOfItsCallerOn) {
  Event event;
  bool cancelled = false;
  bool went_on = false;
  TaskGroup group(loop.executor(), "group");
  group.spawn("task", wait_until_set(event, cancelled, went_on));
  for (int i = 0; i < 5; ++i) co_await yield();
  std::vector<std::string> const late = co_await group.stop(seconds(30));
  EXPECT_TRUE(late.empty());
  EXPECT_TRUE(cancelled);
  EXPECT_FALSE(went_on);
}

TEST(Loop, SaysSoWhenNothingIsLeftToWaitFor) {
  SystemClock const clock;
  Loop loop(clock);
  EXPECT_EQ(loop.run_task(answer()), 42);
  auto stop_and_wait = [](Loop& self) -> Task<void> {
    self.stop();
    co_await sleep_for(hours(1));
  };
  try {
    loop.run_task(stop_and_wait(loop));
    ADD_FAILURE() << "run_task returned";
  } catch (Error const& error) {
    EXPECT_EQ(error.code(), ErrorCode::Internal);
  }
}

}  // namespace
}  // namespace aether::async
