// SPDX-License-Identifier: Apache-2.0
#include "config/timetable.h"

#include <chrono>
#include <string>

#include <gtest/gtest.h>

namespace aether::config {
namespace {

using namespace std::chrono_literals;
using std::chrono::sys_days;

// A Sunday.
constexpr WallTime kStart = sys_days(std::chrono::year(2026) / 3 / 1) + 10h + 7min + 30s;

std::string next(char const* cron) {
  auto const table = Timetable::cron(cron);
  if (!table) return table.error().message();
  auto const time = table->next_after(kStart);
  return time ? format_rfc3339(*time).substr(0, 16) : "never";
}

TEST(Timetable, OfCronIsTheNextMinuteThatFits) {
  EXPECT_EQ(next("* * * * *"), "2026-03-01T10:08");
  EXPECT_EQ(next("7 10 * * *"), "2026-03-02T10:07");
  EXPECT_EQ(next("*/15 * * * *"), "2026-03-01T10:15");
  EXPECT_EQ(next("0 8-18/5 * * *"), "2026-03-01T13:00");
  EXPECT_EQ(next("30 9 * * 1-5"), "2026-03-02T09:30");
  EXPECT_EQ(next("0 0 * * 7"), "2026-03-08T00:00");
  EXPECT_EQ(next("0 0 1,15 * *"), "2026-03-15T00:00");
  EXPECT_EQ(next("0 0 29 2 *"), "2028-02-29T00:00");
  EXPECT_EQ(next("0 0 31 12 *"), "2026-12-31T00:00");
  EXPECT_EQ(next("5/20 10 * * *"), "2026-03-01T10:25");
}

TEST(Timetable, OfADayAndAWeekdayIsEither) {
  EXPECT_EQ(next("0 0 13 * 1"), "2026-03-02T00:00");
  EXPECT_EQ(next("0 0 3 * 6"), "2026-03-03T00:00");
}

TEST(Timetable, OfADayThatNeverComesIsNothing) {
  EXPECT_EQ(next("0 0 30 2 *"), "never");
}

TEST(Timetable, NamesTheFieldThatIsWrong) {
  EXPECT_NE(next("60 * * * *").find("minute"), std::string::npos);
  EXPECT_NE(next("* 24 * * *").find("hour"), std::string::npos);
  EXPECT_NE(next("* * 0 * *").find("day of the month"), std::string::npos);
  EXPECT_NE(next("* * * 13 *").find("month"), std::string::npos);
  EXPECT_NE(next("* * * * 8").find("day of the week"), std::string::npos);
  for (char const* const wrong :
       {"", "* * * *", "* * * * * *", "*/0 * * * *", "5-1 * * * *", "1, * * * *", "x * * * *"}) {
    EXPECT_FALSE(Timetable::cron(wrong)) << wrong;
  }
}

TEST(Timetable, OfAPeriodIsItsNextMultipleWhateverTheStart) {
  Timetable const hourly = Timetable::every(1h);
  EXPECT_EQ(hourly.next_after(kStart), WallTime(sys_days(std::chrono::year(2026) / 3 / 1) + 11h));
  EXPECT_EQ(hourly.next_after(*hourly.next_after(kStart)),
            WallTime(sys_days(std::chrono::year(2026) / 3 / 1) + 12h));
}

}  // namespace
}  // namespace aether::config
