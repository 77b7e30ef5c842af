// SPDX-License-Identifier: Apache-2.0
#include "tools/outcome.h"

#include <gtest/gtest.h>

namespace aether::tools {
namespace {

TEST(OutcomeWords, AreReadAsTheyAreWritten) {
  for (Policy const each : {Policy::Once, Policy::Read, Policy::Keyed, Policy::Lookup}) {
    Result<Policy> const parsed = parse_policy(text_of(each));
    ASSERT_TRUE(parsed) << text_of(each);
    EXPECT_EQ(*parsed, each);
  }
  for (EffectOutcome const each : {EffectOutcome::Ok, EffectOutcome::Error,
                                   EffectOutcome::NotExecuted, EffectOutcome::Unknown}) {
    Result<EffectOutcome> const parsed = parse_effect_outcome(text_of(each));
    ASSERT_TRUE(parsed) << text_of(each);
    EXPECT_EQ(*parsed, each);
  }
}

TEST(OutcomeWords, AreListedForWhoeverMistakesOne) {
  Result<Policy> const policy = parse_policy("twice");
  ASSERT_FALSE(policy);
  EXPECT_EQ(policy.error().code(), ErrorCode::RequestInvalid);
  EXPECT_EQ(policy.error().message(),
            "'twice' is not a policy: write one of once, read, keyed, lookup");
  Result<EffectOutcome> const outcome = parse_effect_outcome("maybe");
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().message(),
            "'maybe' is not an outcome of a call: write one of ok, error, not_executed, unknown");
}

}  // namespace
}  // namespace aether::tools
