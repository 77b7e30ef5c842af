// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include <gtest/gtest.h>

namespace aether {
namespace {

std::string canonical(std::string_view text) {
  auto const value = parse_json(text, "test");
  return value ? canonical_json(*value) : value.error().message();
}

std::string number(std::uint64_t bits) {
  return canonical_json(std::bit_cast<double>(bits));
}

TEST(CanonicalJson, WritesTheSamplesOfRfc8785) {
  EXPECT_EQ(canonical(R"({"numbers": [333333333.33333329, 1E30, 4.50, 2e-3,
      0.000000000000000000000000001], "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]})"),
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],"
            "\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}");
}

TEST(CanonicalJson, OrdersMembersByUtf16CodeUnits) {
  EXPECT_EQ(canonical("{\"\\u20ac\":1,\"\\r\":2,\"\\ufb33\":3,\"1\":4,\"\\ud83d\\ude00\":5,"
                      "\"\\u0080\":6,\"\\u00f6\":7}"),
            "{\"\\r\":2,\"1\":4,\"\xC2\x80\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\xEF\xAC\xB3\":3}");
  EXPECT_EQ(canonical(R"({"ab":1,"a":2,"":3})"), R"({"":3,"a":2,"ab":1})");
}

// Appendix B of RFC 8785.
TEST(CanonicalJson, WritesNumbersAsEcmaScriptDoes) {
  EXPECT_EQ(number(0x0000000000000000), "0");
  EXPECT_EQ(number(0x8000000000000000), "0");
  EXPECT_EQ(number(0x0000000000000001), "5e-324");
  EXPECT_EQ(number(0x7fefffffffffffff), "1.7976931348623157e+308");
  EXPECT_EQ(number(0x4340000000000000), "9007199254740992");
  EXPECT_EQ(number(0x4430000000000000), "295147905179352830000");
  EXPECT_EQ(number(0x44b52d02c7e14af5), "9.999999999999997e+22");
  EXPECT_EQ(number(0x444b1ae4d6e2ef4e), "999999999999999700000");
  EXPECT_EQ(number(0x444b1ae4d6e2ef50), "1e+21");
  EXPECT_EQ(number(0x3eb0c6f7a0b5ed8d), "0.000001");
  EXPECT_EQ(number(0x3eb0c6f7a0b5ed8c), "9.999999999999997e-7");
  EXPECT_EQ(number(0x41b3de4355555555), "333333333.3333333");
  EXPECT_EQ(number(0xbecbf647612f3696), "-0.0000033333333333333333");
  EXPECT_EQ(canonical_json(std::numeric_limits<double>::infinity()), "null");
}

TEST(CanonicalJson, WritesIntegersThatAreNotDoublesAsTheNearestDouble) {
  EXPECT_EQ(canonical("[9007199254740992, 9007199254740993, 18446744073709551615, -5]"),
            "[9007199254740992,9007199254740992,18446744073709552000,-5]");
}

TEST(ParseJson, ReadsEachNumberAsItWasWritten) {
  for (auto const* text : {"0.1", "333333333.3333333", "5e-324", "2.2250738585072011e-308",
                           "1.7976931348623157e+308", "9007199254740993.5", "123456789.12345678"})
    EXPECT_EQ(parse_json(text, "test")->get_double(), std::strtod(text, nullptr)) << text;
}

TEST(ParseJson, NamesThePlaceOfTheMistake) {
  EXPECT_EQ(canonical("{\"a\": 1,\n  oops}").substr(0, 18), "test:2:3: not JSON");
  EXPECT_EQ(canonical("[1] 2"), "test:1:5: not JSON: something follows the value");
  EXPECT_EQ(canonical("").substr(0, 18), "test:1:1: not JSON");
  EXPECT_EQ(canonical(std::string(100, '[')).substr(0, 6), "test:1");
  EXPECT_EQ(canonical("[1e400]").substr(0, 18), "test:1:7: not JSON");
}

}  // namespace
}  // namespace aether
