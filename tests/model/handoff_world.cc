// SPDX-License-Identifier: Apache-2.0
// What can happen next, and making it happen.
#include "handoff_world.h"

#include "model_time.h"

namespace aether::model {

using namespace relay;
using Gate = Process::Gate;
using Exchange = Session::Exchange;

HandoffWorld::HandoffWorld(Setup const* setup) : setup_(setup), swap_(Idle{RevisionId{1}}) {
  Process& first = process(1);
  first.life = Process::Life::Runs;
  first.gate = Gate::Open;
  first.owns = first.ready = first.connected = first.reached = true;
  session(1).open = true;
}

std::vector<Move> HandoffWorld::moves() const {
  std::vector<Move> found;
  list_outside(found);
  for (std::uint8_t revision = 1; revision <= revisions_; ++revision) {
    if (process(revision).runs()) list_process(found, revision);
  }
  list_aether(found);
  return found;
}

void HandoffWorld::list_outside(std::vector<Move>& found) const {
  using enum Move::Kind;
  Bounds const& bounds = setup_->bounds;
  if (sent_ < bounds.updates) {
    found.push_back({ClientConnects});
    for (std::uint8_t revision = 1; revision <= revisions_; ++revision) {
      Process const& p = process(revision);
      if (p.works() && p.reached) found.push_back({ClientSendsOn, revision});
    }
  }
  if (idle() && swap_number_ < bounds.swaps && !reload_waits_) found.push_back({Reload});
  if (preflight_) found.push_back({PreflightPasses});
  if (wishes_ >= bounds.wishes || idle()) return;
  found.push_back({Rollback});
  if (preflight_) found.push_back({PreflightFails});
  if (judge_) found.push_back({Sick});
  if (swap_number_ < bounds.swaps && !reload_waits_) found.push_back({ForceReload});
}

void HandoffWorld::list_process(std::vector<Move>& found, std::uint8_t revision) const {
  using enum Move::Kind;
  Process const& p = process(revision);
  Session const& s = session(revision);
  if (p.gate == Gate::Starting && p.connected) found.push_back({AsksMemory, revision});
  if (p.gate == Gate::Open && !p.ready) found.push_back({BecomesReady, revision});
  if (!p.in.empty()) found.push_back({TakesMessage, revision});
  bool const ended = p.connected && !s.open && p.in.empty();
  if (ended) found.push_back({NoticesTheEnd, revision});
  if (p.stop_asked) found.push_back({StopsAsAsked, revision});
  bool const comes_back = !p.connected && !s.open && p.ready;
  if (comes_back) found.push_back({ConnectsAgain, revision});
  bool const takes_work = p.gate == Gate::Open || p.gate == Gate::Released;
  bool const elsewhere = p.gate == Gate::Open || steered_ != revision;
  if (takes_work && elsewhere && lanes_.at(revision - 1U) != 0) {
    found.push_back({Accepts, revision});
  }
  if (faults_ >= setup_->bounds.faults) return;
  found.push_back({Dies, revision});
  if (p.connected && s.open) found.push_back({CutsConnection, revision});
  if (p.gate == Gate::Starting) found.push_back({ForgetsToAsk, revision});
  list_badly(found, revision);
}

void HandoffWorld::list_badly(std::vector<Move>& found, std::uint8_t revision) const {
  Process const& p = process(revision);
  if (p.in.empty()) return;
  Message::Kind const kind = p.in.queue.at(0).kind;
  if (kind != Message::Kind::Export && kind != Message::Kind::State) return;
  std::uint8_t const ways = kind == Message::Kind::Export ? 4 : 3;
  for (std::uint8_t way = 0; way < ways; ++way) {
    found.push_back({Move::Kind::TakesMessageBadly, revision, way});
  }
}

void HandoffWorld::list_aether(std::vector<Move>& found) const {
  using enum Move::Kind;
  for (std::uint8_t revision = 1; revision <= revisions_; ++revision) {
    Process const& p = process(revision);
    Session const& s = session(revision);
    std::size_t const at = revision - 1U;
    if (s.open && !p.out.empty()) found.push_back({AetherReads, revision});
    if (s.open && p.out.empty() && !p.connected) found.push_back({AetherSeesTheEnd, revision});
    if (p.life == Process::Life::Dying) found.push_back({AetherSeesExit, revision});
    bool const watched = queue_watched_.at(at) || drain_watched_.at(at);
    if (watched && lanes_.at(at) == 0) found.push_back({QueueIsEmpty, revision});
    bool const retires = lane_to_retire_.at(at) && steered_ != revision;
    if (retires && p.life == Process::Life::Gone) found.push_back({LaneIsRetired, revision});
    if (s.exchange != Exchange::None) found.push_back({SessionTimer, revision});
    if (retirements_.at(at)) found.push_back({RetirementTimer, revision});
  }
  bool const timers = setup_->mutation != Mutation::NoDeadlines;
  if (due(swap_) && timers) found.push_back({SwapTimer});
}

void HandoffWorld::make(Move move) {
  switch (move.kind) {
    case Move::Kind::ClientConnects:
    case Move::Kind::ClientSendsOn:
    case Move::Kind::Reload:
    case Move::Kind::ForceReload:
    case Move::Kind::Rollback:
    case Move::Kind::Sick:
    case Move::Kind::PreflightPasses:
    case Move::Kind::PreflightFails:
      make_outside(move);
      break;
    case Move::Kind::AetherReads:
    case Move::Kind::AetherSeesTheEnd:
    case Move::Kind::AetherSeesExit:
    case Move::Kind::QueueIsEmpty:
    case Move::Kind::LaneIsRetired:
      make_aether(move);
      break;
    case Move::Kind::SessionTimer:
    case Move::Kind::SwapTimer:
    case Move::Kind::RetirementTimer:
      make_timer(move);
      break;
    default:
      make_program(move);
  }
  check();
  if (at_rest()) check_rest();
}

void HandoffWorld::make_outside(Move move) {
  using enum Move::Kind;
  auto const update = static_cast<Updates>(1U << sent_);
  bool const wish = move.kind == Rollback || move.kind == ForceReload || move.kind == Sick ||
                    move.kind == PreflightFails;
  if (wish) ++wishes_;
  auto const* handing = std::get_if<HandingOff>(&swap_);
  bool const asked_twice = wish && handing != nullptr && !handing->rollback.empty();
  if (asked_twice) process(next_).late = true;  // Whoever is in haste does not wait for it.
  if (move.kind == ClientConnects) {
    ++sent_;
    lanes_.at(steered_ - 1U) |= update;
  }
  if (move.kind == ClientSendsOn) {
    ++sent_;
    process(move.revision).memory |= update;
    accepted_ |= update;
  }
  if (move.kind == Reload) begin(true);
  if (move.kind == Rollback) post(event::RollbackRequested{"asked"});
  if (move.kind == Sick) post(event::NextSick{"probe"});
  if (move.kind == ForceReload) {
    reload_waits_ = true;
    post(event::RollbackRequested{"superseded"});
  }
  bool const passes = move.kind == PreflightPasses;
  if (!passes && move.kind != PreflightFails) return;
  preflight_ = false;
  passes ? post(event::PreflightPassed{}) : post(event::PreflightFailed{"hook"});
}

void HandoffWorld::make_aether(Move move) {
  using enum Move::Kind;
  std::size_t const at = move.revision - 1U;
  if (move.kind == AetherReads) reads(move.revision);
  if (move.kind == AetherSeesTheEnd) close(move.revision);
  if (move.kind == AetherSeesExit) exit_seen(move.revision);
  if (move.kind == LaneIsRetired) {
    lane_to_retire_.at(at) = false;
    Updates const taken = lanes_.at(at);
    lanes_.at(at) = 0;
    lanes_.at(steered_ - 1U) |= taken;
  }
  if (move.kind != QueueIsEmpty) return;
  bool const drains = std::exchange(drain_watched_.at(at), false);
  bool const swaps = std::exchange(queue_watched_.at(at), false);
  if (drains) retirement_event(move.revision, RetirementEvent::QueueEmpty);
  if (swaps) post(event::QueueEmpty{});
}

/// A timer that ends while somebody could still have answered makes that one late.
void HandoffWorld::make_timer(Move move) {
  using enum Move::Kind;
  if (move.kind == SessionTimer) {
    process(move.revision).late = true;
    // It may be slow to say that it has its memory back; it finds that before the RESUME.
    bool const hands_back = session(move.revision).exchange == Exchange::ResumeState;
    bool const drops = setup_->mutation == Mutation::SlowOneKeepsItsOwn;
    if (hands_back && !drops) return send_resume(move.revision);
    // Who does not even answer RESUME is cut off: it works on by itself, and comes back.
    bool const mute = session(move.revision).exchange == Exchange::Resume;
    return mute ? close(move.revision) : exchange_fails(move.revision);
  }
  if (move.kind == RetirementTimer) {
    auto const& retirement = retirements_.at(move.revision - 1U);
    if (retirement->stage == Retirement::Stage::Ending) process(move.revision).late = true;
    return retirement_event(move.revision, RetirementEvent::Tick);
  }
  bool const exporting = std::holds_alternative<HandingOff>(swap_) &&
                         std::get<HandingOff>(swap_).stage == HandingOff::Stage::Exporting;
  bool const empties = std::holds_alternative<HandingOff>(swap_) &&
                       std::get<HandingOff>(swap_).stage == HandingOff::Stage::EmptyingQueue;
  bool const waits = std::holds_alternative<Soaking>(swap_) ||
                     std::holds_alternative<WarmingUp>(swap_) ||
                     std::holds_alternative<Preflight>(swap_) || empties;
  if (!waits) process(exporting ? old_ : next_).late = true;
  post(event::Tick{});
}

}  // namespace aether::model
