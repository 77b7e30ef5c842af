// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace aether::log {
namespace {

class Log : public testing::Test {
 protected:
  void SetUp() override {
    set_sink([this](Level level, std::string_view line) {
      lines_.push_back(std::to_string(static_cast<int>(level)) + " " + std::string(line));
    });
  }
  void TearDown() override {
    set_sink({});
    set_level(Level::Info);
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, GivesEachLineWithItsLevelToTheSink) {
  info("service {} revision {}", "web", 2);
  error("gone");
  EXPECT_EQ(lines_, (std::vector<std::string>{"1 service web revision 2", "3 gone"}));
}

TEST_F(Log, DropsLinesBelowItsLevel) {
  debug("a");
  set_level(Level::Error);
  warn("b");
  error("c");
  set_level(Level::Off);
  error("d");
  set_level(Level::Debug);
  debug("e");
  EXPECT_EQ(lines_, (std::vector<std::string>{"3 c", "0 e"}));
}

TEST_F(Log, WritesToStderrWithoutASink) {
  set_sink({});
  testing::internal::CaptureStderr();
  warn("disk {}% full", 93);
  std::string const written = testing::internal::GetCapturedStderr();
  EXPECT_NE(written.find("disk 93% full"), std::string::npos) << written;
  EXPECT_TRUE(lines_.empty());
}

TEST_F(Log, GivesWholeLinesToAnOutputThatWantsThem) {
  set_sink({});
  std::string taken;
  bool wants = true;
  set_output([&](std::string_view bytes) {
    if (wants) taken += bytes;
    return wants;
  });
  testing::internal::CaptureStderr();
  info("first");
  wants = false;
  warn("second");
  set_output({});
  std::string const written = testing::internal::GetCapturedStderr();
  EXPECT_NE(taken.find(" first\n"), std::string::npos) << taken;
  EXPECT_EQ(taken.find("second"), std::string::npos) << taken;
  EXPECT_NE(written.find(" second\n"), std::string::npos) << written;
  EXPECT_EQ(written.find("first"), std::string::npos) << written;
}

}  // namespace
}  // namespace aether::log
