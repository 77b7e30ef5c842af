// SPDX-License-Identifier: Apache-2.0
// What the rarer words on the notify socket, and a main process that changes, do to an instance.
#include <signal.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "supervise/instance_machine.h"
#include "supervise/instance_story.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using namespace story;
using ::testing::HasSubstr;
using Phase = InstanceMachine::Phase;

InstancePolicy notify_policy() {
  return {.ready = config::ReadyNotify{}, .ready_timeout = 60s, .stop_timeout = 5s};
}

InstancePolicy daemon_policy() {
  return {.ready = config::ReadyAuto{}, .ready_timeout = 60s, .has_pid_file = true};
}

// Edge: B5
TEST(InstanceMachine, TellsAReloadOnlyAfterItsFirstReady) {
  InstanceMachine m(notify_policy(), kLaunched);
  (void)m.step(said("RELOADING=1\nMONOTONIC_USEC=1"), kLaunched);
  EXPECT_FALSE(m.is_reloading());
  auto const first = m.step(said("READY=1"), kLaunched + 1s);
  EXPECT_NE(told<event::BecameReady>(first), nullptr);
  EXPECT_EQ(told<event::Reloaded>(first), nullptr);
  (void)m.step(said("RELOADING=1"), kLaunched + 2s);
  (void)m.step(said("RELOADING=1"), kLaunched + 3s);
  EXPECT_TRUE(m.is_reloading());
  auto const again = m.step(said("READY=1"), kLaunched + 4s);
  EXPECT_NE(told<event::Reloaded>(again), nullptr);
  EXPECT_EQ(told<event::BecameReady>(again), nullptr);
  EXPECT_FALSE(m.is_reloading());
}

TEST(InstanceMachine, BecomesReadyByItsDescriptorOrItsOutput) {
  InstanceMachine by_fd({.ready = config::ReadyFd{5}}, kLaunched);
  EXPECT_TRUE(by_fd.step(said("READY=1"), kLaunched).empty());
  EXPECT_EQ(told<event::BecameReady>(by_fd.step(input::FdNewline{}, kLaunched))->how, ReadyBy::Fd);
  InstanceMachine by_log({.ready = config::ReadyLog{"up"}}, kLaunched);
  EXPECT_TRUE(by_log.step(input::FdNewline{}, kLaunched).empty());
  EXPECT_EQ(told<event::BecameReady>(by_log.step(input::LineSeen{}, kLaunched))->how, ReadyBy::Log);
}

TEST(InstanceMachine, GivesOneThatSaysItStopsItsStopTimeoutAndNoMore) {
  InstancePolicy policy = notify_policy();
  policy.watchdog = 2s;
  InstanceMachine m(policy, kLaunched);
  (void)m.step(said("READY=1"), kLaunched);
  EXPECT_NE(told<event::Stopping>(m.step(said("STOPPING=1"), kLaunched + 1s)), nullptr);
  EXPECT_EQ(m.due(), kLaunched + 6s) << "its watchdog is silent while it stops";
  auto const extended = m.step(said("EXTEND_TIMEOUT_USEC=9000000"), kLaunched + 2s);
  EXPECT_EQ(told<event::Extended>(extended)->by, 9s);
  (void)m.step(said("STOPPING=1"), kLaunched + 3s);
  EXPECT_EQ(m.due(), kLaunched + 11s) << "saying it again gains nothing";
  EXPECT_NE(find<perform::KillTree>(m.step(input::Tick{}, kLaunched + 11s)), nullptr);
  auto const end = m.step(input::MainEnded{.status = {.signal = SIGKILL}}, kLaunched + 12s);
  EXPECT_EQ(told<event::Exited>(end)->cause, EndCause::Itself);
}

TEST(InstanceMachine, TellsHowMuchTimeAStartWasGiven) {
  InstanceMachine m(notify_policy(), kLaunched);
  auto const more = m.step(said("EXTEND_TIMEOUT_USEC=90000000"), kLaunched + 1s);
  EXPECT_EQ(told<event::Extended>(more)->by, 90s);
  auto const none = m.step(said("EXTEND_TIMEOUT_USEC=1000000"), kLaunched + 2s);
  EXPECT_EQ(told<event::Extended>(none), nullptr);
}

TEST(InstanceMachine, RepeatsWhatAProgramSaidOfItsFailure) {
  InstanceMachine m(notify_policy(), kLaunched);
  (void)m.step(said("ERRNO=2\nBUSERROR=org.x.Y"), kLaunched);
  (void)m.step(said("STATUS=sorry\nERRNO=0"), kLaunched);
  auto const end = m.step(input::MainEnded{.status = {.code = 1}}, kLaunched);
  EXPECT_THAT(told<event::Exited>(end)->reported, HasSubstr("ERRNO=2 (No such file"));
  EXPECT_THAT(told<event::Exited>(end)->reported, HasSubstr("BUSERROR=org.x.Y"));
}

TEST(InstanceMachine, EndsWhatAsksForItsWatchdogBeforeItIsReadyToo) {
  InstanceMachine m(notify_policy(), kLaunched);
  auto const actions = m.step(said("WATCHDOG=trigger"), kLaunched);
  EXPECT_NE(told<event::WatchdogMissed>(actions), nullptr);
  EXPECT_NE(find<perform::KillTree>(actions), nullptr);
}

// Edge: B7
TEST(InstanceMachine, HearsWhomItsConfigurationOrTheProgramItselfNames) {
  using config::NotifyAccess;
  for (auto const [access, any, main] :
       {std::tuple{NotifyAccess::All, true, true}, std::tuple{NotifyAccess::Main, false, true},
        std::tuple{NotifyAccess::None, false, false}}) {
    InstancePolicy policy = notify_policy();
    policy.access = access;
    InstanceMachine const m(policy, kLaunched);
    EXPECT_EQ(m.hears(false), any);
    EXPECT_EQ(m.hears(true), main);
  }
  InstanceMachine m(notify_policy(), kLaunched);
  (void)m.step(said("NOTIFYACCESS=main"), kLaunched);
  EXPECT_FALSE(m.hears(false));
}

// Edge: G4
TEST(InstanceMachine, FollowsAProgramThatGoesToTheBackground) {
  InstanceMachine m(daemon_policy(), kLaunched);
  EXPECT_EQ(m.due(), kLaunched + 60s) << "that its launcher runs shows nothing";
  auto const gone = m.step(input::MainEnded{.status = {}, .others_live = true}, kLaunched + 1s);
  EXPECT_TRUE(gone.empty());
  EXPECT_TRUE(m.awaits_successor());
  EXPECT_FALSE(m.exit_status());
  auto const found = m.step(input::MainAdopted{.from = 5, .to = 6}, kLaunched + 2s);
  EXPECT_EQ(told<event::BecameReady>(found)->how, ReadyBy::PidFile);
  EXPECT_EQ(told<event::MainChanged>(found)->to, 6);
  EXPECT_FALSE(m.awaits_successor());
  EXPECT_EQ(m.due(), std::nullopt);
}

TEST(InstanceMachine, EndsAProgramWhoseBackgroundProcessIsNotFoundInTime) {
  InstanceMachine m(daemon_policy(), kLaunched);
  (void)m.step(input::MainEnded{.status = {}, .others_live = true}, kLaunched + 1s);
  auto const late = m.step(input::Tick{}, kLaunched + 60s);
  EXPECT_NE(told<event::ReadyTimedOut>(late), nullptr);
  EXPECT_NE(find<perform::KillTree>(late), nullptr);
  EXPECT_EQ(told<event::Exited>(late)->cause, EndCause::ReadyTimeout);
  EXPECT_NE(told<event::TreeEnded>(m.step(input::TreeEmpty{}, kLaunched + 61s)), nullptr);
}

TEST(InstanceMachine, TakesTheEndOfABackgroundProcessThatWasNeverFoundForTheEnd) {
  InstanceMachine m(daemon_policy(), kLaunched);
  (void)m.step(input::MainEnded{.status = {}, .others_live = true}, kLaunched + 1s);
  auto const empty = m.step(input::TreeEmpty{}, kLaunched + 2s);
  EXPECT_NE(told<event::Exited>(empty), nullptr);
  EXPECT_NE(find<perform::AwaitTree>(empty), nullptr);
  EXPECT_NE(told<event::TreeEnded>(m.step(input::TreeEmpty{}, kLaunched + 2s)), nullptr);
}

// Edge: G3
TEST(InstanceMachine, WaitsForTheSuccessorOfAMainProcessThatWasReady) {
  InstanceMachine m(daemon_policy(), kLaunched);
  (void)m.step(input::MainAdopted{.from = 5, .to = 5}, kLaunched);
  ASSERT_TRUE(m.is_ready());
  (void)m.step(input::MainEnded{.status = {}, .others_live = true}, kLaunched + 100s);
  EXPECT_EQ(m.due(), kLaunched + 100s + kSuccessorWait);
  auto const stop = m.step(input::StopAsked{SIGQUIT, 3s}, kLaunched + 101s);
  EXPECT_EQ(find<perform::SignalTree>(stop)->signal, SIGQUIT);
  EXPECT_EQ(told<event::Exited>(stop)->cause, EndCause::Asked);
  EXPECT_EQ(m.due(), kLaunched + 104s);
}

TEST(InstanceMachine, TakesACrashForACrashInSpiteOfAPidFile) {
  InstanceMachine m(daemon_policy(), kLaunched);
  (void)m.step(input::MainAdopted{.from = 5, .to = 6}, kLaunched);
  auto const end =
      m.step(input::MainEnded{.status = {.signal = SIGSEGV}, .others_live = true}, kLaunched + 9s);
  EXPECT_NE(told<event::Exited>(end), nullptr);
}

}  // namespace
}  // namespace aether::supervise
