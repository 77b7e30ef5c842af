// SPDX-License-Identifier: Apache-2.0
#include "functions/autoscaler.h"

#include <gtest/gtest.h>

namespace aether::functions {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Samples at each tick, with as many instances ready as were wished for.
struct Ticking {
  explicit Ticking(AutoscalerPolicy policy) : scaler(policy) {}

  std::uint32_t sample(std::uint32_t load) {
    now += AutoscalerPolicy::kTick;
    ready = scaler.sample(load, ready, now);
    return ready;
  }
  std::uint32_t sample_for(std::uint32_t load, Duration time) {
    for (Duration t{}; t < time; t += AutoscalerPolicy::kTick) sample(load);
    return ready;
  }

  Autoscaler scaler;
  Instant now{seconds(1)};
  std::uint32_t ready = 0;
};

TEST(Autoscaler, AsksForAsManyAsTheLoadNeedsAtSeventyPercentOfTheConcurrency) {
  Ticking ten(AutoscalerPolicy{.concurrency = 10});
  EXPECT_EQ(ten.sample_for(7, seconds(120)), 1U);
  EXPECT_EQ(ten.sample_for(8, seconds(120)), 2U);
  Ticking one(AutoscalerPolicy{.concurrency = 1});
  EXPECT_EQ(one.sample_for(7, seconds(120)), 10U);
}

TEST(Autoscaler, AsksForNothingWithoutLoad) {
  Ticking ticking(AutoscalerPolicy{});
  EXPECT_EQ(ticking.sample_for(0, seconds(10)), 0U);
  EXPECT_TRUE(ticking.scaler.at_rest());
}

TEST(Autoscaler, RemembersAShortLoadForTheStableWindowAndNoLonger) {
  Ticking ticking(AutoscalerPolicy{});
  EXPECT_EQ(ticking.sample(1), 2U);  // One in flight is above 70 % of one.
  ticking.sample_for(0, seconds(59));
  EXPECT_GE(ticking.ready, 1U);
  ticking.sample_for(0, seconds(62));
  EXPECT_EQ(ticking.ready, 0U);
  EXPECT_TRUE(ticking.scaler.at_rest());
}

TEST(Autoscaler, PanicsWhenSixSecondsAskForTwiceOfWhatIsReady) {
  Ticking ticking(AutoscalerPolicy{});
  ticking.sample_for(1, seconds(120));
  ASSERT_EQ(ticking.ready, 2U);
  ASSERT_FALSE(ticking.scaler.panicking());
  ticking.sample_for(20, seconds(3));
  EXPECT_TRUE(ticking.scaler.panicking());
  // By the stable window alone it would be three: 3 s of 20 and 57 s of 1 are 1.95 on the average.
  EXPECT_GT(ticking.ready, 10U);
}

TEST(Autoscaler, TakesNothingAwayInAPanicAndForAStableWindowAfterIt) {
  Ticking ticking(AutoscalerPolicy{});
  ticking.sample_for(1, seconds(120));
  std::uint32_t const most = ticking.sample_for(20, seconds(7));
  for (int i = 0; i < 500; ++i) ASSERT_GE(ticking.sample(0), most) << "after tick " << i;
  EXPECT_TRUE(ticking.scaler.panicking());
  ticking.sample_for(0, seconds(20));
  EXPECT_FALSE(ticking.scaler.panicking());
  EXPECT_LT(ticking.ready, most);
}

TEST(Autoscaler, TakesAwayAtMostHalfAtOnce) {
  Autoscaler scaler(AutoscalerPolicy{.stable_window = seconds(1)});
  Instant now{seconds(1)};
  for (int i = 0; i < 20; ++i) (void)scaler.sample(0, 100, now += AutoscalerPolicy::kTick);
  EXPECT_EQ(scaler.sample(0, 100, now += AutoscalerPolicy::kTick), 50U);
  EXPECT_EQ(scaler.sample(0, 7, now += AutoscalerPolicy::kTick), 3U);
  EXPECT_EQ(scaler.sample(0, 1, now += AutoscalerPolicy::kTick), 0U);
}

TEST(Autoscaler, AsksForAtMostAThousandTimesWhatIsReady) {
  Autoscaler scaler(AutoscalerPolicy{});
  EXPECT_EQ(scaler.sample(100'000, 0, Instant(seconds(1))), 1000U);
  Autoscaler slow(AutoscalerPolicy{.max_up_rate = 2});
  EXPECT_EQ(slow.sample(100'000, 3, Instant(seconds(1))), 6U);
}

TEST(Autoscaler, CountsLeftOutTicksAsNoLoad) {
  Autoscaler scaler(AutoscalerPolicy{.stable_window = seconds(10)});
  Instant const start{seconds(1)};
  (void)scaler.sample(70, 100, start);
  // 70 in one of a hundred ticks is 0.7 on the average; one instance is used as it should be.
  EXPECT_EQ(scaler.sample(0, 1, start + milliseconds(9900)), 1U);
  EXPECT_EQ(scaler.sample(0, 1, start + seconds(11)), 0U);
}

TEST(Autoscaler, BeginsAnewAfterALongSilence) {
  Autoscaler scaler(AutoscalerPolicy{});
  (void)scaler.sample(1000, 1000, Instant(seconds(1)));
  EXPECT_EQ(scaler.sample(0, 1, Instant(std::chrono::hours(1))), 0U);
  EXPECT_TRUE(scaler.at_rest());
}

TEST(Autoscaler, TakesTheGreaterOfTwoSamplesOfOneTick) {
  Autoscaler scaler(AutoscalerPolicy{});
  Instant const start{seconds(1)};
  (void)scaler.sample(7, 100, start);
  EXPECT_EQ(scaler.sample(0, 10, start + milliseconds(1)), 10U);
}

TEST(Autoscaler, ForgetsNoSlowerThanIdleInstancesAreToGo) {
  EXPECT_EQ(autoscaler_policy(1, seconds(2)).stable_window, seconds(2));
  EXPECT_EQ(autoscaler_policy(1, milliseconds(1)).stable_window, seconds(1));
  EXPECT_EQ(autoscaler_policy(5, seconds(600)).stable_window, seconds(60));
  EXPECT_EQ(autoscaler_policy(5, seconds(600)).concurrency, 5U);
}

}  // namespace
}  // namespace aether::functions
