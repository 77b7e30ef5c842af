// SPDX-License-Identifier: Apache-2.0
#include "api/json_text.h"

#include <cmath>
#include <limits>

#include <boost/json.hpp>
#include <gtest/gtest.h>

namespace aether::api {
namespace {

namespace json = boost::json;

TEST(JsonText, WritesNumbersPlainly) {
  EXPECT_EQ(json_text(json::array{1.5, 0.0, 1e3, 0.001, 12.034, -2.5, 1700000000.25}),
            "[1.5,0,1000,0.001,12.034,-2.5,1700000000.25]");
  EXPECT_EQ(json_text(json::array{1, -7, 18446744073709551615U}), "[1,-7,18446744073709551615]");
}

TEST(JsonText, HasNoNumberThatJsonDoesNotKnow) {
  EXPECT_EQ(json_text(json::array{std::numeric_limits<double>::infinity(), std::nan("")}),
            "[null,null]");
}

TEST(JsonText, IsReadBackAsTheSameValue) {
  json::value const value{{"a", {1.25, nullptr, true, "x\"\n\x01é"}},
                          {"\"key\"", json::object{}},
                          {"list", json::array{}},
                          {"small", 1e-300},
                          {"large", 1e300}};
  EXPECT_EQ(json::parse(json_text(value)), value);
}

}  // namespace
}  // namespace aether::api
