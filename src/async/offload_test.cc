// SPDX-License-Identifier: Apache-2.0
#include "async/offload.h"

#include <atomic>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "async/task_group.h"
#include "async/testing.h"
#include "async/timers.h"
#include "base/error.h"

namespace aether::async {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

CORO_TEST(Offload, RunsOnAnotherThreadAndBringsTheValueBack) {
  ThreadPool pool(2);
  std::thread::id const here = std::this_thread::get_id();
  auto where = [] { return std::this_thread::get_id(); };
  std::thread::id const there = co_await offload(pool, where);
  EXPECT_NE(there, here);
  EXPECT_EQ(std::this_thread::get_id(), here);
  std::string text = "moved in";
  auto extend = [text = std::move(text)] { return text + " and out"; };
  std::string const back = co_await offload(pool, std::move(extend));
  EXPECT_EQ(back, "moved in and out");
}

CORO_TEST(Offload, BringsAnExceptionBack) {
  ThreadPool pool(1);
  std::optional<ErrorCode> code;
  try {
    auto work = [] { throw Error(ErrorCode::NotFound, "nothing there"); };
    co_await offload(pool, work);
  } catch (Error const& error) {
    code = error.code();
  }
  EXPECT_EQ(code, ErrorCode::NotFound);
}

CORO_TEST(Offload, LetsTheLoopGoOnMeanwhile) {
  ThreadPool pool(1);
  auto released = std::make_shared<std::latch>(1);
  TaskGroup group(loop.executor(), "group");
  auto wait = [](ThreadPool& on, std::shared_ptr<std::latch> latch) -> Task<void> {
    auto work = [latch] { latch->wait(); };
    co_await offload(on, work);
  };
  group.spawn("work", wait(pool, released));
  co_await sleep_for(milliseconds(1));
  released->count_down();
  co_await group.join();
}

CORO_TEST(Offload, ACancelledCallerGoesOnWhileTheWorkEnds) {
  auto released = std::make_shared<std::latch>(1);
  auto finished = std::make_shared<std::atomic<bool>>(false);
  {
    ThreadPool pool(1);
    auto work = [released, finished] {
      released->wait();
      finished->store(true);
    };
    bool const ended = co_await with_deadline(milliseconds(2), offload(pool, work));
    EXPECT_FALSE(ended);
    EXPECT_FALSE(finished->load());
    released->count_down();
  }
  EXPECT_TRUE(finished->load());
}

CORO_TEST(Offload, RefusesWhenTheQueueIsFull) {
  auto released = std::make_shared<std::latch>(1);
  auto begun = std::make_shared<std::latch>(1);
  ThreadPool pool(1, 2);
  EXPECT_TRUE(pool.post([released, begun] {
    begun->count_down();
    released->wait();
  }));
  begun->wait();
  EXPECT_TRUE(pool.post([] {}));
  EXPECT_TRUE(pool.post([] {}));
  std::optional<ErrorCode> code;
  try {
    auto nothing = [] {};
    co_await offload(pool, nothing);
  } catch (Error const& error) {
    code = error.code();
  }
  EXPECT_EQ(code, ErrorCode::LimitReached);
  released->count_down();
}

}  // namespace
}  // namespace aether::async
