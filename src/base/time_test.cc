// SPDX-License-Identifier: Apache-2.0
#include "base/time.h"

#include <random>
#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace aether {
namespace {

using namespace std::chrono_literals;

TEST(ParseDuration, ReadsEveryUnitAndTheirSums) {
  std::pair<char const*, Duration> const cases[] = {
      {"0", 0ns},          {"0s", 0ns},
      {"1ns", 1ns},        {"250us", 250us},
      {"250µs", 250us},    {"500ms", 500ms},
      {"30s", 30s},        {"2m", 2min},
      {"1h30m", 90min},    {"2d", 48h},
      {"1.5s", 1500ms},    {".5s", 500ms},
      {"1.s", 1s},         {"0.25h", 15min},
      {"1m1.5s", 61500ms}, {"1d2h3m4s5ms6us7ns", 93784005006007ns},
  };
  for (auto const& [text, expected] : cases) {
    Result<Duration> const parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(ParseDuration, SaysWhatIsWrong) {
  std::pair<char const*, char const*> const cases[] = {
      {"", "empty"},
      {"30", "unit is missing"},
      {"1h30", "unit is missing"},
      {"s", "number is missing"},
      {"-1s", "number is missing"},
      {"1 s", "no unit \" s\""},
      {"10x", "no unit \"x\""},
      {"1s1s", "large to small"},
      {"1m1h", "large to small"},
      {"1.2.3s", "unit is missing"},
      {".s", "number is missing"},
      {"300000d", "292 years"},
      {"99999999999999999999s", "292 years"},
      {"106751d24h", "292 years"},
  };
  for (auto const& [text, expected] : cases) {
    Result<Duration> const parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), ErrorCode::UsageInvalid);
    EXPECT_NE(parsed.error().message().find(expected), std::string::npos)
        << text << " gave: " << parsed.error().message();
  }
}

TEST(FormatDuration, WritesLargeUnitsFirst) {
  EXPECT_EQ(format_duration(0s), "0s");
  EXPECT_EQ(format_duration(90min), "1h30m");
  EXPECT_EQ(format_duration(250us), "250us");
  EXPECT_EQ(format_duration(1500ms), "1s500ms");
  EXPECT_EQ(format_duration(-1500ms), "-1s500ms");
  EXPECT_EQ(format_duration(48h), "2d");
  EXPECT_EQ(format_duration(Duration::min()), "-106751d23h47m16s854ms775us808ns");
}

TEST(FormatDuration, IsReadBackExactly) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 2000; ++round) {
    Duration const duration(static_cast<std::int64_t>((random() >> 1) >> (random() % 63)));
    Result<Duration> const back = parse_duration(format_duration(duration));
    ASSERT_TRUE(back) << back.error().message();
    ASSERT_EQ(*back, duration);
  }
}

TEST(Humanize, GivesThreeDigitsAndOneUnit) {
  std::pair<Duration, char const*> const cases[] = {
      {0ns, "0s"},         {7ns, "7ns"},        {999ns, "999ns"},    {1us, "1.00us"},
      {1234us, "1.23ms"},  {9990us, "9.99ms"},  {12345us, "12.3ms"}, {123456us, "123ms"},
      {999400us, "999ms"}, {999600us, "1.00s"}, {45600ms, "45.6s"},  {59990ms, "60.0s"},
      {60s, "1.00m"},      {9000s, "2.50h"},    {60h, "2.50d"},      {-1234us, "-1.23ms"},
  };
  for (auto const& [duration, expected] : cases) EXPECT_EQ(humanize(duration), expected);
}

TEST(FormatRfc3339, WritesUtcWithMilliseconds) {
  EXPECT_EQ(format_rfc3339(WallTime{}), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(format_rfc3339(WallTime(1763694855926ms)), "2025-11-21T03:14:15.926Z");
  EXPECT_EQ(format_rfc3339(WallTime(-1ms)), "1969-12-31T23:59:59.999Z");
}

TEST(ManualClock, MovesOnlyWhenTurned) {
  ManualClock clock;
  Instant const before = clock.now();
  EXPECT_EQ(clock.now(), before);
  clock.advance(5s);
  EXPECT_EQ(clock.now() - before, 5s);
  EXPECT_EQ(clock.wall().time_since_epoch(), 6s);
}

TEST(SystemClock, NeverGoesBack) {
  SystemClock const clock;
  Instant const before = clock.now();
  EXPECT_GE(clock.now(), before);
  EXPECT_GT(clock.wall().time_since_epoch(), 24h * 365 * 50);
}

}  // namespace
}  // namespace aether
