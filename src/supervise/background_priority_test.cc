// SPDX-License-Identifier: Apache-2.0
#include "supervise/background_priority.h"

#include <sched.h>
#include <signal.h>

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
using Share = BackgroundPatience::Share;

constexpr Instant kStarted{1h};
constexpr BackgroundPatience kGivingWay{.since = kStarted, .time_max = 30s};

TEST(BackgroundPatience, LastsWhileTheStartGetsTheProcessorItAsksFor) {
  EXPECT_FALSE(kGivingWay.is_over(kStarted + 20s, Share{.ran = 19s, .waited = 1s}));
  EXPECT_FALSE(kGivingWay.is_over(kStarted + 150ms, Share{.ran = 1ms, .waited = 149ms}));
}

TEST(BackgroundPatience, IsOverWhenTheStartWaitsLongerThanItRuns) {
  EXPECT_TRUE(kGivingWay.is_over(kStarted + 300ms, Share{.ran = 10ms, .waited = 290ms}));
  EXPECT_TRUE(kGivingWay.is_over(kStarted + 21s, Share{.ran = 10s, .waited = 11s}));
}

TEST(BackgroundPatience, CountsOnlyWhatCameAfterItBegan) {
  BackgroundPatience later = kGivingWay;
  later.before = Share{.ran = 1s, .waited = 5s};
  EXPECT_FALSE(later.is_over(kStarted + 1s, Share{.ran = 2s, .waited = 6s}));
  EXPECT_TRUE(later.is_over(kStarted + 1s, Share{.ran = 2s, .waited = 7s}));
}

TEST(BackgroundPatience, IsOverAtItsTimeEvenIfTheKernelCountsNothing) {
  EXPECT_FALSE(kGivingWay.is_over(kStarted + 29s, std::nullopt));
  EXPECT_TRUE(kGivingWay.is_over(kStarted + 30s, std::nullopt));
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
  [[nodiscard]] int policy() const { return ::sched_getscheduler(child_->pid()); }
  /// What decides how it competes, in one text.
  [[nodiscard]] std::string standing() const {
    auto const group = os::read_file(fmt::format("/proc/{}/autogroup", pid()), 256);
    return fmt::format("policy {}, {}", policy(), group ? *group : "no autogroup");
  }

 private:
  std::optional<os::Child> child_;
};

BackgroundPriority lower(Sleeper const& sleeper, CpuGroup const* group = nullptr) {
  std::array const tree{sleeper.pid()};
  return BackgroundPriority::lower(tree, group);
}

/// An unprivileged change of an autogroup is taken ten times a second (kernel/sched/autogroup.c).
bool restored(BackgroundPriority& priority, pid_t pid) {
  std::array const tree{pid};
  for (int attempt = 0; attempt < 500; ++attempt) {
    if (priority.restore(tree)) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

TEST(BackgroundPriority, GivesBackWhatItTook) {
  Sleeper const sleeper;
  std::string const before = sleeper.standing();
  BackgroundPriority priority = lower(sleeper);
  EXPECT_EQ(priority.is_low(), sleeper.standing() != before);
  EXPECT_TRUE(restored(priority, sleeper.pid()));
  EXPECT_FALSE(priority.is_low());
  EXPECT_EQ(sleeper.standing(), before);
}

TEST(BackgroundPriority, TakesOnlyWhatCanBeGivenBack) {
  Sleeper const sleeper;
  BackgroundPriority priority = lower(sleeper);
  int const lowered = sleeper.policy();
  EXPECT_TRUE(restored(priority, sleeper.pid()));
  EXPECT_TRUE(lowered == SCHED_IDLE || lowered == SCHED_OTHER) << lowered;
  EXPECT_EQ(sleeper.policy(), SCHED_OTHER);
}

TEST(BackgroundPriority, LeavesAPolicyThatTheProgramChoseItself) {
  Sleeper const sleeper;
  BackgroundPriority priority = lower(sleeper);
  if (sleeper.policy() != SCHED_IDLE) GTEST_SKIP() << "no right to go back, so nothing was moved";
  sched_param const none{};
  ASSERT_EQ(::sched_setscheduler(sleeper.pid(), SCHED_BATCH, &none), 0);
  EXPECT_TRUE(restored(priority, sleeper.pid()));
  EXPECT_EQ(sleeper.policy(), SCHED_BATCH);
}

TEST(BackgroundPriority, MakesTheTreesOwnGroupIdleAndNoLongerThanAsked) {
  Sleeper const sleeper;
  auto const name = fmt::format("aether-test-{}", ::getpid());
  auto const limits = LimitSet::create({}, nullptr, name);
  auto const group = CpuGroup::find(nullptr, limits, name);
  if (!group) GTEST_SKIP() << "no cpu control group that can be idle may be made here";
  std::array const tree{sleeper.pid()};
  put_into(group->to_join(), tree);
  std::string const idle = group->to_join() + "/cpu.idle";
  BackgroundPriority priority = lower(sleeper, &*group);
  EXPECT_TRUE(priority.is_low());
  EXPECT_EQ(os::read_file(idle, 16).value_or(""), "1\n");
  EXPECT_TRUE(restored(priority, sleeper.pid()));
  EXPECT_EQ(os::read_file(idle, 16).value_or(""), "0\n");
}

TEST(BackgroundPriority, OfAProcessThatIsGoneIsNothing) {
  std::array<pid_t, 1> const gone{0x3fffffff};
  EXPECT_FALSE(BackgroundPriority::lower(gone, nullptr).is_low());
}

}  // namespace
}  // namespace aether::supervise
