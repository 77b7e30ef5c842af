// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <errno.h>

#include <set>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/ids.h"
#include "base/result.h"

namespace aether {
namespace {

constexpr ErrorCode kCodes[] = {
#define AETHER_ERROR(name, code, origin, retry, meaning, cure) ErrorCode::name,
#include "base/error_codes.def"
#undef AETHER_ERROR
};

bool is_kebab_case(std::string_view text) {
  if (text.empty() || text.front() == '-' || text.back() == '-') return false;
  for (char const c : text) {
    if ((c < 'a' || c > 'z') && c != '-') return false;
  }
  return true;
}

TEST(ErrorCodes, AreDistinctKebabCaseWordsWithAMeaningAndACure) {
  std::set<std::string_view> names;
  for (ErrorCode const code : kCodes) {
    ErrorInfo const& row = info(code);
    EXPECT_EQ(row.code, code);
    EXPECT_TRUE(is_kebab_case(row.name)) << row.name;
    EXPECT_TRUE(names.insert(row.name).second) << row.name << " is there twice";
    EXPECT_TRUE(row.meaning.ends_with('.')) << row.name;
    EXPECT_TRUE(row.cure.ends_with('.')) << row.name;
  }
}

TEST(Error, KeepsWhatWasTriedInFrontOfWhatHappened) {
  Error error(ErrorCode::Timeout, "no answer within 5s");
  error = std::move(error).while_doing("asking for memory");
  EXPECT_EQ(error.message(), "asking for memory: no answer within 5s");
  EXPECT_EQ(error.describe(), "timeout: asking for memory: no answer within 5s");
  EXPECT_STREQ(error.what(), error.message().c_str());
  EXPECT_EQ(error.origin(), Origin::Dependency);
  EXPECT_EQ(error.retry(), Retry::Later);
}

TEST(Error, OfASystemCallNamesTheCallAndTheKernelsReason) {
  errno = ENOENT;
  Error const error = system_error("open", "/nowhere");
  EXPECT_EQ(error.code(), ErrorCode::SystemCall);
  EXPECT_EQ(error.errno_value(), ENOENT);
  EXPECT_EQ(error.message(), "open /nowhere: No such file or directory");
  EXPECT_EQ(system_error_from(EPERM, "bpf", "").message(), "bpf: Operation not permitted");
  EXPECT_EQ(system_error_from(123456, "x", "").message(), "x: unknown error");
}

Result<int> half(int number) {
  if (number % 2 != 0) return fail(ErrorCode::UsageInvalid, "odd");
  return number / 2;
}

Result<int> quarter(int number) {
  TRY_ASSIGN(int const once, half(number));
  TRY_ASSIGN(int const twice, half(once));
  return twice;
}

Status is_even(int number) {
  TRY(half(number));
  return {};
}

TEST(Result, IsPassedOnByTry) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error().message(), "odd");
  EXPECT_TRUE(is_even(2));
  EXPECT_FALSE(is_even(3));
}

TEST(Result, IsThrownOnTheWayIntoCoroutines) {
  EXPECT_EQ(or_throw(half(4)), 2);
  EXPECT_THROW(or_throw(half(3)), Error);
  EXPECT_NO_THROW(or_throw(is_even(2)));
}

TEST(Check, EndsTheProcessAndSaysWhatItSaw) {
  AETHER_CHECK(true, "never formatted {}", 1);
  EXPECT_DEATH(AETHER_CHECK(1 + 1 == 3), "check failed: 1 \\+ 1 == 3");
  EXPECT_DEATH(AETHER_CHECK(false, "lane {} of {}", 2, 1), "lane 2 of 1");
}

TEST(Ids, AreOrderedHashedAndFormatted) {
  RevisionId const first{1};
  RevisionId const second{2};
  EXPECT_LT(first, second);
  EXPECT_NE(std::hash<RevisionId>()(first), std::hash<RevisionId>()(second));
  EXPECT_EQ(fmt::format("r{}", second), "r2");
  static_assert(!std::is_convertible_v<RevisionId, InstanceId>);
}

}  // namespace
}  // namespace aether
