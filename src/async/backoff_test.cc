// SPDX-License-Identifier: Apache-2.0
#include "async/backoff.h"

#include <chrono>

#include <gtest/gtest.h>

namespace aether::async {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Backoff, GrowsByItsFactorUpToItsLimit) {
  Backoff backoff({.min = milliseconds(100), .max = seconds(1), .factor = 2.0, .jitter = 0.0}, 1);
  EXPECT_EQ(backoff.next(), milliseconds(100));
  EXPECT_EQ(backoff.next(), milliseconds(200));
  EXPECT_EQ(backoff.next(), milliseconds(400));
  EXPECT_EQ(backoff.next(), milliseconds(800));
  EXPECT_EQ(backoff.next(), seconds(1));
  EXPECT_EQ(backoff.next(), seconds(1));
  EXPECT_EQ(backoff.attempts(), 6U);
  backoff.reset();
  EXPECT_EQ(backoff.next(), milliseconds(100));
}

TEST(Backoff, StaysWithinItsBoundsForever) {
  BackoffPolicy const policy{
      .min = milliseconds(10), .max = seconds(30), .factor = 3.0, .jitter = 0.5};
  Backoff backoff(policy, 7);
  Duration const floor = policy.min / 2;
  for (int i = 0; i < 5000; ++i) {
    Duration const wait = backoff.next();
    ASSERT_GE(wait, floor);
    ASSERT_LE(wait, policy.max);
  }
}

TEST(Backoff, IsTheSameForTheSameSeedAndAnotherForAnother) {
  Backoff a({}, 42);
  Backoff b({}, 42);
  Backoff c({}, 43);
  bool differs = false;
  for (int i = 0; i < 20; ++i) {
    Duration const wait = a.next();
    EXPECT_EQ(wait, b.next());
    differs = differs || wait != c.next();
  }
  EXPECT_TRUE(differs);
}

TEST(Backoff, TakesTheLongestDuration) {
  Backoff backoff({.min = seconds(1), .max = Duration::max(), .factor = 10.0, .jitter = 0.0}, 1);
  for (int i = 0; i < 400; ++i) ASSERT_GE(backoff.next(), seconds(1));
}

}  // namespace
}  // namespace aether::async
