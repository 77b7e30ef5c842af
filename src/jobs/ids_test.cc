// SPDX-License-Identifier: Apache-2.0
#include "jobs/ids.h"

#include <set>
#include <string>

#include <gtest/gtest.h>

#include "jobs/policy.h"

namespace aether::jobs {
namespace {

TEST(RunIds, AreUuidsOfVersionSevenInTheOrderOfTheirTimes) {
  WallTime const at(std::chrono::milliseconds(0x0193A6C17E4B));
  RunId const id = make_run_id(at, std::string(8, '\xFF'));
  EXPECT_EQ(id.text, "0193a6c1-7e4b-7000-bfff-ffffffffffff");
  EXPECT_EQ(make_run_id(at, std::string(8, '\0')).text, "0193a6c1-7e4b-7000-8000-000000000000");
  EXPECT_EQ(make_run_id(at + std::chrono::nanoseconds(999'999), std::string(8, '\0')).text,
            "0193a6c1-7e4b-7fff-8000-000000000000");
  for (auto const later : {std::chrono::nanoseconds(1'000), std::chrono::nanoseconds(1'000'000)})
    EXPECT_LT(id, make_run_id(at + later, std::string(8, '\0')));
  ASSERT_TRUE(parse_run_id(id.text));
  EXPECT_EQ(*parse_run_id(id.text), id);
}

TEST(RunIds, AreReadStrictly) {
  for (std::string_view const text :
       {"", "0193a6c1-7e4b-7fff-bfff-fffffffffff", "0193A6C1-7e4b-7fff-bfff-ffffffffffff",
        "0193a6c17-e4b-7fff-bfff-ffffffffffff", "0193a6c1-7e4b-7fff-bfff-ffffffffffff0",
        "0193a6c1-7e4b-7fff-bfff-fffffffffffg"}) {
    Result<RunId> const id = parse_run_id(text);
    ASSERT_FALSE(id) << text;
    EXPECT_EQ(id.error().code(), ErrorCode::RequestInvalid);
  }
}

TEST(EffectIds, DependOnThePlaceAndNothingElse) {
  RunId const run{"0193a6c1-7e4b-7d3c-9f00-2b6d1c5e8a47"};
  std::string const id = effect_id(run, "fetch", "http", 1);
  // printf '36:0193a6c1-7e4b-7d3c-9f00-2b6d1c5e8a475:fetch4:http1:1' | openssl dgst -sha256 -binary
  EXPECT_EQ(id.size(), 43U);
  EXPECT_EQ(id, content_hash("36:" + run.text + "5:fetch4:http1:1"));
  std::set<std::string> const others = {id,
                                        effect_id({"another"}, "fetch", "http", 1),
                                        effect_id(run, "fetch/", "http", 1),
                                        effect_id(run, "fetchh", "ttp", 1),
                                        effect_id(run, "fetch", "http", 2),
                                        effect_id(run, "fetch", "http1", 1)};
  EXPECT_EQ(others.size(), 6U);
}

TEST(ContentHash, IsUnpaddedBase64UrlOfSha256) {
  EXPECT_EQ(content_hash(""), "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
}

template <class E>
void expect_words(std::size_t count) {
  std::set<std::string_view> words;
  for (std::size_t at = 0; at < count; ++at) {
    E const value = static_cast<E>(at);
    words.insert(text_of(value));
    Result<E> const parsed = parse_word<E>(text_of(value));
    ASSERT_TRUE(parsed);
    EXPECT_EQ(*parsed, value);
  }
  EXPECT_EQ(words.size(), count);
  Result<E> const wrong = parse_word<E>("nonsense");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code(), ErrorCode::RequestInvalid);
  for (std::string_view const word : words) {
    EXPECT_TRUE(wrong.error().message().contains(word)) << wrong.error().message();
  }
}

TEST(Words, AreReadAsTheyAreWrittenAndAMistakeListsThem) {
  expect_words<RunOutcome>(4);
  expect_words<StepKind>(11);
  expect_words<StepOutcome>(5);
  expect_words<SettledBy>(5);
  expect_words<WaitKind>(4);
  expect_words<WaitEnd>(5);
  expect_words<Control>(6);
  expect_words<RunStatus>(9);
}

}  // namespace
}  // namespace aether::jobs
