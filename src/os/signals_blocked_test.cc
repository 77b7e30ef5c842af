// SPDX-License-Identifier: Apache-2.0
#include "os/signals_blocked.h"

#include <thread>

#include <gtest/gtest.h>

namespace aether::os {
namespace {

bool blocks_term() {
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
  return ::sigismember(&now, SIGTERM) == 1;
}

TEST(SignalsBlocked, AreOfTheThreadThatIsBegunAndNotOfItsMakerAfterwards) {
  ASSERT_FALSE(blocks_term());
  bool in_thread = false;
  {
    SignalsBlocked const blocked;
    EXPECT_TRUE(blocks_term());
    std::thread([&] { in_thread = blocks_term(); }).join();
  }
  EXPECT_TRUE(in_thread);
  EXPECT_FALSE(blocks_term());
}

}  // namespace
}  // namespace aether::os
