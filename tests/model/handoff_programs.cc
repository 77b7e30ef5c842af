// SPDX-License-Identifier: Apache-2.0
// The programs: what the SDK (sdk/python/aeterna/relay.py) does, and what a bad one may do.
#include <bit>

#include "handoff_world.h"

namespace aether::model {

using Kind = Message::Kind;
using OnHandoffFailure = relay::SwapPolicy::OnHandoffFailure;
using Gate = Process::Gate;

Message Channel::pop() {
  Message const first = queue.at(0);
  for (std::size_t i = 1; i < size; ++i) queue.at(i - 1) = queue.at(i);
  queue.at(--size) = Message{};
  return first;
}

void HandoffWorld::says(std::uint8_t revision, Message message) {
  Process& p = process(revision);
  if (!p.connected || !session(revision).open) return;
  if (!p.out.full()) p.out.push(message);
}

void HandoffWorld::make_program(Move move) {
  Process& p = process(move.revision);
  switch (move.kind) {
    case Move::Kind::AsksMemory:
      p.gate = Gate::Loading;
      return says(move.revision, {.kind = Kind::Load});
    case Move::Kind::ForgetsToAsk:
      ++faults_;
      p.gate = Gate::Open;
      if (setup_->policy.on_handoff_failure == OnHandoffFailure::Continue) forgets_ = true;
      return;
    case Move::Kind::BecomesReady: {
      p.ready = true;
      if (!swap_runs_ || move.revision != next_) return;
      bool const old_has_memory = process(old_).life != Process::Life::Gone && speaks(old_);
      return post(relay::event::NextReady{.forgets_memory = !next_asked_ && old_has_memory});
    }
    case Move::Kind::TakesMessage:
      return takes(move.revision);
    case Move::Kind::TakesMessageBadly:
      ++faults_;
      return takes_badly(move.revision, move.way);
    case Move::Kind::NoticesTheEnd:
      p.connected = false;
      p.out = {};
      // Outside a handoff it works on; who was promised memory ends instead (HandoffError).
      if (p.gate == Gate::Quiesced) p.gate = Gate::Open;
      if (p.gate == Gate::Loading) dies(move.revision, true);
      return;
    case Move::Kind::StopsAsAsked:
      return dies(move.revision, false);
    case Move::Kind::ConnectsAgain:
      p.connected = true;
      session(move.revision) = Session{.open = true};
      return;
    case Move::Kind::Dies:
      ++faults_;
      return dies(move.revision, true);
    case Move::Kind::CutsConnection:
      ++faults_;
      p.broke = true;
      p.connected = false;
      p.in = {};
      if (p.gate == Gate::Quiesced) p.gate = Gate::Open;
      if (p.gate == Gate::Loading) dies(move.revision, true);
      return;
    case Move::Kind::Accepts:
      return accepts(move.revision);
    default:
      broken("no move of a program");
  }
}

void HandoffWorld::takes(std::uint8_t revision) {
  Process& p = process(revision);
  Message const message = p.in.pop();
  switch (message.kind) {
    case Kind::Export:
      if (p.gate == Gate::Starting || p.gate == Gate::Loading) {
        return says(revision, {.kind = Kind::NoMemory});
      }
      if (p.gate == Gate::Released) return says(revision, {.kind = Kind::ExportRefused});
      if (setup_->mutation != Mutation::OldWorksWhileExported) p.gate = Gate::Quiesced;
      return says(revision, {.kind = Kind::State, .memory = p.memory});
    case Kind::State:
      if (p.gate == Gate::Loading) {
        p.memory = message.memory;
        p.owns = true;
        p.gate = Gate::Open;
      } else {
        p.has_attached = true;
        p.attached = message.memory;
      }
      return says(revision, {.kind = Kind::StateTaken});
    case Kind::NoMemory:
      if (p.gate != Gate::Loading) return;
      p.gate = Gate::Open;
      p.owns = true;
      return;
    case Kind::StateRefused:
      if (p.gate == Gate::Quiesced) p.gate = Gate::Open;
      return;
    case Kind::Resume:
    case Kind::ResumeAttached:
      if (message.kind == Kind::ResumeAttached && p.has_attached) p.memory = p.attached;
      p.has_attached = false;
      p.attached = 0;
      p.gate = Gate::Open;
      return says(revision, {.kind = Kind::Resumed});
    case Kind::Release:
      p.gate = Gate::Released;
      return;
    default:
      return;
  }
}

/// 0: it says that it cannot; 1: what it answers is damaged; 2: garbage; 3: it says it has none.
void HandoffWorld::takes_badly(std::uint8_t revision, std::uint8_t way) {
  Process& p = process(revision);
  Message const message = p.in.pop();
  if (way == 2) {
    p.broke = true;
    return says(revision, {.kind = Kind::Garbage});
  }
  if (message.kind == Kind::Export) {
    p.keeps = true;
    if (way == 0) return says(revision, {.kind = Kind::ExportRefused});
    p.gate = Gate::Quiesced;
    if (way == 1) return says(revision, {.kind = Kind::State, .memory = p.memory, .damaged = true});
    excused_ |= p.memory;
    return says(revision, {.kind = Kind::NoMemory});
  }
  // A state: it cannot be read, or its ACK repeats something else.
  bool const loading = p.gate == Gate::Loading;
  p.late = p.late || loading;
  // Memory that it gets back and cannot read is gone with who changed it.
  if (!loading) excused_ |= message.memory;
  if (way == 0) {
    if (loading) p.gate = Gate::Failed;
    return says(revision, {.kind = Kind::StateRefused});
  }
  if (loading) {
    p.gate = Gate::Open;
    p.memory = message.memory;
    p.owns = true;
  }
  says(revision, {.kind = Kind::StateTaken, .damaged = true});
}

/// The process runs no code any more. What only it had is excused if that was its own doing, or if
/// it had not kept to its time; else Aether must not have ended it.
void HandoffWorld::dies(std::uint8_t revision, bool by_itself) {
  Process& p = process(revision);
  if (!p.runs()) return;
  p.life = Process::Life::Dying;
  Updates own = p.memory;
  for (std::size_t i = 0; i < p.in.size; ++i) own |= p.in.queue.at(i).memory;
  p.in = {};
  own &= accepted_;
  // Who works on his own memory and crashes takes it along, whatever older copies there are.
  bool const keeper = revision == (swap_runs_ ? old_ : serving_) && p.gate == Gate::Open;
  if (by_itself && keeper) excused_ |= own;
  auto const lost = static_cast<Updates>(own & ~held_elsewhere(revision) & ~excused_);
  if (lost == 0) return;
  bool const excused = by_itself || p.late || p.broke || p.keeps || !p.owns || forgets_;
  if (!excused) broken("Aether ends a process that alone has what clients were told is done");
  excused_ |= lost;
}

void HandoffWorld::accepts(std::uint8_t revision) {
  Process& p = process(revision);
  Updates& lane = lanes_.at(revision - 1U);
  auto const first = static_cast<Updates>(1U << std::countr_zero(lane));
  lane = static_cast<Updates>(lane & ~first);
  if (p.gate == Gate::Released) {
    lanes_.at(steered_ - 1U) |= first;  // Passed on to the listener's address.
    return;
  }
  p.memory |= first;
  accepted_ |= first;
}

}  // namespace aether::model
