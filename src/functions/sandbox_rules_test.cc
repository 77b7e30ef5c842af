// SPDX-License-Identifier: Apache-2.0
#include "functions/sandbox_rules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aether::functions {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string rules_of(config::Sandbox sandbox, bool pid_namespace = false) {
  config::Function function;
  function.sandbox = sandbox;
  function.pid_namespace = pid_namespace;
  return fmt::format("{}", fmt::join(sandbox_rules(function), "\n"));
}

TEST(SandboxRules, AreSaidForEachLevel) {
  EXPECT_THAT(rules_of(config::Sandbox::None), IsEmpty());
  std::string const basic = rules_of(config::Sandbox::Basic);
  EXPECT_THAT(basic, HasSubstr("no new privileges"));
  EXPECT_THAT(basic, HasSubstr("ptrace"));
  EXPECT_THAT(basic, Not(HasSubstr("files")));
  std::string const strict = rules_of(config::Sandbox::Strict);
  EXPECT_THAT(strict, HasSubstr("ptrace"));
  EXPECT_THAT(strict, HasSubstr("files"));
}

}  // namespace
}  // namespace aether::functions
