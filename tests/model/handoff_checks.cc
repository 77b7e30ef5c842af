// SPDX-License-Identifier: Apache-2.0
// What must hold in every state, in every state of rest, and in silence.
#include <fmt/format.h>

#include "handoff_world.h"

namespace aether::model {

using namespace relay;
using Gate = Process::Gate;
using Exchange = Session::Exchange;

void HandoffWorld::broken(std::string promise) const {
  throw Broken{std::move(promise)};
}

Updates HandoffWorld::held_elsewhere(std::uint8_t than) const {
  Updates held = 0;
  for (std::uint8_t revision = 1; revision <= revisions_; ++revision) {
    Process const& p = process(revision);
    // Who retires is on his way out: his copy is nobody's hope.
    bool const stays = p.runs() && !retirements_.at(revision - 1U);
    if (revision == than || !stays) continue;
    held |= p.memory;
    for (std::size_t i = 0; i < p.in.size; ++i) held |= p.in.queue.at(i).memory;
  }
  for (Optional const& kept : {memory_, reclaimed_, orphaned_}) held |= kept.value_or(0);
  return held;
}

void HandoffWorld::check() const {
  if (steered(swap_) != RevisionId{steered_}) broken("new connections go where the swap says");
  int owners = 0;
  for (std::uint8_t revision = 1; revision <= revisions_; ++revision) {
    Process const& p = process(revision);
    bool const innocent = !p.broke && !p.late;
    if (p.works() && p.owns && innocent) ++owners;
  }
  if (owners > 1 && !forgets_) broken("at most one process takes itself for the memory's owner");
  for (std::uint8_t revision = 1; revision <= revisions_; ++revision) check_waiting(revision);
  bool const decided = idle() == !swap_runs_;
  if (!decided) broken("a swap that is over has ended");
  bool const timed = idle() || due(swap_).has_value();
  if (!timed) broken("every state of a swap has a deadline");
}

void HandoffWorld::check_waiting(std::uint8_t revision) const {
  Process const& p = process(revision);
  Session const& s = session(revision);
  bool const silent = p.in.empty() && p.out.empty() && s.exchange == Exchange::None;
  if (!p.runs() || !p.connected || !s.open || !silent) return;
  bool const forgotten = p.gate == Gate::Loading && !s.load_asked;
  if (forgotten) broken("who asks for its memory is answered");
  bool const soaks = std::holds_alternative<Soaking>(swap_) && revision == old_;
  bool const stands = p.gate == Gate::Quiesced && !release_waits_.at(revision - 1U);
  if (soaks && stands) broken("what waits at the old one is passed on while the new one soaks");
}

void HandoffWorld::check_release(std::uint8_t revision) const {
  std::uint8_t const other = revision == old_ ? next_ : old_;
  bool const has_it = !process(other).runs() || process(other).owns || !memory_;
  if (!has_it) broken("who is released has a successor that has the memory");
}

bool HandoffWorld::at_rest() const {
  if (!idle() || reload_waits_ || resuming_ != 0) return false;
  for (std::uint8_t revision = 1; revision <= revisions_; ++revision) {
    Process const& p = process(revision);
    Session const& s = session(revision);
    std::size_t const at = revision - 1U;
    bool const talks = p.runs() && (!p.in.empty() || p.connected != s.open);
    bool const heard = !s.open || (p.out.empty() && s.exchange == Exchange::None && p.connected);
    bool const ends = p.life == Process::Life::Dying || retirements_.at(at).has_value();
    bool const begins = p.runs() && !p.ready && p.gate != Gate::Failed;
    bool const moves_lane = lane_to_retire_.at(at) && steered_ != revision;
    bool const takes = p.works() && lanes_.at(at) != 0;
    bool const passes = p.runs() && p.gate == Gate::Released && lanes_.at(at) != 0;
    if (talks || !heard || ends || begins || moves_lane || takes || passes) return false;
  }
  return true;
}

/// Nobody is about to do anything: what was promised must have come about.
void HandoffWorld::check_rest() const {
  Process const& serving = process(serving_);
  if (serving_ != steered_) broken("who serves is who is steered to");
  if (restart_) {
    auto const lost = static_cast<Updates>(accepted_ & ~excused_ & ~orphaned_.value_or(0));
    if (lost != 0 && !forgets_ && !serving.broke)
      broken("what Aether still holds is kept for the restart");
    return;
  }
  if (!serving.runs()) broken("the serving revision lives, or the restart policy has it");
  for (std::uint8_t revision = 1; revision <= revisions_; ++revision) {
    bool const waits = lanes_.at(revision - 1U) != 0;
    if (waits && revision != serving_) broken("every lane has a living owner, or is rescued");
    if (process(revision).runs() && revision != serving_) broken("only who serves is left");
  }
  if (serving.gate != Gate::Open) {
    if (serving.late || serving.broke) return;
    broken("the serving revision works: it does not stand still, nor wait for ever");
  }
  auto const lost = static_cast<Updates>(accepted_ & ~excused_ & ~serving.memory);
  if (lost != 0 && !forgets_ && !serving.broke)
    broken("every update is in the memory of who serves in the end");
}

bool HandoffWorld::by_itself(Move move) {
  using enum Move::Kind;
  return move.kind == AetherSeesExit || move.kind == SwapTimer || move.kind == SessionTimer ||
         move.kind == RetirementTimer;
}

bool HandoffWorld::over() const {
  bool retires = false;
  for (auto const& retirement : retirements_) retires = retires || retirement;
  return idle() && !retires;
}

}  // namespace aether::model
