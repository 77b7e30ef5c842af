// SPDX-License-Identifier: Apache-2.0
#include "functions/proxy_body.h"

#include <string>

#include <gtest/gtest.h>

namespace aether::functions {
namespace {

/// How many bytes of this chunked body were well, in pieces of that size; -1 if it is bad.
int taken_in_pieces(std::string const& bytes, std::size_t piece, std::string* plain = nullptr) {
  BodyMeter meter({.kind = BodyKind::Chunked});
  std::size_t taken = 0;
  while (taken < bytes.size() && !meter.done() && !meter.bad())
    taken += meter.take(std::string_view(bytes).substr(taken, piece), plain);
  if (meter.bad()) return -1;
  EXPECT_TRUE(meter.done()) << bytes;
  return static_cast<int>(taken);
}

TEST(ProxyBody, InChunksEndsWithItsLastOneHoweverItComesIn) {
  std::string const body = "5;a=b\r\nhello\r\n00B\r\n, big world\r\n0\r\nA: b\r\nC:\r\n\r\n";
  std::string const more = body + "GET /";
  for (std::size_t piece = 1; piece <= more.size(); ++piece) {
    std::string plain;
    EXPECT_EQ(taken_in_pieces(more, piece, &plain), static_cast<int>(body.size()));
    EXPECT_EQ(plain, "hello, big world");
  }
}

TEST(ProxyBody, WithChunksThatTwoReadersCouldReadDifferentlyIsBad) {
  for (std::string const bad :
       {"x\r\n", "\r\n", " 5\r\nhello\r\n", "-1\r\n", "+5\r\nhello", "0x5\r\nhello", "5 \r\nhello",
        "5\nhello\r\n", "5\r\nhelloX", "5\r\nhello\n", "5\rhello", "5;a\nb\r\n", "5;a\rb",
        "1000000000000000\r\n", "0\r\n\n", "0\r\n A: b\r\n\r\n", "0\r\nA b\r\n\r\n",
        "0\r\nA: b\n\r\n", "0\r\nA: b\rc\r\n"}) {
    EXPECT_EQ(taken_in_pieces(bad, 1), -1) << bad;
    EXPECT_EQ(taken_in_pieces(bad, bad.size()), -1) << bad;
  }
}

TEST(ProxyBody, HasLimitsForWhatFramesIt) {
  EXPECT_EQ(taken_in_pieces("5;" + std::string(kChunkLineBytesMax, 'a'), 4096), -1);
  EXPECT_EQ(taken_in_pieces("0\r\nA: " + std::string(kTrailerBytesMax, 'a'), 4096), -1);
}

TEST(ProxyBody, OfKnownLengthEndsThere) {
  BodyMeter meter({.kind = BodyKind::Length, .length = 7});
  EXPECT_EQ(meter.take("12345"), 5U);
  EXPECT_FALSE(meter.done());
  EXPECT_EQ(meter.take("67890"), 2U);
  EXPECT_TRUE(meter.done());
  EXPECT_EQ(meter.take("more"), 0U);
  EXPECT_TRUE(BodyMeter({.kind = BodyKind::Length}).done());
}

TEST(ProxyBody, UntilTheCloseNeverEndsByItself) {
  BodyMeter meter({.kind = BodyKind::UntilClose});
  EXPECT_EQ(meter.take("12345"), 5U);
  EXPECT_FALSE(meter.done());
}

}  // namespace
}  // namespace aether::functions
