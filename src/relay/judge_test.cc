// SPDX-License-Identifier: Apache-2.0
#include "relay/judge.h"

#include <gtest/gtest.h>

namespace aether::relay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

ProbeOutcome const kHealthy{.healthy = true, .reason = "GET /health answered 200"};
ProbeOutcome const kRefused{.healthy = false, .reason = "connection refused"};

class JudgeTest : public testing::Test {
 protected:
  template <class Seen>
  std::optional<Judgement> after(Duration wait, Seen const& seen) {
    clock_.advance(wait);
    return judge_.observe(seen, clock_.now());
  }

  ManualClock clock_;
  Judge judge_{JudgePolicy{.probe_failures_max = 3,
                           .memory_bytes_max = 1U << 20U,
                           .memory_samples_max = 2,
                           .ready_limit = seconds(5)},
               clock_.now()};
};

TEST_F(JudgeTest, NamesTheRuleAndTheFiguresWhenProbesFailInARow) {
  EXPECT_FALSE(after(seconds(1), kRefused));
  EXPECT_FALSE(after(seconds(1), kRefused));
  auto const judgement = after(seconds(1), kRefused);
  ASSERT_TRUE(judgement);
  EXPECT_EQ(judgement->rule, Judgement::Rule::HealthProbe);
  EXPECT_EQ(judgement->text(),
            "health probe failed 3 times in a row within 2.00s: connection refused");
}

TEST_F(JudgeTest, ForgetsFailuresAfterAHealthyProbe) {
  for (int round = 0; round < 10; ++round) {
    EXPECT_FALSE(after(seconds(1), kRefused));
    EXPECT_FALSE(after(seconds(1), kRefused));
    EXPECT_FALSE(after(seconds(1), kHealthy));
    EXPECT_EQ(judge_.probe_failures(), 0);
  }
}

TEST_F(JudgeTest, SaysTheReasonOfTheLastFailure) {
  EXPECT_FALSE(after(seconds(1), kRefused));
  EXPECT_FALSE(after(seconds(1), kRefused));
  auto const judgement = after(seconds(1), ProbeOutcome{.reason = "no answer within 1s"});
  ASSERT_TRUE(judgement);
  EXPECT_TRUE(judgement->figures.ends_with(": no answer within 1s")) << judgement->figures;
}

TEST_F(JudgeTest, NeedsNoReasonFromAProbe) {
  Judge judge(JudgePolicy{.probe_failures_max = 1});
  auto const judgement = judge.observe(ProbeOutcome{}, clock_.now());
  ASSERT_TRUE(judgement);
  EXPECT_EQ(judgement->text(), "health probe failed 1 time: no reason was given");
}

TEST_F(JudgeTest, TakesAThresholdBelowOneForOne) {
  for (int const threshold : {0, -1, 1}) {
    Judge judge(JudgePolicy{.probe_failures_max = threshold});
    EXPECT_FALSE(judge.observe(kHealthy, clock_.now()));
    EXPECT_TRUE(judge.observe(kRefused, clock_.now())) << threshold;
  }
}

TEST_F(JudgeTest, JudgesOnce) {
  Judge judge(JudgePolicy{.probe_failures_max = 1});
  EXPECT_TRUE(judge.observe(kRefused, clock_.now()));
  EXPECT_TRUE(judge.judged());
  EXPECT_FALSE(judge.observe(kRefused, clock_.now()));
  EXPECT_FALSE(judge.observe(WatchdogSilence{seconds(9)}, clock_.now()));
}

TEST_F(JudgeTest, TakesOneMissedWatchdogForSick) {
  auto const judgement = after(seconds(1), WatchdogSilence{milliseconds(2500)});
  ASSERT_TRUE(judgement);
  EXPECT_EQ(judgement->rule, Judgement::Rule::Watchdog);
  EXPECT_EQ(judgement->text(), "watchdog missed: no sign of life for 2.50s");
}

TEST_F(JudgeTest, LetsASinglePeakOfMemoryPass) {
  EXPECT_FALSE(after(seconds(1), MemorySample{2U << 20U}));
  EXPECT_FALSE(after(seconds(1), MemorySample{1U << 20U}));
  EXPECT_FALSE(after(seconds(1), MemorySample{2U << 20U}));
  auto const judgement = after(seconds(1), MemorySample{3U << 20U});
  ASSERT_TRUE(judgement);
  EXPECT_EQ(judgement->text(),
            "memory over its limit in 2 samples in a row: 3.00 MiB used, 1.00 MiB allowed");
}

TEST_F(JudgeTest, HasNoOpinionOnMemoryWithoutALimit) {
  Judge judge;
  for (int sample = 0; sample < 10; ++sample) {
    EXPECT_FALSE(judge.observe(MemorySample{~0ULL}, clock_.now()));
  }
}

TEST_F(JudgeTest, GivesARevisionItsTimeToBecomeReady) {
  EXPECT_FALSE(after(milliseconds(4999), StillNotReady{}));
  auto const judgement = after(milliseconds(1), StillNotReady{});
  ASSERT_TRUE(judgement);
  EXPECT_EQ(judgement->rule, Judgement::Rule::Readiness);
  EXPECT_EQ(judgement->text(), "readiness not reported within 5s of the cutover");
}

TEST_F(JudgeTest, WaitsForReadinessForEverWithoutALimit) {
  Judge judge;
  clock_.advance(std::chrono::hours(1000));
  EXPECT_FALSE(judge.observe(StillNotReady{}, clock_.now()));
}

TEST_F(JudgeTest, CountsEachRuleByItself) {
  EXPECT_FALSE(after(seconds(1), kRefused));
  EXPECT_FALSE(after(seconds(1), MemorySample{2U << 20U}));
  EXPECT_FALSE(after(seconds(1), kRefused));
  EXPECT_EQ(judge_.probe_failures(), 2);
}

}  // namespace
}  // namespace aether::relay
