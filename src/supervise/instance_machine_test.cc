// SPDX-License-Identifier: Apache-2.0
#include "supervise/instance_machine.h"

#include <signal.h>

#include <random>

#include <gtest/gtest.h>

#include "supervise/instance_story.h"

namespace aether::supervise {
namespace {

using namespace std::chrono_literals;
using namespace story;
using Phase = InstanceMachine::Phase;
using Watch = InstanceMachine::Watch;

InstanceMachine machine(config::Ready ready, bool listeners = true) {
  return {{.ready = std::move(ready), .has_listeners = listeners, .ready_timeout = 60s}, kLaunched};
}

TEST(InstanceMachine, BecomesReadyByWhatItsConfigurationBelieves) {
  struct Row {
    config::Ready ready;
    bool notify, sdk, listening, probe;
  };
  std::vector<Row> const table = {
      {config::ReadyAuto{}, true, true, true, false},
      {config::ReadyNotify{}, true, true, false, false},
      {config::ReadyListening{}, false, false, true, false},
      {config::ReadyHttp{"/"}, false, false, false, true},
      {config::ReadyTcp{"127.0.0.1:1"}, false, false, false, true},
      {config::ReadyCommand{{"true"}}, false, false, false, true},
      {config::ReadyDelay{5s}, false, false, false, false},
  };
  for (std::size_t i = 0; i < table.size(); ++i) {
    Row const& row = table[i];
    auto const ready_after = [&](InstanceInput const& input) {
      InstanceMachine m = machine(row.ready);
      (void)m.step(input, kLaunched + 1s);
      return m.is_ready();
    };
    EXPECT_EQ(ready_after(said("READY=1")), row.notify) << i;
    EXPECT_EQ(ready_after(input::SdkReady{}), row.sdk) << i;
    EXPECT_EQ(ready_after(input::Accepting{}), row.listening) << i;
    EXPECT_EQ(ready_after(input::ProbePassed{}), row.probe) << i;
  }
}

TEST(InstanceMachine, IsReadyAtOnceWhenNothingCanShowIt) {
  InstanceMachine m = machine(config::ReadyAuto{}, false);
  EXPECT_EQ(m.due(), kLaunched);
  auto const actions = m.step(input::Tick{}, kLaunched);
  ASSERT_NE(told<event::BecameReady>(actions), nullptr);
  EXPECT_EQ(told<event::BecameReady>(actions)->how, ReadyBy::Started);
}

TEST(InstanceMachine, IsReadyAfterItsDelayAndNotBefore) {
  InstanceMachine m = machine(config::ReadyDelay{5s});
  EXPECT_TRUE(m.step(input::Tick{}, kLaunched + 4s).empty());
  EXPECT_TRUE(m.step(said("EXTEND_TIMEOUT_USEC=60000000"), kLaunched + 4s).empty());
  EXPECT_EQ(told<event::BecameReady>(m.step(input::Tick{}, kLaunched + 5s))->how, ReadyBy::Delay);
}

TEST(InstanceMachine, TellsReadyOnce) {
  InstanceMachine m = machine(config::ReadyAuto{});
  EXPECT_NE(told<event::BecameReady>(m.step(said("READY=1"), kLaunched + 1s)), nullptr);
  EXPECT_EQ(told<event::BecameReady>(m.step(said("READY=1"), kLaunched + 2s)), nullptr);
  EXPECT_EQ(told<event::BecameReady>(m.step(input::Accepting{}, kLaunched + 2s)), nullptr);
}

TEST(InstanceMachine, TakesReloadingBeforeTheFirstReady) {
  InstanceMachine m = machine(config::ReadyNotify{});
  EXPECT_NE(told<event::Reloading>(m.step(said("RELOADING=1"), kLaunched)), nullptr);
  EXPECT_NE(told<event::BecameReady>(m.step(said("READY=1\nMAINPID=77"), kLaunched)), nullptr);
}

TEST(InstanceMachine, KillsWhatIsNotReadyInTime) {
  InstanceMachine m = machine(config::ReadyNotify{});
  EXPECT_EQ(m.due(), kLaunched + 60s);
  auto const actions = m.step(input::Tick{}, kLaunched + 60s);
  EXPECT_NE(told<event::ReadyTimedOut>(actions), nullptr);
  EXPECT_NE(find<perform::KillTree>(actions), nullptr);
  auto const end = m.step(input::MainEnded{.status = {.signal = SIGKILL}}, kLaunched + 61s);
  EXPECT_EQ(told<event::Exited>(end)->cause, EndCause::ReadyTimeout);
  EXPECT_FALSE(told<event::Exited>(end)->was_ready);
}

TEST(InstanceMachine, GivesMoreTimeToWhoAsksWithinLimits) {
  InstanceMachine m = machine(config::ReadyNotify{});
  (void)m.step(said("EXTEND_TIMEOUT_USEC=90000000"), kLaunched + 1s);
  EXPECT_EQ(m.due(), kLaunched + 91s);
  (void)m.step(said("EXTEND_TIMEOUT_USEC=1000000"), kLaunched + 2s);
  EXPECT_EQ(m.due(), kLaunched + 91s);  // Never shorter.
  (void)m.step(said("EXTEND_TIMEOUT_USEC=31536000000000"), kLaunched + 2s);
  EXPECT_EQ(m.due(), kLaunched + 60s + kExtensionMax);
}

TEST(InstanceMachine, StopsPolitelyThenKills) {
  InstanceMachine m = machine(config::ReadyAuto{});
  (void)m.step(said("READY=1"), kLaunched);
  auto const asked = m.step(input::StopAsked{SIGTERM, 10s}, kLaunched + 5s);
  EXPECT_EQ(find<perform::SignalMain>(asked)->signal, SIGTERM);
  EXPECT_EQ(m.due(), kLaunched + 15s);
  EXPECT_NE(find<perform::KillTree>(m.step(input::Tick{}, kLaunched + 15s)), nullptr);
  EXPECT_EQ(m.phase(), Phase::Killing);
  auto const end = m.step(input::MainEnded{.status = {.signal = SIGKILL}}, kLaunched + 16s);
  EXPECT_EQ(told<event::Exited>(end)->cause, EndCause::Asked);
  EXPECT_NE(told<event::TreeEnded>(m.step(input::TreeEmpty{}, kLaunched + 16s)), nullptr);
  EXPECT_EQ(m.phase(), Phase::Gone);
}

TEST(InstanceMachine, PassesTheStopSignalOnToWhatAWrapperLeaves) {
  InstanceMachine m = machine(config::ReadyAuto{});
  (void)m.step(input::StopAsked{SIGTERM, 10s}, kLaunched);
  auto const end =
      m.step(input::MainEnded{.status = {.signal = SIGTERM}, .others_live = true}, kLaunched);
  EXPECT_EQ(find<perform::SignalTree>(end)->signal, SIGTERM);
  EXPECT_EQ(find<perform::KillTree>(end), nullptr);
  EXPECT_EQ(m.due(), kLaunched + 10s);
  EXPECT_NE(find<perform::KillTree>(m.step(input::Tick{}, kLaunched + 10s)), nullptr);
  EXPECT_EQ(m.due(), std::nullopt);
}

TEST(InstanceMachine, KillsWhatACrashLeaves) {
  InstanceMachine m = machine(config::ReadyAuto{});
  (void)m.step(said("READY=1"), kLaunched + 1s);
  auto const end =
      m.step(input::MainEnded{.status = {.signal = SIGSEGV}, .others_live = true}, kLaunched + 9s);
  EXPECT_NE(find<perform::KillTree>(end), nullptr);
  event::Exited const& exited = *told<event::Exited>(end);
  EXPECT_EQ(exited.cause, EndCause::Itself);
  EXPECT_TRUE(exited.was_ready);
  EXPECT_TRUE(exited.left_processes);
  EXPECT_EQ(exited.lived, 9s);
  EXPECT_EQ(exited.ready_for, 8s);
}

TEST(InstanceMachine, HurriesWhenAskedToStopAgain) {
  InstanceMachine m = machine(config::ReadyAuto{});
  (void)m.step(input::StopAsked{SIGTERM, 10s}, kLaunched);
  (void)m.step(input::StopAsked{SIGTERM, 60s}, kLaunched);
  EXPECT_EQ(m.due(), kLaunched + 10s);
  (void)m.step(input::StopAsked{SIGTERM, 1s}, kLaunched);
  EXPECT_EQ(m.due(), kLaunched + 1s);
  EXPECT_NE(find<perform::KillTree>(m.step(input::KillAsked{}, kLaunched)), nullptr);
}

TEST(InstanceMachine, EndsWhatIsSilentForItsWatchdogInterval) {
  InstanceMachine m({.ready = config::ReadyNotify{}, .ready_timeout = 60s, .watchdog = 2s},
                    kLaunched);
  EXPECT_EQ(m.due(), kLaunched + 60s);  // Not before it is ready.
  (void)m.step(said("READY=1"), kLaunched + 1s);
  EXPECT_EQ(m.due(), kLaunched + 3s);
  (void)m.step(said("WATCHDOG=1"), kLaunched + 2s);
  EXPECT_EQ(m.due(), kLaunched + 4s);
  (void)m.step(said("WATCHDOG_USEC=5000000"), kLaunched + 3s);
  EXPECT_EQ(m.due(), kLaunched + 8s);
  auto const actions = m.step(input::Tick{}, kLaunched + 8s);
  EXPECT_EQ(told<event::WatchdogMissed>(actions)->silent, 5s);
  EXPECT_NE(find<perform::KillTree>(actions), nullptr);
}

TEST(InstanceMachine, EndsWhatAsksForItsWatchdog) {
  InstanceMachine m({.ready = config::ReadyNotify{}, .ready_timeout = 60s, .watchdog = 2s},
                    kLaunched);
  (void)m.step(said("READY=1"), kLaunched);
  EXPECT_NE(find<perform::KillTree>(m.step(said("WATCHDOG=trigger"), kLaunched)), nullptr);
}

TEST(InstanceMachine, SetsNoWatchdogThatWasNotConfigured) {
  InstanceMachine m = machine(config::ReadyNotify{});
  (void)m.step(said("READY=1\nWATCHDOG_USEC=1"), kLaunched);
  EXPECT_EQ(m.due(), std::nullopt);
}

TEST(InstanceMachine, SignalsTheNewMainProcessOfOneThatIsStopping) {
  InstanceMachine m = machine(config::ReadyAuto{});
  EXPECT_EQ(find<perform::AdoptMain>(m.step(said("MAINPID=77"), kLaunched))->pid, 77);
  (void)m.step(input::StopAsked{SIGQUIT, 10s}, kLaunched);
  auto const actions = m.step(input::MainAdopted{.from = 5, .to = 77}, kLaunched);
  EXPECT_EQ(told<event::MainChanged>(actions)->to, 77);
  EXPECT_EQ(find<perform::SignalMain>(actions)->signal, SIGQUIT);
}

/// Whatever happens in whatever order: it ends, ends once, and is never left without a deadline
/// while somebody waits for its end.
TEST(InstanceMachine, AlwaysEndsAndEndsOnce) {
  std::mt19937 random(4711);
  std::vector<InstanceInput> const inputs = {said("READY=1"),
                                             said("STOPPING=1"),
                                             said("MAINPID=7"),
                                             said("EXTEND_TIMEOUT_USEC=1000000"),
                                             said("WATCHDOG=1"),
                                             said("STATUS=x"),
                                             input::SdkReady{},
                                             input::Accepting{},
                                             input::ProbePassed{},
                                             input::MainAdopted{5, 7},
                                             input::StopAsked{SIGTERM, 3s},
                                             input::KillAsked{},
                                             input::Tick{}};
  for (int round = 0; round < 20'000; ++round) {
    InstanceMachine m({.ready = config::ReadyAuto{},
                       .has_listeners = random() % 2 == 0,
                       .ready_timeout = 10s,
                       .watchdog = 2s},
                      kLaunched);
    Instant now = kLaunched;
    int exits = 0;
    int ends = 0;
    auto const step = [&](InstanceInput const& input) {
      auto const actions = m.step(input, now);
      exits += told<event::Exited>(actions) != nullptr ? 1 : 0;
      ends += told<event::TreeEnded>(actions) != nullptr ? 1 : 0;
    };
    for (int i = 0; i < 12; ++i) {
      now += std::chrono::milliseconds(random() % 1500);
      step(inputs[random() % inputs.size()]);
      if (m.phase() == Phase::Stopping || m.phase() == Phase::Starting) {
        ASSERT_TRUE(m.due());
      }
    }
    step(input::StopAsked{SIGTERM, 1s});
    now += 2h;
    step(input::Tick{});
    ASSERT_EQ(m.phase(), Phase::Killing);
    step(input::MainEnded{.status = {.signal = SIGKILL}, .others_live = random() % 2 == 0});
    step(input::TreeEmpty{});
    step(input::TreeEmpty{});
    step(said("READY=1"));
    ASSERT_EQ(m.phase(), Phase::Gone);
    ASSERT_EQ(exits, 1);
    ASSERT_EQ(ends, 1);
  }
}

}  // namespace
}  // namespace aether::supervise
