// SPDX-License-Identifier: Apache-2.0
#include "base/pattern.h"

#include <string>

#include <gtest/gtest.h>

namespace aether {
namespace {

bool found(std::string pattern, std::string_view text) {
  auto const compiled = Pattern::compile(std::move(pattern));
  EXPECT_TRUE(compiled.has_value()) << compiled.error().message();
  return compiled && compiled->found_in(text);
}

TEST(Pattern, IsFoundAnywhereInALine) {
  EXPECT_TRUE(found("listening on", "12:00 listening on 8080"));
  EXPECT_TRUE(found("^(ready|up)$", "ready"));
  EXPECT_TRUE(found("port [0-9]+", "at port 80."));
  EXPECT_TRUE(found("[]{}]", "a { b"));
  EXPECT_TRUE(found("\\{done\\}", "{done}"));
  EXPECT_FALSE(found("^ready$", "not ready"));
  EXPECT_FALSE(found("ready", ""));
}

TEST(Pattern, LooksAtAnyBytesAndAtNoMoreThanItsLimit) {
  EXPECT_TRUE(found("b", std::string_view("a\0b", 3)));
  EXPECT_FALSE(found("end", std::string(kPatternTextBytesMax, 'x') + "end"));
}

TEST(Pattern, RefusesWhatWouldTakeUnboundedTimeAndWhatIsNone) {
  for (std::string const& text :
       {std::string(), std::string(kPatternBytesMax + 1, 'a'), std::string("a{1,200}"),
        std::string("(a)\\1"), std::string("(a"), std::string("[a"), std::string("a\0b", 3)}) {
    EXPECT_FALSE(Pattern::compile(text).has_value()) << text;
  }
}

TEST(Pattern, NestedRepetitionsDoNotTakeForever) {
  EXPECT_FALSE(found("^(a+)+$", std::string(kPatternTextBytesMax - 1, 'a') + "b"));
}

}  // namespace
}  // namespace aether
