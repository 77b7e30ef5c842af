// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <string>

#include <gtest/gtest.h>

namespace aether::fault {
namespace {

class Fault : public testing::Test {
 protected:
  void TearDown() override { EXPECT_TRUE(configure("")); }
};

TEST_F(Fault, PointsHaveDistinctDottedNamesAndAMeaning) {
  std::set<std::string_view> names;
  for (PointInfo const& point : points()) {
    EXPECT_NE(point.text.find('.'), std::string_view::npos) << point.text;
    EXPECT_FALSE(point.meaning.empty());
    EXPECT_TRUE(names.insert(point.text).second) << point.text << " is there twice";
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(Point::Count_));
}

TEST_F(Fault, DoesNothingAndCountsNothingUnlessConfigured) {
  EXPECT_TRUE(pass(Point::SrpSend));
  EXPECT_EQ(hits(Point::SrpSend), 0U);
}

TEST_F(Fault, FailsTheNthTimeAndOnlyThen) {
  ASSERT_TRUE(configure("srp.send:2:eio,swap.soak:1:eio"));
  EXPECT_TRUE(pass(Point::SrpSend));
  Status const second = pass(Point::SrpSend);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::SystemCall);
  EXPECT_EQ(second.error().errno_value(), EIO);
  EXPECT_NE(second.error().message().find("srp.send"), std::string::npos);
  EXPECT_TRUE(pass(Point::SrpSend));
  EXPECT_FALSE(pass(Point::SwapSoak));
  EXPECT_TRUE(pass(Point::SwapDrain));
  EXPECT_EQ(hits(Point::SrpSend), 3U);
}

TEST_F(Fault, RefusesWhatItDoesNotKnowAndListsWhatItDoes) {
  for (char const* value : {"srp.send", "srp.send:1", "srp.send:0:eio", "srp.send:x:eio",
                            "srp.send:1:explode", "no.such:1:eio", ",", "srp.send:1:eio,,"}) {
    EXPECT_FALSE(configure(value)) << value;
  }
  EXPECT_NE(configure("no.such:1:eio").error().message().find("swap.deliver"), std::string::npos);
  EXPECT_NE(configure("srp.send:1:explode").error().message().find("kill, stop, eio"),
            std::string::npos);
}

// Runs the point in a child and gives the status waitpid has for it.
int status_of_child_passing(char const* value) {
  pid_t const child = ::fork();
  if (child == 0) {
    if (!configure(value)) ::_exit(1);
    bool const passed = pass(Point::SwapDeliver).has_value();
    ::_exit(passed ? 0 : 2);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, WUNTRACED), child);
  if (WIFSTOPPED(status)) {
    ::kill(child, SIGKILL);
    int ignored = 0;
    ::waitpid(child, &ignored, 0);
  }
  return status;
}

TEST_F(Fault, KillsTheProcess) {
  int const status = status_of_child_passing("swap.deliver:1:kill");
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST_F(Fault, StopsTheProcess) {
  int const status = status_of_child_passing("swap.deliver:1:stop");
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
}

TEST_F(Fault, LetsOtherPassesThrough) {
  EXPECT_EQ(status_of_child_passing("swap.deliver:2:kill"), 0);
}

}  // namespace
}  // namespace aether::fault
