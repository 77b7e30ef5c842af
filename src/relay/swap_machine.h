// SPDX-License-Identifier: Apache-2.0
// SwapMachine: decides each move of a swap from one revision to the next. Pure: no clock, no I/O,
// no randomness, no logging. A shell (relay/service) performs the actions and reports what
// happened.
//
// The path of a swap that goes well:
//   Preflight -> Launching -> (WarmingUp) -> (HandingOff -> AwaitingReady) -> Soaking -> Idle
// A canary soaks with a part of the new connections, which grows until the verdict gives it all.
// and of one for which only one process may run at a time (exclusive listeners):
//   Preflight -> StoppingOld -> Launching -> (WarmingUp) -> Soaking -> Idle
// Whatever fails leads back to Idle, with the old revision serving: at once, through Reclaiming
// when the new one has the memory, or through Relaunching when the old process is gone on purpose.
// Every state but Idle has a deadline.
//
// A swap ends with its verdict. The revision that does not serve from then on is sent away with
// Retire: how it drains and ends is decided by a machine of its own (retirement_machine.h), and the
// next swap need not wait for that.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "relay/retirement_machine.h"

namespace aether::relay {

/// From `after` the cutover on, the new revision gets that much of what is new.
struct Part {
  Duration after{};
  int percent = 100;  ///< 1 to 100.
  bool operator==(Part const&) const = default;
};

/// What the configuration says about swaps of this service. Durations are limits, never guesses.
struct SwapPolicy {
  enum class Overlap : std::uint8_t { Yes, No };  ///< No: exclusive listeners.
  enum class OnHandoffFailure : std::uint8_t { Abort, Continue };
  Overlap overlap = Overlap::Yes;
  OnHandoffFailure on_handoff_failure = OnHandoffFailure::Abort;
  Duration preflight_limit = std::chrono::seconds(60);
  Duration launch_limit = std::chrono::seconds(60);
  Duration warmup = Duration::zero();
  Duration empty_queue_limit = std::chrono::seconds(1);  ///< For the old one to accept what waits.
  Duration handoff_limit = std::chrono::seconds(5);      ///< For export and delivery together.
  Duration soak = std::chrono::seconds(30);
  /// While it soaks, the new revision gets these parts, one after the other, and the old one the
  /// rest. In the order of time, the first at the cutover. Empty: it gets everything.
  std::vector<Part> parts = {};
  Duration drain_limit = std::chrono::seconds(30);  ///< Exclusive: for the old one to stop.
  Duration stop_limit = std::chrono::seconds(10);   ///< For a process to be gone once it is killed.
};

/// How far the old revision's memory has gone, which decides how a rollback brings it back.
enum class Memory : std::uint8_t {
  Untouched,  ///< The old one was never asked for it.
  Exported,   ///< The old one was asked, so it stands still; its own copy is the one that counts.
  Moved,      ///< The new one owns it and changes it; the old one's copy grows stale.
};

// ---- States -----------------------------------------------------------------------------------

/// The two sides of a running swap.
struct Sides {
  RevisionId old;
  RevisionId next;
  RevisionId steered;     ///< Where new connections go, or a part of them: `old` or `next`.
  bool old_alive = true;  ///< False once the old process is gone, on purpose or not.
  Memory memory = Memory::Untouched;
  bool operator==(Sides const&) const = default;
};
struct Idle {
  RevisionId serving;
};
struct Preflight : Sides {
  Instant due;
};
struct StoppingOld : Sides {
  Instant due;
  bool killed = false;
  std::string rollback = {};  ///< Why the old one is to be started again as soon as it is gone.
};
struct Launching : Sides {
  Instant due;
};
struct WarmingUp : Sides {
  Instant due;
  bool asked_memory = false;
  bool next_ready = false;
};
struct HandingOff : Sides {
  enum class Stage : std::uint8_t { EmptyingQueue, Exporting, Delivering };
  Instant due;
  Stage stage = Stage::EmptyingQueue;
  bool next_ready = false;
  bool forgets = false;       ///< The export failed, and on_handoff_failure says to go on without.
  std::string rollback = {};  ///< Why one was asked for, once the new one could have the memory.
};
/// The new one has its memory and the connections; its own word that it serves is awaited.
struct AwaitingReady : Sides {
  Instant due;
};
struct Soaking : Sides {
  Instant due;           ///< Of the next part, or of the end.
  Instant began = {};    ///< The cutover.
  std::size_t part = 0;  ///< In policy.parts; their number: the new one gets everything.
};
/// The new one is to be taken back, and changes the memory: it is asked to give that back.
struct Reclaiming : Sides {
  Instant due;
  std::string reason;
  bool next_served = false;
};
/// Exclusive only: the old revision is started again because the new one failed.
struct Relaunching : Sides {
  enum class Stage : std::uint8_t { EndingNext, Starting };
  Instant due;
  Stage stage = Stage::EndingNext;
  std::string reason;
};

using SwapState = std::variant<Idle, Preflight, StoppingOld, Launching, WarmingUp, HandingOff,
                               AwaitingReady, Soaking, Reclaiming, Relaunching>;

// ---- Events -----------------------------------------------------------------------------------

namespace event {
struct ReloadRequested {
  RevisionId next;
  bool old_alive = true;  ///< False: nothing serves, this is a start with a way back.
};
struct PreflightPassed {};
struct PreflightFailed {
  std::string why;
};
struct NextReady {
  /// The old one has memory to give, which the new one did not ask for.
  bool forgets_memory = false;
};
/// The new one waits for its memory.
struct NextAskedMemory {};
struct QueueEmpty {};
struct Exported {};
struct ExportFailed {
  std::string why;
};
struct Delivered {};
struct DeliveryFailed {
  std::string why;
};
/// The reverse handoff ended: the new one's memory is in Aether's hands, or it is not.
struct Reclaimed {
  bool memory = false;
};
struct NextSick {
  std::string why;
};
struct NextExited {
  std::string why;
};
struct OldExited {
  std::string why;
};
struct RollbackRequested {
  std::string why;
};
/// Exclusive: the relaunched old revision is ready, or could not be started.
struct OldReady {};
struct Tick {};
}  // namespace event

using SwapEvent =
    std::variant<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                 event::NextReady, event::NextAskedMemory, event::QueueEmpty, event::Exported,
                 event::ExportFailed, event::Delivered, event::DeliveryFailed, event::Reclaimed,
                 event::NextSick, event::NextExited, event::OldExited, event::RollbackRequested,
                 event::OldReady, event::Tick>;

// ---- Actions ----------------------------------------------------------------------------------

namespace action {
struct RunPreflight {};
struct Launch {
  RevisionId revision;
};
/// A revision that has no lane (any more) gets one: with Launch or GiveUp in the same step its
/// process is still to come.
struct SteerTo {
  RevisionId revision;
};
/// `revision` gets that much of what is new, and `other` the rest. Both serve.
struct Split {
  RevisionId revision;
  RevisionId other;
  int percent = 0;
};
/// Report QueueEmpty once nothing waits in this revision's accept queues.
struct WatchQueue {
  RevisionId revision;
};
struct ExportMemory {
  RevisionId from;
};
/// Hand what was exported, once; whoever asks when there is nothing (left) is told so. Never
/// without an answer: the new one waits for it.
struct DeliverMemory {
  RevisionId to;
};
/// The new one has the memory: the old one forwards or finishes what it still holds.
struct Release {
  RevisionId revision;
};
/// Export from the failing new one, for the old one; report Reclaimed.
struct ReclaimMemory {
  RevisionId from;
};
/// Take work again, with its own memory or with what was reclaimed.
struct Resume {
  RevisionId revision;
  bool with_reclaimed_memory = false;
};
struct StartJudge {};
struct StopJudge {};
/// Exclusive: ask the process to stop (its stop signal). Report when nothing of it lives.
struct Stop {
  RevisionId revision;
};
/// Exclusive: end the whole tree at once.
struct Kill {
  RevisionId revision;
};
/// It serves no more and is no longer this swap's concern: it retires. Sent away at once, nothing
/// of it runs its own code any more when this has been performed.
struct Retire {
  RevisionId revision;
  Farewell farewell = Farewell::Drain;
};
/// No process of the revision lives: its lane goes, what waited there is brought to the steered
/// one.
struct RetireLane {
  RevisionId revision;
};
/// The verdict, once a swap. What else still works for the swap (hooks, watches) ends with Idle.
struct Succeed {
  std::string note;
};
struct Fail {
  std::string why;
};
/// No process serves any more: the restart policy of the service takes over, with the revision
/// that Idle names. What memory Aether still holds (exported or reclaimed) is that process's.
struct GiveUp {
  std::string why;
};
}  // namespace action

using SwapAction =
    std::variant<action::RunPreflight, action::Launch, action::SteerTo, action::Split,
                 action::WatchQueue, action::ExportMemory, action::DeliverMemory, action::Release,
                 action::ReclaimMemory, action::Resume, action::StartJudge, action::StopJudge,
                 action::Stop, action::Kill, action::Retire, action::RetireLane, action::Succeed,
                 action::Fail, action::GiveUp>;
using SwapActions = std::vector<SwapAction>;

/// The shell hands over only news of this swap: what it learns of processes that are neither `old`
/// nor `next`, or late answers to an earlier swap's actions, it keeps to itself. A process that
/// could not be launched is reported as NextExited (or OldExited, when Relaunching). In Idle an
/// exit is the restart policy's.
///
/// Moves `state` on by one event and returns what is to be done, in order. Every pair of state and
/// event is written down in the .cc file; a pair that is not does not compile.
[[nodiscard]] SwapActions step(SwapState& state, SwapEvent const& event, Instant now,
                               SwapPolicy const& policy);

/// When Tick is wanted; none when idle.
[[nodiscard]] std::optional<Instant> due(SwapState const& state);
/// The revision that new connections go to in this state, all of them or a part.
[[nodiscard]] RevisionId steered(SwapState const& state);
/// How much of them goes there, in percent.
[[nodiscard]] int percent(SwapState const& state, SwapPolicy const& policy);
[[nodiscard]] bool is_idle(SwapState const& state);
/// Our name of the phase: "idle", "preflight", "launching", ...
[[nodiscard]] std::string_view phase_name(SwapState const& state);
/// The seed's public name: PRE_CHECKING, STARTING, HANDSHAKING, SOAKING, RUNNING, DRAINING.
[[nodiscard]] std::string_view public_phase_name(SwapState const& state);
[[nodiscard]] std::string_view event_name(SwapEvent const& event);
/// "launch", "steer-to", ...
[[nodiscard]] std::string_view action_name(SwapAction const& action);
/// The revision that the action names; none for those about the swap as a whole.
[[nodiscard]] std::optional<RevisionId> revision_of(SwapAction const& action);

}  // namespace aether::relay
