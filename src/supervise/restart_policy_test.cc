// SPDX-License-Identifier: Apache-2.0
#include "supervise/restart_policy.h"

#include <vector>

#include <gtest/gtest.h>

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using When = config::RestartPolicy;
using Outcome = ServiceEnd::Outcome;

constexpr Instant kStart{1000s};

config::Restart rules(When when) {
  return {.policy = when,
          .backoff_min = 100ms,
          .backoff_max = 2s,
          .crash_loop_count = 100,
          .crash_loop_window = 60s};
}

bool restarts(RestartVerdict const& verdict) {
  return std::holds_alternative<RestartAfter>(verdict);
}

TEST(RestartPolicy, RestartsByPolicyAndOutcome) {
  struct Row {
    When when;
    Outcome outcome;
    bool restarted;
  };
  std::vector<Row> const table = {
      {When::Always, Outcome::Success, true},     {When::Always, Outcome::Failure, true},
      {When::OnFailure, Outcome::Success, false}, {When::OnFailure, Outcome::Failure, true},
      {When::Never, Outcome::Success, false},     {When::Never, Outcome::Failure, false},
  };
  for (Row const& row : table) {
    RestartPolicy policy(rules(row.when), 1);
    EXPECT_EQ(restarts(policy.ended({.outcome = row.outcome}, kStart)), row.restarted);
  }
}

TEST(RestartPolicy, WaitsLongerAfterEachFastCrash) {
  RestartPolicy policy(rules(When::Always), 7);
  Duration backoff = 100ms;
  Instant now = kStart;
  for (unsigned attempt = 1; attempt <= 10; ++attempt) {
    auto const verdict = std::get<RestartAfter>(policy.ended({}, now));
    EXPECT_EQ(verdict.attempt, attempt);
    EXPECT_GE(verdict.wait, backoff * 3 / 4);
    EXPECT_LE(verdict.wait, backoff * 5 / 4);
    backoff = std::min<Duration>(backoff * 2, 2s);
    now += verdict.wait;
  }
}

TEST(RestartPolicy, BeginsAnewAfterAStableTime) {
  RestartPolicy policy(rules(When::Always), 7);
  for (int i = 0; i < 5; ++i) (void)policy.ended({}, kStart);
  auto const verdict =
      std::get<RestartAfter>(policy.ended({.ready_for = kStableAfter}, kStart + 1min));
  EXPECT_EQ(verdict.attempt, 1U);
  EXPECT_LE(verdict.wait, 125ms);
}

TEST(RestartPolicy, CallsManyEndsInAWindowACrashLoop) {
  config::Restart restart = rules(When::Always);
  restart.crash_loop_count = 3;
  RestartPolicy policy(restart, 7);
  EXPECT_TRUE(restarts(policy.ended({}, kStart)));
  EXPECT_TRUE(restarts(policy.ended({}, kStart + 1s)));
  auto const loop = std::get<CrashLoop>(policy.ended({}, kStart + 2s));
  EXPECT_EQ(loop.ends, 3U);
  EXPECT_EQ(loop.within, 2s);
  // A reload starts it again, with a clean slate.
  EXPECT_TRUE(restarts(policy.ended({}, kStart + 3s)));
}

TEST(RestartPolicy, ForgetsEndsThatAreOlderThanTheWindow) {
  config::Restart restart = rules(When::Always);
  restart.crash_loop_count = 3;
  RestartPolicy policy(restart, 7);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(restarts(policy.ended({}, kStart + i * 31s))) << i;
}

TEST(RestartPolicy, NeverCallsItACrashLoopWhenTheCountIsZero) {
  config::Restart restart = rules(When::Always);
  restart.crash_loop_count = 0;
  RestartPolicy policy(restart, 7);
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(restarts(policy.ended({}, kStart)));
}

TEST(RestartPolicy, RepeatsItselfForTheSameSeed) {
  RestartPolicy a(rules(When::Always), 42);
  RestartPolicy b(rules(When::Always), 42);
  for (int i = 0; i < 10; ++i) {
    auto const left = std::get<RestartAfter>(a.ended({}, kStart));
    auto const right = std::get<RestartAfter>(b.ended({}, kStart));
    EXPECT_EQ(left.wait, right.wait);
  }
}

}  // namespace
}  // namespace aether::supervise
