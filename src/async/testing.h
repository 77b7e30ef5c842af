// SPDX-License-Identifier: Apache-2.0
// Tests that are coroutines. Only *_test.cc files include this.
//
//   CORO_TEST(Event, WakesItsWaiters) {        // Loop& loop is in scope
//     async::Event event;
//     ...
//     bool const woken = co_await event.wait_for(std::chrono::seconds(10));
//     CO_ASSERT_TRUE(woken) << "more words";
//   }
//
// The body runs on a Loop of its own to a deadline. Whatever it throws fails the test. EXPECT_*
// work as always; ASSERT_* and GTEST_SKIP do not compile in a coroutine: CO_ASSERT_* and CO_SKIP
// do.
#pragma once
#include <chrono>
#include <exception>
#include <utility>

#include <gtest/gtest.h>

#include "async/loop.h"
#include "async/task.h"
#include "async/timers.h"
#include "base/error.h"
#include "base/time.h"

namespace aether::async::testing {

/// A test that takes longer has hung. Generous, for sanitizers on a busy machine.
inline constexpr Duration kTestDeadline = std::chrono::seconds(60);

/// Runs the body; a failure of the test that runs now if it throws or hangs.
inline void run_coroutine_test(Task<void> (*body)(Loop&), Duration deadline) {
  SystemClock const clock;
  Loop loop(clock);
  try {
    Task<bool> bounded = with_deadline(deadline, body(loop));
    if (!loop.run_task(std::move(bounded))) {
      ADD_FAILURE() << "the test did not end within " << format_duration(deadline);
    }
  } catch (Error const& error) {
    ADD_FAILURE() << "the test threw: " << error.describe();
  } catch (std::exception const& exception) {
    ADD_FAILURE() << "the test threw: " << exception.what();
  }
}

}  // namespace aether::async::testing

#define CORO_TEST_WITHIN(suite, name, deadline)                                          \
  static ::aether::async::Task<void> suite##_##name##_body(::aether::async::Loop& loop); \
  TEST(suite, name) {                                                                    \
    ::aether::async::testing::run_coroutine_test(&suite##_##name##_body, deadline);      \
  }                                                                                      \
  static ::aether::async::Task<void> suite##_##name##_body(                              \
      [[maybe_unused]] ::aether::async::Loop& loop)

#define CORO_TEST(suite, name) \
  CORO_TEST_WITHIN(suite, name, ::aether::async::testing::kTestDeadline)

#define CO_FATAL_FAILURE_(message) \
  co_return GTEST_MESSAGE_(message, ::testing::TestPartResult::kFatalFailure)
#define CO_FAIL() CO_FATAL_FAILURE_("Failed")
#define CO_SKIP() co_return GTEST_MESSAGE_("", ::testing::TestPartResult::kSkip)
#define CO_ASSERT_TRUE(condition) \
  GTEST_TEST_BOOLEAN_(condition, #condition, false, true, CO_FATAL_FAILURE_)
#define CO_ASSERT_FALSE(condition) \
  GTEST_TEST_BOOLEAN_(!(condition), #condition, true, false, CO_FATAL_FAILURE_)
#define CO_ASSERT_PRED2_(compare, a, b) GTEST_PRED_FORMAT2_(compare, a, b, CO_FATAL_FAILURE_)
#define CO_ASSERT_EQ(a, b) CO_ASSERT_PRED2_(::testing::internal::EqHelper::Compare, a, b)
#define CO_ASSERT_NE(a, b) CO_ASSERT_PRED2_(::testing::internal::CmpHelperNE, a, b)
#define CO_ASSERT_LE(a, b) CO_ASSERT_PRED2_(::testing::internal::CmpHelperLE, a, b)
#define CO_ASSERT_LT(a, b) CO_ASSERT_PRED2_(::testing::internal::CmpHelperLT, a, b)
#define CO_ASSERT_GE(a, b) CO_ASSERT_PRED2_(::testing::internal::CmpHelperGE, a, b)
#define CO_ASSERT_GT(a, b) CO_ASSERT_PRED2_(::testing::internal::CmpHelperGT, a, b)
