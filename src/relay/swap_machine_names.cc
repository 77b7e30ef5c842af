// SPDX-License-Identifier: Apache-2.0
// The words for the swap machine's states, events and actions, for logs, status and tests.
#include "relay/swap_machine.h"
#include "relay/swap_machine_moves.h"

namespace aether::relay {

using swap::Cases;

std::string_view phase_name(SwapState const& state) {
  return std::visit(
      Cases{[](Idle const&) { return "idle"; }, [](Preflight const&) { return "preflight"; },
            [](StoppingOld const&) { return "stopping-old"; },
            [](Launching const&) { return "launching"; },
            [](WarmingUp const&) { return "warming-up"; },
            [](HandingOff const&) { return "handoff"; },
            [](AwaitingReady const&) { return "cutover"; },
            [](Soaking const&) { return "soaking"; },
            [](Reclaiming const&) { return "rolling-back"; },
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
            [](Soaking const&) { return "SOAKING"; }, [](Reclaiming const&) { return "RUNNING"; },
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

std::string_view action_name(SwapAction const& action) {
  return std::visit(
      Cases{[](action::RunPreflight const&) { return "run-preflight"; },
            [](action::Launch const&) { return "launch"; },
            [](action::SteerTo const&) { return "steer-to"; },
            [](action::Split const&) { return "split"; },
            [](action::WatchQueue const&) { return "watch-queue"; },
            [](action::ExportMemory const&) { return "export-memory"; },
            [](action::DeliverMemory const&) { return "deliver-memory"; },
            [](action::Release const&) { return "release"; },
            [](action::ReclaimMemory const&) { return "reclaim-memory"; },
            [](action::Resume const&) { return "resume"; },
            [](action::StartJudge const&) { return "start-judge"; },
            [](action::StopJudge const&) { return "stop-judge"; },
            [](action::Stop const&) { return "stop"; }, [](action::Kill const&) { return "kill"; },
            [](action::Retire const&) { return "retire"; },
            [](action::RetireLane const&) { return "retire-lane"; },
            [](action::Succeed const&) { return "succeed"; },
            [](action::Fail const&) { return "fail"; },
            [](action::GiveUp const&) { return "give-up"; }},
      action);
}

std::optional<RevisionId> revision_of(SwapAction const& action) {
  return std::visit(
      [](auto const& a) -> std::optional<RevisionId> {
        if constexpr (requires { a.revision; }) return a.revision;
        if constexpr (requires { a.from; }) return a.from;
        if constexpr (requires { a.to; }) return a.to;
        return {};
      },
      action);
}

}  // namespace aether::relay
