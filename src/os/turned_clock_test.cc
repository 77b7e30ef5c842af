// SPDX-License-Identifier: Apache-2.0
#include "os/turned_clock.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string_view>

#include <gtest/gtest.h>

namespace aether::os {
namespace {

using std::chrono::hours;

class FileTurnedClockTest : public ::testing::Test {
 protected:
  void say(std::string_view text) { std::ofstream(file_) << text; }
  void TearDown() override { std::filesystem::remove(file_); }

  std::string file_ = ::testing::TempDir() + "turned_clock." + std::to_string(::getpid());
  FileTurnedClock clock_{file_};
};

TEST_F(FileTurnedClockTest, GoesAheadAndBackAsItsFileSaysAndStaysWhileThatIsRewritten) {
  EXPECT_EQ(clock_.turned(), Duration::zero());
  say("7d\n");
  EXPECT_EQ(clock_.turned(), hours(7 * 24));
  say("");
  EXPECT_EQ(clock_.turned(), hours(7 * 24));
  say("tomorrow");
  EXPECT_EQ(clock_.turned(), hours(7 * 24));
  say("-1h");
  EXPECT_EQ(clock_.turned(), -hours(1));
  say("+2h");
  EXPECT_EQ(clock_.turned(), hours(2));
  std::filesystem::remove(file_);
  EXPECT_EQ(clock_.turned(), Duration::zero());
}

TEST_F(FileTurnedClockTest, TurnsTheWallAndNoDeadline) {
  say("7d");
  SystemClock const system;
  EXPECT_GT(clock_.wall(), system.wall() + hours(6 * 24));
  EXPECT_LT(clock_.now(), system.now() + hours(1));
}

}  // namespace
}  // namespace aether::os
