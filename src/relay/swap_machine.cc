// SPDX-License-Identifier: Apache-2.0
#include "relay/swap_machine.h"

#include <concepts>
#include <utility>

#include <fmt/format.h>

namespace aether::relay {
namespace {

template <class... Lambdas>
struct Cases : Lambdas... {
  using Lambdas::operator()...;
};
template <class... Lambdas>
Cases(Lambdas...) -> Cases<Lambdas...>;

/// The events that mean nothing in a state. Naming them keeps the table complete.
template <class Event, class... Listed>
concept OneOf = (std::same_as<Event, Listed> || ...);

/// What a swap had done with the memory when it failed.
enum class Memory : std::uint8_t { Untouched, Exported, Moved };

/// One step: holds what every state's table needs.
struct Stepper {
  SwapState& state;
  Instant now;
  SwapPolicy const& policy;
  SwapActions actions = {};

  template <class... Actions>
  void perform(Actions&&... listed) {
    (actions.emplace_back(std::forward<Actions>(listed)), ...);
  }

  [[nodiscard]] bool exclusive() const { return policy.overlap == SwapPolicy::Overlap::No; }

  void steer(Sides& sides, RevisionId revision) {
    sides.steered = revision;
    perform(action::SteerTo{revision});
  }

  // ---- Ways forward ----

  void launch(Sides sides) {
    perform(action::Launch{sides.next});
    if (!sides.old_alive) take_over(sides);
    state = Launching{sides, now + policy.launch_limit};
  }

  /// The old process is gone before the cutover: what waits in its queue must not wait for the
  /// verdict.
  void take_over(Sides& sides) {
    sides.old_alive = false;
    steer(sides, sides.next);
    perform(action::RetireLane{sides.old});
  }

  void ready(Sides const& sides) {
    if (policy.warmup > Duration::zero()) {
      state = WarmingUp{sides, now + policy.warmup};
    } else {
      cut_over(sides);
    }
  }

  void cut_over(Sides sides) {
    if (sides.steered != sides.next) steer(sides, sides.next);
    soak(sides, Memory::Untouched);
  }

  void hand_off(Sides sides, bool next_ready) {
    if (!sides.old_alive) {
      deliver(HandingOff{sides, now + policy.handoff_limit, {}, next_ready});
      return;
    }
    steer(sides, sides.next);
    perform(action::WatchQueue{sides.old});
    state = HandingOff{sides, now + policy.empty_queue_limit, HandingOff::Stage::EmptyingQueue,
                       next_ready};
  }

  void export_memory(HandingOff s) {
    perform(action::ExportMemory{s.old});
    s.stage = HandingOff::Stage::Exporting;
    s.due = now + policy.handoff_limit;
    state = s;
  }

  void deliver(HandingOff s) {
    perform(action::DeliverMemory{s.next});
    s.stage = HandingOff::Stage::Delivering;
    state = s;
  }

  void soak(Sides const& sides, Memory memory) {
    if (policy.soak <= Duration::zero()) {
      perform(action::StopJudge{});
      drain(sides, "no soak time is configured");
      return;
    }
    perform(action::StartJudge{});
    state = Soaking{sides, now + policy.soak, memory == Memory::Moved};
  }

  void drain(Sides const& sides, std::string note) {
    perform(action::Succeed{std::move(note)});
    if (!sides.old_alive) {
      perform(action::RetireLane{sides.old});
      state = Idle{sides.next};
      return;
    }
    perform(action::WatchQueue{sides.old});
    state = Draining{sides, now + policy.empty_queue_limit, Draining::Stage::EmptyingQueue};
  }

  // ---- Ways back ----

  /// Back to idle with the old revision, which serves; or does not, when its process is gone too.
  void fail_idle(Sides const& sides, std::string why) {
    perform(action::Fail{why});
    if (!sides.old_alive) perform(action::GiveUp{std::move(why)});
    state = Idle{sides.old};
  }

  void roll_back(Sides sides, Memory memory, std::string why) {
    perform(action::StopJudge{});
    if (exclusive()) {
      perform(action::Kill{sides.next});
      state = Relaunching{sides, now + policy.stop_limit, Relaunching::Stage::EndingNext,
                          std::move(why)};
      return;
    }
    if (!sides.old_alive) {
      end_next(sides, std::move(why));
      return;
    }
    steer(sides, sides.old);
    if (memory == Memory::Moved) {
      perform(action::ReclaimMemory{sides.next});
      state = RollingBack{sides, now + policy.handoff_limit, RollingBack::Stage::Reclaiming,
                          std::move(why)};
      return;
    }
    if (memory == Memory::Exported) perform(action::Resume{sides.old});
    end_next(sides, std::move(why));
  }

  void end_next(Sides const& sides, std::string why) {
    perform(action::Kill{sides.next});
    state =
        RollingBack{sides, now + policy.stop_limit, RollingBack::Stage::EndingNext, std::move(why)};
  }

  /// The new process died by itself: there is nothing to end, the way back is one step.
  void next_died(Sides sides, Memory memory, std::string why) {
    perform(action::StopJudge{});
    if (exclusive()) {
      relaunch(Relaunching{sides, {}, {}, std::move(why)});
      return;
    }
    steer(sides, sides.old);
    if (sides.old_alive && memory != Memory::Untouched) perform(action::Resume{sides.old});
    perform(action::RetireLane{sides.next});
    fail_idle(sides, std::move(why));
  }

  void relaunch(Relaunching s) {
    steer(s, s.old);
    perform(action::RetireLane{s.next}, action::Launch{s.old});
    s.stage = Relaunching::Stage::Starting;
    s.due = now + policy.launch_limit;
    state = std::move(s);
  }

  [[nodiscard]] std::string late(std::string_view what, Duration limit) const {
    return fmt::format("{} within {}", what, format_duration(limit));
  }

  // ---- The table: one function a state ----

  void in(Idle s, SwapEvent const& event) {
    std::visit(Cases{
                   [&](event::ReloadRequested const& e) {
                     perform(action::RunPreflight{});
                     state = Preflight{Sides{s.serving, e.next, s.serving, e.old_alive},
                                       now + policy.preflight_limit};
                   },
                   // Late news of a swap that has ended.
                   [](OneOf<event::PreflightPassed, event::PreflightFailed, event::NextReady,
                            event::NextAskedMemory, event::QueueEmpty, event::Exported,
                            event::ExportFailed, event::Delivered, event::DeliveryFailed,
                            event::Reclaimed, event::NextSick, event::NextExited, event::OldExited,
                            event::RollbackRequested, event::OldReady, event::Tick> auto const&) {},
               },
               event);
  }

  void in(Preflight s, SwapEvent const& event) {
    std::visit(
        Cases{
            [&](event::PreflightPassed) {
              if (exclusive() && s.old_alive) {
                perform(action::Stop{s.old});
                state = StoppingOld{s, now + policy.drain_limit};
              } else {
                launch(s);
              }
            },
            [&](event::PreflightFailed const& e) { fail_idle(s, e.why); },
            [&](event::OldExited) {
              s.old_alive = false;
              state = s;
            },
            [&](event::RollbackRequested const& e) { fail_idle(s, e.why); },
            [&](event::Tick) {
              if (now >= s.due) {
                fail_idle(s, late("the preflight hooks did not end", policy.preflight_limit));
              }
            },
            [](OneOf<event::ReloadRequested, event::NextReady, event::NextAskedMemory,
                     event::QueueEmpty, event::Exported, event::ExportFailed, event::Delivered,
                     event::DeliveryFailed, event::Reclaimed, event::NextSick, event::NextExited,
                     event::OldReady> auto const&) {},
        },
        event);
  }

  void in(StoppingOld s, SwapEvent const& event) {
    std::visit(
        Cases{
            [&](event::OldExited) {
              s.old_alive = false;
              launch(s);
            },
            [&](event::Tick) {
              if (now < s.due) return;
              if (s.killed) {
                fail_idle(s, late("the old process could not be ended", policy.stop_limit));
                return;
              }
              perform(action::Kill{s.old});
              s.killed = true;
              s.due = now + policy.stop_limit;
              state = s;
            },
            // The old process is on its way out: the way back begins when it is gone.
            [](OneOf<event::RollbackRequested, event::ReloadRequested, event::PreflightPassed,
                     event::PreflightFailed, event::NextReady, event::NextAskedMemory,
                     event::QueueEmpty, event::Exported, event::ExportFailed, event::Delivered,
                     event::DeliveryFailed, event::Reclaimed, event::NextSick, event::NextExited,
                     event::OldReady> auto const&) {},
        },
        event);
  }

  void in(Launching s, SwapEvent const& event) {
    std::visit(
        Cases{
            [&](event::NextReady e) {
              bool const abort = policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Abort;
              if (e.forgets_memory && s.old_alive && abort) {
                roll_back(s, Memory::Untouched,
                          "the new revision became ready without asking for the memory that the "
                          "old one holds (call load_context() first, or set on_handoff_failure: "
                          "continue)");
              } else {
                ready(s);
              }
            },
            [&](event::NextAskedMemory) {
              if (policy.warmup > Duration::zero()) {
                state = WarmingUp{s, now + policy.warmup, true};
              } else {
                hand_off(s, false);
              }
            },
            [&](event::NextSick const& e) { roll_back(s, Memory::Untouched, e.why); },
            [&](event::RollbackRequested const& e) { roll_back(s, Memory::Untouched, e.why); },
            [&](event::NextExited const& e) { next_died(s, Memory::Untouched, e.why); },
            [&](event::OldExited) { old_died_early(s); },
            [&](event::Tick) {
              if (now >= s.due) {
                roll_back(s, Memory::Untouched,
                          late("the new revision did not become ready", policy.launch_limit));
              }
            },
            [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                     event::QueueEmpty, event::Exported, event::ExportFailed, event::Delivered,
                     event::DeliveryFailed, event::Reclaimed, event::OldReady> auto const&) {},
        },
        event);
  }

  template <class State>
  void old_died_early(State s) {
    if (s.old_alive) take_over(s);
    state = s;
  }

  void in(WarmingUp s, SwapEvent const& event) {
    std::visit(
        Cases{
            [&](event::NextAskedMemory) {
              s.asked_memory = true;
              state = s;
            },
            [&](event::NextSick const& e) { roll_back(s, Memory::Untouched, e.why); },
            [&](event::RollbackRequested const& e) { roll_back(s, Memory::Untouched, e.why); },
            [&](event::NextExited const& e) { next_died(s, Memory::Untouched, e.why); },
            [&](event::OldExited) { old_died_early(s); },
            [&](event::Tick) {
              if (now < s.due) return;
              s.asked_memory ? hand_off(s, false) : cut_over(s);
            },
            [](OneOf<event::NextReady, event::ReloadRequested, event::PreflightPassed,
                     event::PreflightFailed, event::QueueEmpty, event::Exported,
                     event::ExportFailed, event::Delivered, event::DeliveryFailed, event::Reclaimed,
                     event::OldReady> auto const&) {},
        },
        event);
  }

  void in(HandingOff s, SwapEvent const& event) {
    using Stage = HandingOff::Stage;
    Memory const memory = s.stage == Stage::EmptyingQueue ? Memory::Untouched : Memory::Exported;
    std::visit(
        Cases{
            [&](event::QueueEmpty) {
              if (s.stage == Stage::EmptyingQueue) export_memory(s);
            },
            [&](event::Exported) {
              if (s.stage == Stage::Exporting) deliver(s);
            },
            [&](event::ExportFailed const& e) {
              if (s.stage == Stage::Exporting) export_failed(s, e.why);
            },
            [&](event::Delivered e) {
              if (s.stage == Stage::Delivering) delivered(s, e.also_ready);
            },
            [&](event::DeliveryFailed const& e) {
              if (s.stage == Stage::Delivering) roll_back(s, memory, e.why);
            },
            [&](event::NextReady) {
              s.next_ready = true;
              state = s;
            },
            [&](event::NextSick const& e) { roll_back(s, memory, e.why); },
            [&](event::RollbackRequested const& e) { roll_back(s, memory, e.why); },
            [&](event::NextExited const& e) { next_died(s, memory, e.why); },
            [&](event::OldExited) {
              if (!s.old_alive) return;
              s.old_alive = false;
              perform(action::RetireLane{s.old});
              // Delivering goes on: what was exported is in Aether's hands.
              s.stage == Stage::Delivering ? void(state = s) : deliver(s);
            },
            [&](event::Tick) {
              if (now >= s.due) handoff_late(s);
            },
            [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                     event::NextAskedMemory, event::Reclaimed, event::OldReady> auto const&) {},
        },
        event);
  }

  void export_failed(HandingOff s, std::string why) {
    if (policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Continue) {
      deliver(s);
    } else {
      roll_back(s, Memory::Exported, std::move(why));
    }
  }

  void delivered(HandingOff const& s, bool also_ready) {
    if (s.old_alive) perform(action::Release{s.old});
    if (s.next_ready || also_ready) {
      soak(s, Memory::Moved);
    } else {
      state = AwaitingReady{s, now + policy.launch_limit};
    }
  }

  void handoff_late(HandingOff s) {
    switch (s.stage) {
      case HandingOff::Stage::EmptyingQueue:
        // Connections that the old one does not accept are brought over when its lane is retired.
        export_memory(s);
        break;
      case HandingOff::Stage::Exporting:
        // The old one may still be at it: nothing is known of its memory but that it is its own.
        export_failed(s,
                      late("the old revision did not hand over its memory", policy.handoff_limit));
        break;
      case HandingOff::Stage::Delivering:
        roll_back(s, Memory::Exported,
                  late("the new revision did not take its memory", policy.handoff_limit));
        break;
    }
  }

  void in(AwaitingReady s, SwapEvent const& event) {
    std::visit(Cases{
                   [&](event::NextReady) { soak(s, Memory::Moved); },
                   [&](event::NextSick const& e) { roll_back(s, Memory::Moved, e.why); },
                   [&](event::RollbackRequested const& e) { roll_back(s, Memory::Moved, e.why); },
                   [&](event::NextExited const& e) { next_died(s, Memory::Moved, e.why); },
                   [&](event::OldExited) {
                     if (!s.old_alive) return;
                     s.old_alive = false;
                     perform(action::RetireLane{s.old});
                     state = s;
                   },
                   [&](event::Tick) {
                     if (now >= s.due) {
                       roll_back(s, Memory::Moved,
                                 late("the new revision has its memory but did not become ready",
                                      policy.launch_limit));
                     }
                   },
                   [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                            event::NextAskedMemory, event::QueueEmpty, event::Exported,
                            event::ExportFailed, event::Delivered, event::DeliveryFailed,
                            event::Reclaimed, event::OldReady> auto const&) {},
               },
               event);
  }

  void in(Soaking s, SwapEvent const& event) {
    Memory const memory = s.memory_moved ? Memory::Moved : Memory::Untouched;
    std::visit(
        Cases{
            [&](event::NextSick const& e) { roll_back(s, memory, e.why); },
            [&](event::RollbackRequested const& e) { roll_back(s, memory, e.why); },
            [&](event::NextExited const& e) { next_died(s, memory, e.why); },
            [&](event::OldExited) {
              if (!s.old_alive) return;
              s.old_alive = false;
              perform(action::StopJudge{});
              drain(s, "the old revision ended by itself during the soak");
            },
            [&](event::Tick) {
              if (now < s.due) return;
              perform(action::StopJudge{});
              drain(s, {});
            },
            [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                     event::NextReady, event::NextAskedMemory, event::QueueEmpty, event::Exported,
                     event::ExportFailed, event::Delivered, event::DeliveryFailed, event::Reclaimed,
                     event::OldReady> auto const&) {},
        },
        event);
  }

  void in(Draining s, SwapEvent const& event) {
    using Stage = Draining::Stage;
    auto const kill = [&] {
      perform(action::Kill{s.old});
      s.stage = Stage::Killing;
      s.due = now + policy.stop_limit;
      state = s;
    };
    auto const stop = [&] {
      perform(action::Stop{s.old});
      s.stage = Stage::Ending;
      s.due = now + policy.drain_limit;
      state = s;
    };
    auto const done = [&] {
      perform(action::RetireLane{s.old});
      state = Idle{s.next};
    };
    std::visit(
        Cases{
            [&](event::QueueEmpty) {
              if (s.stage == Stage::EmptyingQueue) stop();
            },
            [&](event::OldExited) { done(); },
            // The verdict is out, there is no way back; whoever asks wants the drain to hurry.
            [&](event::RollbackRequested const&) {
              if (s.stage != Stage::Killing) kill();
            },
            [&](event::Tick) {
              if (now < s.due) return;
              if (s.stage == Stage::EmptyingQueue) return stop();
              s.stage == Stage::Ending ? kill() : done();
            },
            // A crash of the new one is the restart policy's from here on.
            [](OneOf<event::NextExited, event::NextSick, event::ReloadRequested,
                     event::PreflightPassed, event::PreflightFailed, event::NextReady,
                     event::NextAskedMemory, event::Exported, event::ExportFailed, event::Delivered,
                     event::DeliveryFailed, event::Reclaimed, event::OldReady> auto const&) {},
        },
        event);
  }

  void in(RollingBack s, SwapEvent const& event) {
    using Stage = RollingBack::Stage;
    auto const reclaimed = [&](bool memory) {
      perform(action::Resume{s.old, memory});
      end_next(s, s.reason);
    };
    auto const next_gone = [&] {
      if (s.steered != s.old) steer(s, s.old);
      perform(action::RetireLane{s.next});
      fail_idle(s, s.reason);
    };
    std::visit(Cases{
                   [&](event::Reclaimed e) {
                     if (s.stage == Stage::Reclaiming) reclaimed(e.memory);
                   },
                   [&](event::NextExited) {
                     if (s.stage == Stage::Reclaiming) perform(action::Resume{s.old});
                     next_gone();
                   },
                   [&](event::OldExited) {
                     if (!s.old_alive) return;
                     s.old_alive = false;
                     if (s.stage == Stage::EndingNext) {
                       state = s;
                       return;
                     }
                     // Only the new one lives, and it has the memory: better sick than gone.
                     steer(s, s.next);
                     perform(
                         action::Resume{s.next}, action::RetireLane{s.old},
                         action::Fail{fmt::format("{}; the old revision died while it was being "
                                                  "brought back, so the new one serves on",
                                                  s.reason)});
                     state = Idle{s.next};
                   },
                   [&](event::Tick) {
                     if (now < s.due) return;
                     s.stage == Stage::Reclaiming ? reclaimed(false) : next_gone();
                   },
                   [](OneOf<event::RollbackRequested, event::NextSick, event::ReloadRequested,
                            event::PreflightPassed, event::PreflightFailed, event::NextReady,
                            event::NextAskedMemory, event::QueueEmpty, event::Exported,
                            event::ExportFailed, event::Delivered, event::DeliveryFailed,
                            event::OldReady> auto const&) {},
               },
               event);
  }

  void in(Relaunching s, SwapEvent const& event) {
    using Stage = Relaunching::Stage;
    std::visit(Cases{
                   [&](event::NextExited) {
                     if (s.stage == Stage::EndingNext) relaunch(s);
                   },
                   [&](event::OldReady) {
                     if (s.stage != Stage::Starting) return;
                     s.old_alive = true;
                     fail_idle(s, s.reason);
                   },
                   [&](event::OldExited const& e) {
                     if (s.stage != Stage::Starting) return;
                     fail_idle(s, fmt::format("{}; starting the old revision again failed too: {}",
                                              s.reason, e.why));
                   },
                   [&](event::Tick) {
                     if (now < s.due) return;
                     if (s.stage == Stage::EndingNext) return relaunch(s);
                     // It lives but is not ready: it is what there is.
                     s.old_alive = true;
                     fail_idle(
                         s, fmt::format("{}; the old revision was started again but is not ready",
                                        s.reason));
                   },
                   [](OneOf<event::RollbackRequested, event::NextSick, event::ReloadRequested,
                            event::PreflightPassed, event::PreflightFailed, event::NextReady,
                            event::NextAskedMemory, event::QueueEmpty, event::Exported,
                            event::ExportFailed, event::Delivered, event::DeliveryFailed,
                            event::Reclaimed> auto const&) {},
               },
               event);
  }
};

}  // namespace

SwapActions step(SwapState& state, SwapEvent const& event, Instant now, SwapPolicy const& policy) {
  Stepper stepper{state, now, policy};
  // The table works on a copy: it may assign `state` while it reads the old one.
  SwapState const before = state;
  std::visit([&](auto const& in) { stepper.in(in, event); }, before);
  return std::move(stepper.actions);
}

std::optional<Instant> due(SwapState const& state) {
  return std::visit(Cases{[](Idle const&) -> std::optional<Instant> { return {}; },
                          [](auto const& s) -> std::optional<Instant> { return s.due; }},
                    state);
}

RevisionId steered(SwapState const& state) {
  return std::visit(
      Cases{[](Idle const& s) { return s.serving; }, [](auto const& s) { return s.steered; }},
      state);
}

bool is_idle(SwapState const& state) {
  return std::holds_alternative<Idle>(state);
}

std::string_view phase_name(SwapState const& state) {
  return std::visit(
      Cases{[](Idle const&) { return "idle"; }, [](Preflight const&) { return "preflight"; },
            [](StoppingOld const&) { return "stopping-old"; },
            [](Launching const&) { return "launching"; },
            [](WarmingUp const&) { return "warming-up"; },
            [](HandingOff const&) { return "handoff"; },
            [](AwaitingReady const&) { return "cutover"; },
            [](Soaking const&) { return "soaking"; }, [](Draining const&) { return "draining"; },
            [](RollingBack const&) { return "rolling-back"; },
            [](Relaunching const&) { return "rolling-back"; }},
      state);
}

std::string_view public_phase_name(SwapState const& state) {
  return std::visit(
      Cases{[](Idle const&) { return "RUNNING"; }, [](Preflight const&) { return "PRE_CHECKING"; },
            [](StoppingOld const&) { return "DRAINING"; },
            [](Launching const&) { return "STARTING"; },
            [](WarmingUp const&) { return "STARTING"; },
            [](HandingOff const&) { return "HANDSHAKING"; },
            [](AwaitingReady const&) { return "HANDSHAKING"; },
            [](Soaking const&) { return "SOAKING"; }, [](Draining const&) { return "DRAINING"; },
            [](RollingBack const&) { return "RUNNING"; },
            [](Relaunching const&) { return "STARTING"; }},
      state);
}

std::string_view event_name(SwapEvent const& event) {
  return std::visit(Cases{[](event::ReloadRequested const&) { return "reload-requested"; },
                          [](event::PreflightPassed const&) { return "preflight-passed"; },
                          [](event::PreflightFailed const&) { return "preflight-failed"; },
                          [](event::NextReady const&) { return "next-ready"; },
                          [](event::NextAskedMemory const&) { return "next-asked-memory"; },
                          [](event::QueueEmpty const&) { return "queue-empty"; },
                          [](event::Exported const&) { return "exported"; },
                          [](event::ExportFailed const&) { return "export-failed"; },
                          [](event::Delivered const&) { return "delivered"; },
                          [](event::DeliveryFailed const&) { return "delivery-failed"; },
                          [](event::Reclaimed const&) { return "reclaimed"; },
                          [](event::NextSick const&) { return "next-sick"; },
                          [](event::NextExited const&) { return "next-exited"; },
                          [](event::OldExited const&) { return "old-exited"; },
                          [](event::RollbackRequested const&) { return "rollback-requested"; },
                          [](event::OldReady const&) { return "old-ready"; },
                          [](event::Tick const&) { return "tick"; }},
                    event);
}

}  // namespace aether::relay
