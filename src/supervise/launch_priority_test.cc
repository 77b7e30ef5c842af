// SPDX-License-Identifier: Apache-2.0
#include "supervise/launch_priority.h"

#include <signal.h>
#include <sys/resource.h>

#include <array>
#include <chrono>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "os/file.h"
#include "os/process.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using Share = LaunchPatience::Share;

constexpr Instant kStarted{1h};
constexpr LaunchPatience kPatience{.launched = kStarted, .time_max = 30s};

TEST(LaunchPatience, LastsWhileTheStartGetsTheProcessorItAsksFor) {
  EXPECT_FALSE(kPatience.is_over(kStarted + 20s, Share{.ran = 19s, .waited = 1s}));
  EXPECT_FALSE(kPatience.is_over(kStarted + 150ms, Share{.ran = 1ms, .waited = 149ms}));
}

TEST(LaunchPatience, IsOverWhenTheStartWaitsLongerThanItRuns) {
  EXPECT_TRUE(kPatience.is_over(kStarted + 300ms, Share{.ran = 10ms, .waited = 290ms}));
  EXPECT_TRUE(kPatience.is_over(kStarted + 21s, Share{.ran = 10s, .waited = 11s}));
}

TEST(LaunchPatience, IsOverAtItsTimeEvenIfTheKernelCountsNothing) {
  EXPECT_FALSE(kPatience.is_over(kStarted + 29s, std::nullopt));
  EXPECT_TRUE(kPatience.is_over(kStarted + 30s, std::nullopt));
}

/// A process with a session of its own that only sleeps.
class Sleeper {
 public:
  Sleeper() {
    os::SpawnSpec spec{.argv = {"/bin/sleep", "600"}, .new_session = true};
    auto child = os::spawn(spec);
    EXPECT_TRUE(child) << child.error().describe();
    child_.emplace(std::move(*child));
  }
  ~Sleeper() {
    (void)child_->signal(SIGKILL);
    (void)child_->reap_within(10s);
  }
  [[nodiscard]] pid_t pid() const { return child_->pid(); }
  [[nodiscard]] int nice() const {
    return ::getpriority(PRIO_PROCESS, static_cast<id_t>(child_->pid()));
  }
  /// What decides how it competes, in one text.
  [[nodiscard]] std::string standing() const {
    auto const group = os::read_file(fmt::format("/proc/{}/autogroup", pid()), 256);
    return fmt::format("nice {}, {}", nice(), group ? *group : "no autogroup");
  }

 private:
  std::optional<os::Child> child_;
};

/// An unprivileged change of an autogroup is taken ten times a second (kernel/sched/autogroup.c).
bool restored(LaunchPriority& priority, pid_t pid) {
  std::array const tree{pid};
  for (int attempt = 0; attempt < 500; ++attempt) {
    if (priority.restore(tree)) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

TEST(LaunchPriority, GivesBackWhatItTook) {
  Sleeper const sleeper;
  std::string const before = sleeper.standing();
  LaunchPriority priority = LaunchPriority::lower(sleeper.pid(), "");
  EXPECT_EQ(priority.is_low(), sleeper.standing() != before);
  EXPECT_TRUE(restored(priority, sleeper.pid()));
  EXPECT_FALSE(priority.is_low());
  EXPECT_EQ(sleeper.standing(), before);
}

TEST(LaunchPriority, TakesOnlyWhatCanBeGivenBack) {
  Sleeper const sleeper;
  LaunchPriority priority = LaunchPriority::lower(sleeper.pid(), "");
  int const lowered = sleeper.nice();
  EXPECT_TRUE(restored(priority, sleeper.pid()));
  EXPECT_TRUE(lowered == 19 || lowered == 0) << lowered;
  EXPECT_EQ(sleeper.nice(), 0);
}

TEST(LaunchPriority, LeavesAPriorityThatTheProgramChoseItself) {
  Sleeper const sleeper;
  LaunchPriority priority = LaunchPriority::lower(sleeper.pid(), "");
  if (sleeper.nice() != 19) return;  // Without the right to lower a nice value nothing was moved.
  ASSERT_EQ(::setpriority(PRIO_PROCESS, static_cast<id_t>(sleeper.pid()), 5), 0);
  EXPECT_TRUE(restored(priority, sleeper.pid()));
  EXPECT_EQ(sleeper.nice(), 5);
}

TEST(LaunchPriority, OfAProcessThatIsGoneIsNothing) {
  EXPECT_FALSE(LaunchPriority::lower(0x3fffffff, "/nonexistent").is_low());
}

}  // namespace
}  // namespace aether::supervise
