// SPDX-License-Identifier: Apache-2.0
#include "relay/retirement_machine.h"

#include <algorithm>

namespace aether::relay {
namespace {

using Stage = Retirement::Stage;
using Stop = RetirementPolicy::Stop;
using Action = RetirementAction;

/// Each move leaves the retirement where it stands then and returns what is to be done.
struct Moves {
  Retirement& r;
  Instant now;

  RetirementActions stop() {
    r.stage = Stage::Ending;
    r.stopped_at = now;
    // Told at once, it has the whole drain for what it has; told late, its stop_timeout.
    bool const told_at_once = r.policy.stop == Stop::AfterQueue;
    r.due = told_at_once ? r.deadline : std::max(r.deadline, now + r.policy.stop_limit);
    if (r.hurried) hurry_ending();
    return {Action::Stop};
  }
  /// It has had its stop signal for as long as any program may take to follow it.
  void hurry_ending() { r.due = std::min(r.due, r.stopped_at + r.policy.stop_limit); }

  RetirementActions kill() {
    r.stage = Stage::Killing;
    r.due = now + r.policy.kill_limit;
    return {Action::Kill};
  }
  RetirementActions queue_done() {
    bool const waits = r.policy.stop != Stop::AfterQueue && now < r.deadline;
    if (!waits) return stop();
    r.stage = Stage::Waiting;
    r.due = r.deadline;
    if (r.policy.stop == Stop::AtDeadline) return {};
    return {Action::WatchUse};
  }
  RetirementActions unused() {
    bool const wanted = r.stage == Stage::Waiting && r.policy.stop == Stop::WhenIdle;
    return wanted ? stop() : RetirementActions{};
  }
  RetirementActions over() {
    r.stage = Stage::Over;
    return {Action::RetireLane};
  }

  RetirementActions tick() {
    if (now < r.due) return {};
    switch (r.stage) {
      case Stage::EmptyingQueue:
        return queue_done();
      case Stage::Waiting:
        return stop();
      case Stage::Ending:
        return kill();
      case Stage::Killing:
        // Not even SIGKILL ends it: its lane is taken from it.
        return over();
      case Stage::Over:
        return {};
    }
    return {};
  }

  RetirementActions hurry() {
    r.hurried = true;
    switch (r.stage) {
      case Stage::EmptyingQueue:
      case Stage::Waiting:
        return stop();
      case Stage::Ending:
        hurry_ending();
        return {};
      case Stage::Killing:
      case Stage::Over:
        return {};
    }
    return {};
  }
};

}  // namespace

Retirement begin_retirement(Farewell farewell, Instant now, RetirementPolicy const& policy,
                            RetirementActions& actions) {
  Retirement retirement{.stage = Stage::EmptyingQueue,
                        .began = now,
                        .deadline = now + policy.drain_limit,
                        .due = now + std::min(policy.empty_queue_limit, policy.drain_limit),
                        .stopped_at = {},
                        .policy = policy};
  if (farewell == Farewell::AtOnce) {
    actions = Moves{retirement, now}.kill();
  } else {
    actions = {Action::WatchQueue};
  }
  return retirement;
}

RetirementActions step(Retirement& retirement, RetirementEvent event, Instant now) {
  Moves moves{retirement, now};
  if (is_over(retirement)) return {};
  switch (event) {
    case RetirementEvent::QueueEmpty:
      return retirement.stage == Stage::EmptyingQueue ? moves.queue_done() : RetirementActions{};
    case RetirementEvent::Unused:
      return moves.unused();
    case RetirementEvent::Exited:
      return moves.over();
    case RetirementEvent::Hurry:
      return moves.hurry();
    case RetirementEvent::Tick:
      return moves.tick();
  }
  return {};
}

std::string_view stage_name(Retirement::Stage stage) {
  switch (stage) {
    case Stage::EmptyingQueue:
      return "emptying-queue";
    case Stage::Waiting:
      return "waiting";
    case Stage::Ending:
      return "ending";
    case Stage::Killing:
      return "killing";
    case Stage::Over:
      return "over";
  }
  return "unknown";
}

std::string_view action_name(RetirementAction action) {
  switch (action) {
    case Action::WatchQueue:
      return "watch-queue";
    case Action::WatchUse:
      return "watch-use";
    case Action::Stop:
      return "stop";
    case Action::Kill:
      return "kill";
    case Action::RetireLane:
      return "retire-lane";
  }
  return "unknown";
}

std::size_t in_the_way(std::size_t living, std::size_t retiring, std::size_t max) {
  std::size_t const excess = living + 1 > max ? living + 1 - max : 0;
  return std::min(excess, retiring);
}

}  // namespace aether::relay
