// SPDX-License-Identifier: Apache-2.0
// RetirementMachine: decides how one revision that no longer serves comes to its end. Each retiring
// revision has one of its own, apart from the swaps, which go on meanwhile. Pure: no clock, no I/O,
// no randomness, no logging. The service performs the actions and reports what happened.
//
//   EmptyingQueue -> (Waiting) -> Ending -> Killing -> Over
//
// A revision that must not run a moment longer begins in Killing. Every state but Over has a
// deadline, and silence alone leads to Over.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/time.h"

namespace aether::relay {

struct RetirementPolicy {
  /// When the stop signal is sent.
  enum class Stop : std::uint8_t { AfterQueue, WhenIdle, AtDeadline };
  Stop stop = Stop::AfterQueue;
  Duration empty_queue_limit = std::chrono::seconds(1);  ///< For it to accept what waits.
  Duration drain_limit = std::chrono::seconds(30);       ///< From the beginning to the deadline.
  Duration stop_limit = std::chrono::seconds(10);        ///< From the stop signal to SIGKILL.
  Duration kill_limit = std::chrono::seconds(10);        ///< For a killed tree to be gone.
  bool operator==(RetirementPolicy const&) const = default;
};

struct Retirement {
  enum class Stage : std::uint8_t {
    EmptyingQueue,  ///< It accepts what waits in its queues.
    Waiting,        ///< For its connections to end, or for the deadline.
    Ending,         ///< It has its stop signal.
    Killing,
    Over,
  };
  Stage stage = Stage::EmptyingQueue;
  Instant began;
  Instant deadline;    ///< Of the drain, as it was promised at the beginning.
  Instant due;         ///< When Tick is wanted.
  Instant stopped_at;  ///< When the stop signal was sent; meaningful in Ending.
  bool hurried = false;
  RetirementPolicy policy;
  bool operator==(Retirement const&) const = default;
};

enum class RetirementEvent : std::uint8_t {
  QueueEmpty,
  Unused,  ///< No connection of it is open, and none waits.
  Exited,  ///< Nothing of its tree lives.
  Hurry,   ///< Its place is wanted.
  Tick,
};

enum class RetirementAction : std::uint8_t {
  WatchQueue,  ///< Report QueueEmpty once nothing waits in its accept queues.
  WatchUse,    ///< Report Unused once no connection of it is open.
  Stop,        ///< Its stop signal.
  Kill,        ///< The whole tree, at once: nothing of it runs its own code afterwards.
  RetireLane,  ///< Its lane goes; what waited there is brought to the revision that serves.
};
using RetirementActions = std::vector<RetirementAction>;

/// How a revision is sent away.
enum class Farewell : std::uint8_t {
  Drain,   ///< It finishes what it has.
  AtOnce,  ///< It must not run a moment longer.
};

/// The first state; `actions` gets what is to be done at once.
[[nodiscard]] Retirement begin_retirement(Farewell farewell, Instant now,
                                          RetirementPolicy const& policy,
                                          RetirementActions& actions);
/// Moves on by one event. Nothing follows Over.
[[nodiscard]] RetirementActions step(Retirement& retirement, RetirementEvent event, Instant now);

[[nodiscard]] inline bool is_over(Retirement const& retirement) {
  return retirement.stage == Retirement::Stage::Over;
}
/// "emptying-queue", "waiting", "ending", "killing", "over".
[[nodiscard]] std::string_view stage_name(Retirement::Stage stage);
[[nodiscard]] std::string_view action_name(RetirementAction action);

/// How many of the retiring revisions are in the way of one more: with `living` of all kinds, and
/// at most `max` with the new one. The oldest are to be hurried, in their order.
[[nodiscard]] std::size_t in_the_way(std::size_t living, std::size_t retiring, std::size_t max);

}  // namespace aether::relay
