// SPDX-License-Identifier: Apache-2.0
#include "os/requirements.h"

#include <gtest/gtest.h>

namespace aether::os {
namespace {

TEST(Requirements, AreMetWhereTheTestsRun) {
  Status const met = check_requirements();
  EXPECT_TRUE(met) << met.error().describe();
}

}  // namespace
}  // namespace aether::os
