// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace aether {
namespace {

TEST(ParseSize, ReadsDecimalAndBinaryUnits) {
  std::pair<char const*, std::uint64_t> const cases[] = {
      {"0", 0},
      {"4096", 4096},
      {"512B", 512},
      {"1KB", 1000},
      {"1KiB", 1024},
      {"64 KiB", 65536},
      {"128MB", 128'000'000},
      {"128mb", 128'000'000},
      {"1GiB", 1ULL << 30},
      {"512Mi", 512ULL << 20},
      {"1.5GB", 1'500'000'000},
      {"0.1KB", 100},
      {"0.3MB", 300'000},
      {".5KiB", 512},
      {"2TiB", 2ULL << 40},
      {"18446744073709551615", UINT64_MAX},
  };
  for (auto const& [text, expected] : cases) {
    Result<std::uint64_t> const parsed = parse_size(text);
    ASSERT_TRUE(parsed) << parsed.error().message();
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(ParseSize, SaysWhatIsWrong) {
  std::pair<char const*, char const*> const cases[] = {
      {"", "begin with a number"},   {"MB", "begin with a number"},
      {"-1", "begin with a number"}, {".", "begin with a number"},
      {"1M", "say MB or MiB"},       {"1g", "say gB or giB"},
      {"1XB", "no unit \"XB\""},     {"1  KB", "no unit \" KB\""},
      {"1MB ", "no unit"},           {"18446744073709551616", "16 EiB"},
      {"99999999TiB", "16 EiB"},
  };
  for (auto const& [text, expected] : cases) {
    Result<std::uint64_t> const parsed = parse_size(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), ErrorCode::UsageInvalid);
    EXPECT_NE(parsed.error().message().find(expected), std::string::npos)
        << text << " gave: " << parsed.error().message();
  }
}

TEST(HumanizeBytes, GivesThreeDigitsWithABinaryUnit) {
  EXPECT_EQ(humanize_bytes(0), "0 B");
  EXPECT_EQ(humanize_bytes(1023), "1023 B");
  EXPECT_EQ(humanize_bytes(1024), "1.00 KiB");
  EXPECT_EQ(humanize_bytes(50'000), "48.8 KiB");
  EXPECT_EQ(humanize_bytes(1ULL << 30), "1.00 GiB");
  EXPECT_EQ(humanize_bytes((1ULL << 20) - 1), "1.00 MiB");
  EXPECT_EQ(humanize_bytes(UINT64_MAX), "16.0 EiB");
}

}  // namespace
}  // namespace aether
