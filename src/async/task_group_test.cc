// SPDX-License-Identifier: Apache-2.0
#include "async/task_group.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "async/event.h"
#include "async/testing.h"
#include "async/timers.h"
#include "base/error.h"
#include "base/log.h"

namespace aether::async {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

Task<void> sleep_forever() {
  co_await sleep_for(hours(24));
}

Task<void> set_flag(bool& flag) {
  flag = true;
  co_return;
}

// Collects the log's lines while it lives.
class LogLines {
 public:
  LogLines() {
    log::set_sink([this](log::Level level, std::string_view line) {
      if (level >= log::Level::Warn) lines.emplace_back(line);
    });
  }
  ~LogLines() { log::set_sink({}); }
  std::vector<std::string> lines;
};

CORO_TEST(TaskGroup, BeginsATaskOnALaterTurn) {
  bool begun = false;
  TaskGroup group(loop.executor(), "group");
  EXPECT_TRUE(group.spawn("task", set_flag(begun)));
  EXPECT_FALSE(begun);
  EXPECT_EQ(group.size(), 1U);
  co_await group.join();
  EXPECT_TRUE(begun);
  EXPECT_EQ(group.size(), 0U);
}

CORO_TEST(TaskGroup, CancelsAndWaitsWhenItStops) {
  TaskGroup group(loop.executor(), "group");
  for (int i = 0; i < 100; ++i) group.spawn("sleeper", sleep_forever());
  co_await yield();
  std::vector<std::string> const late = co_await group.stop(seconds(30));
  EXPECT_TRUE(late.empty());
  EXPECT_EQ(group.size(), 0U);
}

CORO_TEST(TaskGroup, NeverRunsATaskThatWasCancelledBeforeItBegan) {
  bool begun = false;
  TaskGroup group(loop.executor(), "group");
  group.spawn("task", set_flag(begun));
  co_await group.stop(seconds(30));
  EXPECT_FALSE(begun);
}

CORO_TEST(TaskGroup, StartsNothingOnceItStops) {
  bool begun = false;
  TaskGroup group(loop.executor(), "group");
  Task<std::vector<std::string>> stopping = group.stop(seconds(30));
  EXPECT_TRUE(group.stopping());
  EXPECT_FALSE(group.spawn("task", set_flag(begun)));
  co_await std::move(stopping);
  EXPECT_FALSE(begun);
}

CORO_TEST(TaskGroup, StartsNothingAboveItsLimit) {
  LogLines log;
  bool begun = false;
  TaskGroup group(loop.executor(), "group", 2);
  EXPECT_TRUE(group.spawn("a", sleep_forever()));
  EXPECT_TRUE(group.spawn("b", sleep_forever()));
  EXPECT_FALSE(group.spawn("c", set_flag(begun)));
  EXPECT_FALSE(group.spawn("d", set_flag(begun)));
  CO_ASSERT_EQ(log.lines.size(), 1U) << "told once, not for each refusal";
  EXPECT_NE(log.lines[0].find("limit of 2 tasks"), std::string::npos);
  co_await group.stop(seconds(30));
}

Task<void> refuse_to_end(Event& event) {
  co_await ignore_cancellation();
  while (!event.is_set()) co_await event.wait_outcome(Instant::max());
}

CORO_TEST(TaskGroup, NamesTheTasksThatDidNotEndByTheDeadline) {
  LogLines log;
  Event event;
  TaskGroup group(loop.executor(), "group");
  group.spawn("stubborn", refuse_to_end(event));
  group.spawn("polite", sleep_forever());
  co_await yield();
  co_await yield();
  std::vector<std::string> const late = co_await group.stop(milliseconds(5));
  EXPECT_EQ(late, std::vector<std::string>{"stubborn"});
  EXPECT_EQ(log.lines.size(), 1U);
  event.set();
  std::vector<std::string> const later = co_await group.stop(seconds(30));
  EXPECT_TRUE(later.empty());
}

Task<void> fail_with_error() {
  co_await yield();
  throw Error(ErrorCode::Timeout, "the moon did not rise");
}

Task<void> fail_with_exception() {
  co_await yield();
  throw std::runtime_error("plain");
}

CORO_TEST(TaskGroup, LogsAnExceptionAtTheRootWithTheNamesOfGroupAndTask) {
  LogLines log;
  TaskGroup group(loop.executor(), "night");
  group.spawn("moon", fail_with_error());
  co_await group.join();
  group.spawn("star", fail_with_exception());
  co_await group.join();
  CO_ASSERT_EQ(log.lines.size(), 2U);
  EXPECT_EQ(log.lines[0], "task night/moon failed: timeout: the moon did not rise");
  EXPECT_EQ(log.lines[1], "task night/star failed: plain");
}

// The owner's own task is cancelled while it stops its group: the wait must not be cut short.
Task<void> own_a_group(Executor executor, bool& stopped) {
  TaskGroup inner(executor, "inner");
  inner.spawn("sleeper", sleep_forever());
  std::exception_ptr thrown;
  try {
    co_await sleep_forever();
  } catch (...) {
    thrown = std::current_exception();
  }
  co_await ignore_cancellation();
  std::vector<std::string> const late = co_await inner.stop(seconds(30));
  stopped = late.empty();
  std::rethrow_exception(thrown);
}

CORO_TEST(TaskGroup, CanBeStoppedByATaskThatIsBeingCancelled) {
  bool stopped = false;
  TaskGroup outer(loop.executor(), "outer");
  outer.spawn("owner", own_a_group(loop.executor(), stopped));
  co_await yield();
  co_await yield();
  std::vector<std::string> const late = co_await outer.stop(seconds(30));
  EXPECT_TRUE(late.empty());
  EXPECT_TRUE(stopped);
}

// A task that stops the very group it is in cannot wait for itself, but may cancel it.
Task<void> cancel_my_group(TaskGroup& group, bool& went_on) {
  group.cancel();
  co_await yield();
  went_on = true;
}

CORO_TEST(TaskGroup, MayBeCancelledByItsOwnTask) {
  bool went_on = false;
  TaskGroup group(loop.executor(), "group");
  group.spawn("a", cancel_my_group(group, went_on));
  group.spawn("b", sleep_forever());
  co_await group.join();
  EXPECT_FALSE(went_on);
}

TEST(TaskGroupDeathTest, IsLoudWhenItIsDestroyedWithTasksInIt) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  SystemClock const clock;
  EXPECT_DEATH(
      {
        Loop loop(clock);
        TaskGroup group(loop.executor(), "forgotten");
        group.spawn("sleeper", sleep_forever());
      },
      "forgotten was destroyed with tasks still in it .sleeper.");
}

// Whatever sleeps in a loop is destroyed with it, without a leak and without touching what is gone
// (ASan looks on).
Task<void> sleep_with_a_group(Executor executor) {
  TaskGroup inner(executor, "inner");
  inner.spawn("sleeper", sleep_forever());
  Event event;
  co_await with_deadline(hours(1), event.wait());
}

TEST(Loop, DestroysWhatStillSleepsInIt) {
  SystemClock const clock;
  auto loop = std::make_unique<Loop>(clock);
  auto group = std::make_unique<TaskGroup>(loop->executor(), "outer");
  for (int i = 0; i < 10; ++i) group->spawn("task", sleep_with_a_group(loop->executor()));
  loop->run_for(milliseconds(5));
  EXPECT_EQ(group->size(), 10U);
  loop->stop();
  group.reset();
  loop.reset();
}

}  // namespace
}  // namespace aether::async
