// SPDX-License-Identifier: Apache-2.0
#include "relay/swap_machine.h"

#include <concepts>
#include <utility>

#include <fmt/format.h>

#include "relay/swap_machine_moves.h"

namespace aether::relay {
namespace {

using swap::Cases;
using swap::late;

/// The events that mean nothing in a state. Naming them keeps the table complete.
template <class Event, class... Listed>
concept OneOf = (std::same_as<Event, Listed> || ...);

/// One function a state: what each event does there.
struct Table : swap::Moves {
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
              if (s.rollback.empty()) return launch(s);
              relaunch(Relaunching{s, {}, {}, s.rollback});
            },
            // The old process is on its way out: the way back begins when it is gone.
            [&](event::RollbackRequested const& e) {
              s.rollback = e.why.empty() ? "a rollback was requested" : e.why;
              state = s;
            },
            [&](event::Tick) {
              if (now < s.due) return;
              if (s.killed) {
                // Killed, it serves no more, even if the kernel cannot end it.
                s.old_alive = false;
                fail_idle(s, late("the old process could not be ended", policy.stop_limit));
                return;
              }
              perform(action::Kill{s.old});
              s.killed = true;
              s.due = now + policy.stop_limit;
              state = s;
            },
            [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                     event::NextReady, event::NextAskedMemory, event::QueueEmpty, event::Exported,
                     event::ExportFailed, event::Delivered, event::DeliveryFailed, event::Reclaimed,
                     event::NextSick, event::NextExited, event::OldReady> auto const&) {},
        },
        event);
  }

  void in(Launching s, SwapEvent const& event) {
    std::visit(
        Cases{
            [&](event::NextReady e) {
              bool const abort = policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Abort;
              if (e.forgets_memory && s.old_alive && abort) {
                roll_back(s,
                          "the new revision became ready without asking for the memory that the "
                          "old one holds (call load_context() first, or set on_handoff_failure: "
                          "continue)");
              } else {
                ready(s);
              }
            },
            [&](event::NextAskedMemory) {
              if (policy.warmup > Duration::zero()) {
                state = WarmingUp{s, now + policy.warmup, true, false};
              } else {
                hand_off(s, false);
              }
            },
            [&](event::NextSick const& e) { roll_back(s, e.why); },
            [&](event::RollbackRequested const& e) { roll_back(s, e.why); },
            [&](event::NextExited const& e) { next_died(s, e.why); },
            [&](event::OldExited) { old_died_early(s); },
            [&](event::Tick) {
              if (now >= s.due) {
                roll_back(s, late("the new revision did not become ready", policy.launch_limit));
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
            [&](event::NextSick const& e) { roll_back(s, e.why); },
            [&](event::RollbackRequested const& e) { roll_back(s, e.why); },
            [&](event::NextExited const& e) { next_died(s, e.why); },
            [&](event::OldExited) { old_died_early(s); },
            [&](event::Tick) {
              if (now < s.due) return;
              s.asked_memory ? hand_off(s, s.next_ready) : cut_over(s);
            },
            [&](event::NextReady) {
              s.next_ready = true;
              state = s;
            },
            [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                     event::QueueEmpty, event::Exported, event::ExportFailed, event::Delivered,
                     event::DeliveryFailed, event::Reclaimed, event::OldReady> auto const&) {},
        },
        event);
  }

  void in(HandingOff s, SwapEvent const& event) {
    using Stage = HandingOff::Stage;
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
            [&](event::Delivered) {
              if (s.stage == Stage::Delivering) delivered(s);
            },
            [&](event::DeliveryFailed const& e) {
              if (s.stage == Stage::Delivering) delivery_failed(s, e.why);
            },
            [&](event::NextReady) {
              s.next_ready = true;
              state = s;
            },
            [&](event::NextSick const& e) { roll_back(s, e.why); },
            [&](event::RollbackRequested const& e) { roll_back_handoff(s, e.why); },
            [&](event::NextExited const& e) { next_died(s, e.why); },
            [&](event::OldExited) {
              if (!s.old_alive) return;
              s.old_alive = false;
              perform(action::RetireLane{s.old});
              if (s.stage == Stage::EmptyingQueue) {
                s.due = now + policy.handoff_limit;
                deliver(s);
                return;
              }
              // What was exported is in Aether's hands, or its last word is read right now: an
              // export that Aether has acknowledged is not lost with the one who made it.
              state = s;
            },
            [&](event::Tick) {
              if (now >= s.due) handoff_late(s);
            },
            [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                     event::NextAskedMemory, event::Reclaimed, event::OldReady> auto const&) {},
        },
        event);
  }

  void in(AwaitingReady s, SwapEvent const& event) {
    std::visit(
        Cases{
            [&](event::NextReady) { soak(s); },
            [&](event::NextAskedMemory) { perform(action::DeliverMemory{s.next}); },
            [&](event::NextSick const& e) { roll_back_served(s, e.why); },
            [&](event::RollbackRequested const& e) { roll_back_served(s, e.why); },
            [&](event::NextExited const& e) { next_died(s, e.why); },
            [&](event::OldExited) {
              if (!s.old_alive) return;
              s.old_alive = false;
              perform(action::RetireLane{s.old});
              state = s;
            },
            [&](event::Tick) {
              if (now >= s.due) {
                roll_back_served(s, late("the new revision has its memory but did not become ready",
                                         policy.launch_limit));
              }
            },
            [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                     event::QueueEmpty, event::Exported, event::ExportFailed, event::Delivered,
                     event::DeliveryFailed, event::Reclaimed, event::OldReady> auto const&) {},
        },
        event);
  }

  void in(Soaking s, SwapEvent const& event) {
    std::visit(Cases{
                   [&](event::NextSick const& e) { roll_back_served(s, e.why); },
                   [&](event::RollbackRequested const& e) { roll_back_served(s, e.why); },
                   [&](event::NextExited const& e) { next_died(s, e.why); },
                   // It asked after it was taken for ready: it must not wait for ever.
                   [&](event::NextAskedMemory) { perform(action::DeliverMemory{s.next}); },
                   [&](event::OldExited const& e) {
                     if (!s.old_alive) return;
                     s.old_alive = false;
                     if (is_split(s)) steer(s, s.next);
                     promote(s, e.why);
                   },
                   [&](event::Tick) {
                     if (now >= s.due) soaked(s);
                   },
                   [](OneOf<event::ReloadRequested, event::PreflightPassed, event::PreflightFailed,
                            event::NextReady, event::QueueEmpty, event::Exported,
                            event::ExportFailed, event::Delivered, event::DeliveryFailed,
                            event::Reclaimed, event::OldReady> auto const&) {},
               },
               event);
  }

  void in(Reclaiming s, SwapEvent const& event) {
    std::visit(
        Cases{
            [&](event::Reclaimed e) { take_back(s, e.memory); },
            [&](event::NextExited const&) { next_gone(s, s.reason); },
            [&](event::OldExited) {
              // Only the new one lives, and it has the memory: better sick than gone.
              if (s.old_alive) serve_on_with_next(s);
            },
            // It may yet be the one that serves on.
            [&](event::NextAskedMemory) { perform(action::DeliverMemory{s.next}); },
            [&](event::Tick) {
              if (now >= s.due) take_back(s, false);
            },
            // The way back is being taken already.
            [](OneOf<event::RollbackRequested, event::NextSick, event::ReloadRequested,
                     event::PreflightPassed, event::PreflightFailed, event::NextReady,
                     event::QueueEmpty, event::Exported, event::ExportFailed, event::Delivered,
                     event::DeliveryFailed, event::OldReady> auto const&) {},
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
  Table table{{state, now, policy}};
  // The table works on a copy: it may assign `state` while it reads the old one.
  SwapState const before = state;
  std::visit([&](auto const& s) { table.in(s, event); }, before);
  return std::move(table.actions);
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

int percent(SwapState const& state, SwapPolicy const& policy) {
  auto const* soaking = std::get_if<Soaking>(&state);
  bool const is_split = soaking != nullptr && soaking->part < policy.parts.size();
  return is_split ? policy.parts[soaking->part].percent : 100;
}

bool is_idle(SwapState const& state) {
  return std::holds_alternative<Idle>(state);
}

}  // namespace aether::relay
