// SPDX-License-Identifier: Apache-2.0
#include "relay/retirement_machine.h"

#include <set>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

namespace aether::relay {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Stage = Retirement::Stage;
using Stop = RetirementPolicy::Stop;
using Words = std::vector<std::string>;

Words words(RetirementActions const& actions) {
  Words told;
  for (RetirementAction const action : actions) told.emplace_back(action_name(action));
  return told;
}

class RetirementMachine : public testing::Test {
 protected:
  Words begin(Farewell farewell = Farewell::Drain) {
    RetirementActions actions;
    retirement_ = begin_retirement(farewell, clock_.now(), policy_, actions);
    began_ = clock_.now();
    return words(actions);
  }
  Words tell(RetirementEvent event) { return words(step(retirement_, event, clock_.now())); }
  /// Turns the clock to the time at which Tick is wanted.
  Words too_late() {
    clock_.advance(retirement_.due - clock_.now());
    return tell(RetirementEvent::Tick);
  }
  [[nodiscard]] Duration elapsed() const { return clock_.now() - began_; }

  RetirementPolicy policy_;
  Retirement retirement_;
  ManualClock clock_;
  Instant began_;
};

TEST_F(RetirementMachine, StopsOnceTheQueueIsEmptyAndKillsAtTheDeadline) {
  EXPECT_EQ(begin(), Words{"watch-queue"});
  clock_.advance(milliseconds(5));
  EXPECT_EQ(tell(RetirementEvent::QueueEmpty), Words{"stop"});
  EXPECT_EQ(too_late(), Words{"kill"});
  EXPECT_EQ(elapsed(), policy_.drain_limit);
  EXPECT_EQ(tell(RetirementEvent::Exited), Words{"retire-lane"});
  EXPECT_TRUE(is_over(retirement_));
}

TEST_F(RetirementMachine, StopsEvenIfTheQueueNeverEmpties) {
  begin();
  EXPECT_EQ(too_late(), Words{"stop"});
  EXPECT_EQ(elapsed(), policy_.empty_queue_limit);
}

TEST_F(RetirementMachine, WaitsForConnectionsToEndBeforeItStops) {
  policy_.stop = Stop::WhenIdle;
  begin();
  EXPECT_EQ(tell(RetirementEvent::QueueEmpty), Words{"watch-use"});
  clock_.advance(seconds(20));
  EXPECT_EQ(tell(RetirementEvent::Unused), Words{"stop"});
  EXPECT_EQ(too_late(), Words{"kill"});
  EXPECT_EQ(elapsed(), policy_.drain_limit);
}

TEST_F(RetirementMachine, StopsAtTheDeadlineExactlyIfConnectionsStayAndKillsAStopTimeoutLater) {
  policy_.stop = Stop::WhenIdle;
  begin();
  tell(RetirementEvent::QueueEmpty);
  EXPECT_EQ(too_late(), Words{"stop"});
  EXPECT_EQ(elapsed(), policy_.drain_limit);
  EXPECT_EQ(too_late(), Words{"kill"});
  EXPECT_EQ(elapsed(), policy_.drain_limit + policy_.stop_limit);
}

TEST_F(RetirementMachine, DoesNotEvenLookAtConnectionsIfItStopsAtTheDeadline) {
  policy_.stop = Stop::AtDeadline;
  begin();
  EXPECT_EQ(tell(RetirementEvent::QueueEmpty), Words{});
  EXPECT_EQ(tell(RetirementEvent::QueueEmpty), Words{});
  EXPECT_EQ(too_late(), Words{"stop"});
  EXPECT_EQ(elapsed(), policy_.drain_limit);
}

TEST_F(RetirementMachine, LeavesAStopTimeoutAfterALateStopEvenIfTheDeadlineIsNear) {
  policy_.stop = Stop::WhenIdle;
  begin();
  tell(RetirementEvent::QueueEmpty);
  clock_.advance(policy_.drain_limit - seconds(1));
  tell(RetirementEvent::Unused);
  EXPECT_EQ(retirement_.due - clock_.now(), policy_.stop_limit);
}

TEST_F(RetirementMachine, GivesAProgramThatIsInTheWayItsStopTimeoutAndNoMore) {
  policy_.stop = Stop::AtDeadline;
  begin();
  tell(RetirementEvent::QueueEmpty);
  EXPECT_EQ(tell(RetirementEvent::Hurry), Words{"stop"});
  EXPECT_EQ(tell(RetirementEvent::Hurry), Words{});
  EXPECT_EQ(too_late(), Words{"kill"});
  EXPECT_EQ(elapsed(), policy_.stop_limit);
}

TEST_F(RetirementMachine, KillsAProgramInTheWayAtOnceIfItHadItsStopTimeoutAlready) {
  begin();
  tell(RetirementEvent::QueueEmpty);
  clock_.advance(policy_.stop_limit + seconds(1));
  EXPECT_EQ(tell(RetirementEvent::Hurry), Words{});
  EXPECT_LE(retirement_.due, clock_.now());
  EXPECT_EQ(tell(RetirementEvent::Tick), Words{"kill"});
}

TEST_F(RetirementMachine, KillsAtOnceWhatMustNotRunAMomentLonger) {
  EXPECT_EQ(begin(Farewell::AtOnce), Words{"kill"});
  EXPECT_EQ(tell(RetirementEvent::Exited), Words{"retire-lane"});
}

TEST_F(RetirementMachine, TakesTheLaneEvenFromAProgramThatCannotBeKilled) {
  begin(Farewell::AtOnce);
  EXPECT_EQ(too_late(), Words{"retire-lane"});
  EXPECT_EQ(tell(RetirementEvent::Exited), Words{});
}

TEST_F(RetirementMachine, StopsAndKillsAtOnceWithoutTimeToDrain) {
  policy_.drain_limit = Duration::zero();
  begin();
  EXPECT_EQ(too_late(), Words{"stop"});
  EXPECT_EQ(too_late(), Words{"kill"});
  EXPECT_EQ(elapsed(), Duration::zero());
}

TEST(RetirementCap, CountsWhoIsInTheWayOfOneMore) {
  EXPECT_EQ(in_the_way(1, 0, 4), 0U);
  EXPECT_EQ(in_the_way(3, 2, 4), 0U);
  EXPECT_EQ(in_the_way(4, 3, 4), 1U);
  EXPECT_EQ(in_the_way(6, 5, 4), 3U);
  EXPECT_EQ(in_the_way(2, 1, 2), 1U);
  // The serving one is never in the way.
  EXPECT_EQ(in_the_way(2, 0, 2), 0U);
}

/// Every state that a retirement can reach, with every event in each.
class RetirementExplorer {
 public:
  explicit RetirementExplorer(RetirementPolicy policy) : policy_(policy) {
    for (Farewell const farewell : {Farewell::Drain, Farewell::AtOnce}) {
      RetirementActions actions;
      Node node{begin_retirement(farewell, Instant(), policy, actions), Instant(), 0, 0, 0};
      count(node, actions);
      nodes_.push_back(node);
    }
  }
  void run() {
    for (std::size_t i = 0; i < nodes_.size() && !testing::Test::HasFailure(); ++i) {
      Node const node = nodes_[i];
      if (is_over(node.state)) continue;
      ends_in_silence(node);
      for (auto const event :
           {RetirementEvent::QueueEmpty, RetirementEvent::Unused, RetirementEvent::Exited,
            RetirementEvent::Hurry, RetirementEvent::Tick}) {
        for (Duration const wait : {Duration::zero(), Duration(milliseconds(700))})
          take(node, event, wait);
        take(node, event, node.state.due - node.now);
      }
    }
  }
  [[nodiscard]] std::set<Stage> const& stages() const { return stages_; }

 private:
  struct Node {
    Retirement state;
    Instant now;
    int stops = 0;
    int kills = 0;
    int lanes = 0;
  };
  static void count(Node& node, RetirementActions const& actions) {
    for (RetirementAction const action : actions) {
      if (action == RetirementAction::Stop) ++node.stops;
      if (action == RetirementAction::Kill) ++node.kills;
      if (action == RetirementAction::RetireLane) ++node.lanes;
    }
  }

  void take(Node node, RetirementEvent event, Duration wait) {
    if (wait < Duration::zero() || node.now + wait > node.state.due) return;
    node.now += wait;
    count(node, step(node.state, event, node.now));
    EXPECT_LE(node.stops, 1);
    EXPECT_LE(node.kills, 1);
    EXPECT_EQ(node.lanes, is_over(node.state) ? 1 : 0) << "the lane goes at the end, and once";
    Instant const last =
        node.state.deadline + policy_.stop_limit + policy_.kill_limit + policy_.empty_queue_limit;
    EXPECT_LE(node.state.due, last) << "no deadline moves away";
    bool const stopped_early = node.stops > 0 && event != RetirementEvent::Hurry &&
                               policy_.stop == Stop::AtDeadline && !node.state.hurried;
    if (stopped_early) EXPECT_GE(node.now, node.state.deadline);
    stages_.insert(node.state.stage);
    auto const key =
        std::tuple(node.state.stage, node.state.due - node.now, node.state.deadline - node.now,
                   node.state.stopped_at - node.now, node.state.hurried, node.stops, node.kills);
    if (node.state.deadline < node.now - seconds(60)) return;
    if (seen_.insert(key).second) nodes_.push_back(node);
  }

  static void ends_in_silence(Node node) {
    for (int steps = 0; steps < 5 && !is_over(node.state); ++steps) {
      node.now = std::max(node.now, node.state.due);
      count(node, step(node.state, RetirementEvent::Tick, node.now));
    }
    EXPECT_TRUE(is_over(node.state)) << "never ends in silence";
  }

  RetirementPolicy policy_;
  std::vector<Node> nodes_;
  std::set<std::tuple<Stage, Duration, Duration, Duration, bool, int, int>> seen_;
  std::set<Stage> stages_;
};

TEST(RetirementMachineExhaustive, EndsEveryRevisionOnceAndInTimeUnderEveryPolicy) {
  std::set<Stage> stages;
  for (Stop const stop : {Stop::AfterQueue, Stop::WhenIdle, Stop::AtDeadline}) {
    for (Duration const drain :
         {Duration::zero(), Duration(milliseconds(1400)), Duration(milliseconds(2800))}) {
      RetirementExplorer explorer({.stop = stop,
                                   .empty_queue_limit = milliseconds(700),
                                   .drain_limit = drain,
                                   .stop_limit = milliseconds(1400),
                                   .kill_limit = milliseconds(700)});
      explorer.run();
      stages.insert(explorer.stages().begin(), explorer.stages().end());
    }
  }
  EXPECT_EQ(stages.size(), 5U) << "a stage was never reached";
}

}  // namespace
}  // namespace aether::relay
