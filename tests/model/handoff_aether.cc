// SPDX-License-Identifier: Apache-2.0
// Aether: turns the real machines and performs their actions, as relay/service_*.cc does.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "handoff_world.h"
#include "model_time.h"

namespace aether::model {

using namespace relay;
using Kind = Message::Kind;
using Exchange = Session::Exchange;

namespace {

std::uint8_t number(RevisionId revision) {
  return static_cast<std::uint8_t>(revision.value);
}

}  // namespace

void HandoffWorld::begin(bool may) {
  if (!may || revisions_ >= kRevisions) return;
  next_ = ++revisions_;
  old_ = serving_;
  ++swap_number_;
  swap_runs_ = true;
  verdicts_ = 0;
  next_asked_ = reload_waits_ = false;
  bool const old_alive = process(old_).life != Process::Life::Gone && !restart_;
  if (!old_alive) memory_ = orphaned_;
  restart_ = false;
  post(event::ReloadRequested{RevisionId{next_}, old_alive});
}

void HandoffWorld::post_for(std::uint8_t swap, SwapEvent const& event) {
  if (swap_runs_ && swap == swap_number_) post(event);
}

void HandoffWorld::post(SwapEvent const& event) {
  // What an action tells at once is read after the turn, as in Service::Impl::post.
  inbox_.push_back(event);
  if (turning_) return;
  turning_ = true;
  while (!inbox_.empty()) {
    SwapEvent const next = std::move(inbox_.front());
    inbox_.erase(inbox_.begin());
    turn(next);
  }
  turning_ = false;
  if (idle() && reload_waits_) begin(true);
}

void HandoffWorld::turn(SwapEvent const& event) {
  SwapState const before = swap_;
  bool const tick = std::holds_alternative<event::Tick>(event);
  SwapActions actions = step(swap_, event, tick ? kDue : kNow, setup_->policy);
  bool const hastes = setup_->mutation == Mutation::RollbackDoesNotWait &&
                      std::holds_alternative<event::RollbackRequested>(event);
  if (hastes && actions.empty()) actions = step(swap_, event, kNow, setup_->policy);
  mutate(before, actions);
  normalise(swap_);
  auto const* handing = std::get_if<HandingOff>(&swap_);
  if (handing != nullptr && handing->forgets) forgets_ = true;
  for (SwapAction const& action : actions) perform(action);
  if (idle() && swap_runs_) swap_is_over();
}

void HandoffWorld::swap_is_over() {
  if (verdicts_ != 1) broken("a swap ends with exactly one verdict");
  swap_runs_ = preflight_ = judge_ = export_waits_ = false;
  memory_.reset();
  reclaimed_.reset();
  queue_watched_ = {};
  // Tasks that work for the swap end with it; a delivery does not, nor RESUME.
  for (Session& one : sessions_) {
    bool const of_swap = one.exchange == Exchange::Export || one.exchange == Exchange::Reclaim;
    if (of_swap) one.exchange = Exchange::None;
  }
}

void HandoffWorld::perform(SwapAction const& action) {
  auto const revision = number(revision_of(action).value_or(RevisionId{}));
  if (std::holds_alternative<action::RunPreflight>(action)) preflight_ = true;
  if (std::holds_alternative<action::StartJudge>(action)) judge_ = true;
  if (std::holds_alternative<action::StopJudge>(action)) judge_ = false;
  if (std::holds_alternative<action::Launch>(action)) {
    process(revision) = Process{};
    process(revision).life = Process::Life::Runs;
    process(revision).connected = true;
    session(revision) = Session{.open = true};
  }
  if (std::holds_alternative<action::SteerTo>(action)) {
    steered_ = revision;
    process(revision).reached = true;
  }
  if (std::holds_alternative<action::WatchQueue>(action)) queue_watched_.at(revision - 1U) = true;
  if (auto const* gone = std::get_if<action::Retire>(&action)) retire(revision, gone->farewell);
  if (std::holds_alternative<action::RetireLane>(action)) {
    lane_to_retire_.at(revision - 1U) = setup_->mutation != Mutation::LaneOfTheDeadStays;
  }
  if (std::holds_alternative<action::Succeed>(action)) {
    ++verdicts_;
    serving_ = next_;
    orphaned_.reset();
    // It died, and nobody could know: a crash after the verdict takes the memory along.
    if (!process(next_).runs()) excused_ |= process(next_).memory;
  }
  if (std::holds_alternative<action::Fail>(action)) {
    ++verdicts_;
    serving_ = steered_;
  }
  if (std::holds_alternative<action::GiveUp>(action)) {
    serving_ = steered_;
    if (reclaimed_ || memory_) orphaned_ = reclaimed_ ? reclaimed_ : memory_;
    restart_ = true;
  }
  perform_memory(action);
}

void HandoffWorld::perform_memory(SwapAction const& action) {
  auto const revision = number(revision_of(action).value_or(RevisionId{}));
  if (std::holds_alternative<action::ExportMemory>(action)) {
    export_from(revision, Exchange::Export);
  }
  if (std::holds_alternative<action::ReclaimMemory>(action)) {
    export_from(revision, Exchange::Reclaim);
  }
  if (std::holds_alternative<action::DeliverMemory>(action)) {
    bool const old_gone = process(old_).life == Process::Life::Gone;
    deliver(revision, memory_ || !old_gone ? memory_ : orphaned_, swap_number_);
  }
  if (std::holds_alternative<action::Release>(action)) {
    release_waits_.at(revision - 1U) = true;
    if (resuming_ == 0) release(revision);
  }
  if (auto const* resumes = std::get_if<action::Resume>(&action)) {
    resume(revision, resumes->with_reclaimed_memory ? reclaimed_ : Optional());
  }
}

bool HandoffWorld::speaks(std::uint8_t revision) const {
  return session(revision).open && process(revision).life != Process::Life::Gone;
}

void HandoffWorld::export_from(std::uint8_t revision, Exchange exchange) {
  bool const reclaims = exchange == Exchange::Reclaim;
  // It may still be taking back what an earlier swap moved.
  bool const cuts = setup_->mutation == Mutation::ResumeCutsHandBack;
  if (resuming_ == revision && !cuts) {
    export_waits_ = true;
    return;
  }
  bool const possible = speaks(revision) && session(revision).exchange == Exchange::None;
  if (!possible) {
    if (reclaims) return post(event::Reclaimed{false});
    return post(event::ExportFailed{"the connection is closed, or busy"});
  }
  session(revision).exchange = exchange;
  session(revision).swap = swap_number_;
  tell(revision, {.kind = Kind::Export});
}

void HandoffWorld::deliver(std::uint8_t revision, Optional memory, std::uint8_t swap) {
  Session& to = session(revision);
  bool const possible = speaks(revision) && to.exchange == Exchange::None && to.load_asked;
  if (!possible) return post_for(swap, event::DeliveryFailed{"nobody asks, or none is there"});
  to.load_asked = false;
  if (!memory) {
    if (setup_->mutation != Mutation::NoAnswerWithoutMemory) {
      tell(revision, {.kind = Kind::NoMemory});
    }
    return post_for(swap, event::Delivered{});
  }
  to.exchange = Exchange::Deliver;
  to.swap = swap;
  tell(revision, {.kind = Kind::State, .memory = *memory});
}

void HandoffWorld::resume(std::uint8_t revision, Optional memory) {
  // Until it has answered, Aether keeps what it handed over: should it die, that is not lost.
  bool const keeps = setup_->mutation != Mutation::NothingKept && (memory || memory_);
  if (keeps) orphaned_ = memory ? memory : memory_;
  if (!speaks(revision)) return;
  Session& to = session(revision);
  bool const yields = setup_->mutation == Mutation::ResumeYieldsToExport;
  if (yields && to.exchange != Exchange::None) return;
  bool const cuts = setup_->mutation == Mutation::ResumeCutsHandBack;
  if (resuming_ == revision && !cuts) return;  // Told already; once more changes nothing.
  resuming_ = revision;
  if (to.exchange != Exchange::None) exchange_fails(revision);
  if (!memory) return send_resume(revision);
  to.exchange = Exchange::ResumeState;
  tell(revision, {.kind = Kind::State, .memory = *memory});
}

void HandoffWorld::send_resume(std::uint8_t revision) {
  Session& to = session(revision);
  bool const attached = to.exchange == Exchange::ResumeState;
  to.exchange = Exchange::Resume;
  ++to.resumes_unanswered;
  tell(revision, {.kind = attached ? Kind::ResumeAttached : Kind::Resume});
}

void HandoffWorld::end_resume() {
  resuming_ = 0;
  if (std::exchange(export_waits_, false)) export_from(old_, Exchange::Export);
  for (std::uint8_t revision = 1; revision <= kRevisions; ++revision) {
    if (release_waits_.at(revision - 1U)) release(revision);
  }
}

void HandoffWorld::release(std::uint8_t revision) {
  release_waits_.at(revision - 1U) = false;
  if (!speaks(revision)) return;
  check_release(revision);
  tell(revision, {.kind = Kind::Release});
}

void HandoffWorld::tell(std::uint8_t revision, Message message) {
  if (!process(revision).connected) return;
  if (process(revision).in.full()) return close(revision);
  process(revision).in.push(message);
}

// ---- Retirement ---------------------------------------------------------------------------------

void HandoffWorld::retire(std::uint8_t revision, Farewell farewell) {
  RetirementActions actions;
  Retirement begun = begin_retirement(farewell, kNow, setup_->retirement, actions);
  normalise(begun);
  retirements_.at(revision - 1U) = begun;
  perform_all(revision, actions);
  bool const gone = process(revision).life == Process::Life::Gone;
  if (gone) retirement_event(revision, RetirementEvent::Exited);
}

void HandoffWorld::retirement_event(std::uint8_t revision, RetirementEvent event) {
  auto& retirement = retirements_.at(revision - 1U);
  if (!retirement) return;
  RetirementActions const actions =
      step(*retirement, event, event == RetirementEvent::Tick ? kDue : kNow);
  normalise(*retirement);
  if (is_over(*retirement)) retirement.reset();
  perform_all(revision, actions);
}

void HandoffWorld::perform_all(std::uint8_t revision, RetirementActions const& actions) {
  for (RetirementAction const action : actions) {
    if (action == RetirementAction::WatchQueue) drain_watched_.at(revision - 1U) = true;
    if (action == RetirementAction::Stop) process(revision).stop_asked = true;
    if (action == RetirementAction::Kill) dies(revision, false);
    if (action == RetirementAction::RetireLane) {
      drain_watched_.at(revision - 1U) = false;
      lane_to_retire_.at(revision - 1U) = setup_->mutation != Mutation::LaneOfTheDeadStays;
    }
  }
}

// ---- What is heard ------------------------------------------------------------------------------

void HandoffWorld::reads(std::uint8_t revision) {
  Message const message = process(revision).out.pop();
  Session& from = session(revision);
  if (message.kind == Kind::Load) return asked(revision);
  if (message.kind == Kind::Garbage) return close(revision);
  if (from.resumes_unanswered > 0) {
    if (message.kind != Kind::Resumed) return;  // It belongs to what was given up.
    bool const last = --from.resumes_unanswered == 0 && from.exchange == Exchange::Resume;
    if (!last) return;
    from.exchange = Exchange::None;
    orphaned_.reset();
    return end_resume();
  }
  answers(revision, message);
}

void HandoffWorld::asked(std::uint8_t revision) {
  if (session(revision).load_asked) return close(revision);
  session(revision).load_asked = true;
  if (process(revision).life == Process::Life::Gone) return;
  if (swap_runs_ && revision == next_ && !next_asked_) {
    next_asked_ = true;
    return post(event::NextAskedMemory{});
  }
  // What is kept is for who serves, not for a revision that is being ended and asks late.
  bool const serves = revision == serving_ || setup_->mutation == Mutation::KeptForAnyone;
  deliver(revision, serves ? std::exchange(orphaned_, std::nullopt) : std::nullopt, 0);
}

void HandoffWorld::answers(std::uint8_t revision, Message message) {
  Session& from = session(revision);
  switch (from.exchange) {
    case Exchange::None:
    case Exchange::Resume:
      return;
    case Exchange::Export:
    case Exchange::Reclaim:
      return exported(revision, message);
    case Exchange::Deliver: {
      bool const taken = message.kind == Kind::StateTaken && !message.damaged;
      if (!taken) return exchange_fails(revision);
      from.exchange = Exchange::None;
      return post_for(from.swap, event::Delivered{});
    }
    case Exchange::ResumeState: {
      bool const taken = message.kind == Kind::StateTaken && !message.damaged;
      if (taken) return send_resume(revision);
      return exchange_fails(revision);
    }
  }
}

void HandoffWorld::exported(std::uint8_t revision, Message message) {
  Session& from = session(revision);
  bool const reclaims = from.exchange == Exchange::Reclaim;
  bool const state = message.kind == Kind::State && !message.damaged;
  if (!state && message.kind != Kind::NoMemory) {
    if (message.kind == Kind::State) tell(revision, {.kind = Kind::StateRefused});
    return exchange_fails(revision);
  }
  from.exchange = Exchange::None;
  if (state) {
    // The ACK changes nothing for the child: it waits, quiesced. So it is left out.
    (reclaims ? reclaimed_ : memory_) = message.memory;
  }
  if (reclaims) return post_for(from.swap, event::Reclaimed{reclaimed_.has_value()});
  post_for(from.swap, event::Exported{});
}

/// Whatever ran on this connection ends without success.
void HandoffWorld::exchange_fails(std::uint8_t revision) {
  Session& of = session(revision);
  Exchange const failed = std::exchange(of.exchange, Exchange::None);
  if (failed == Exchange::Export) post_for(of.swap, event::ExportFailed{"it failed"});
  if (failed == Exchange::Reclaim) post_for(of.swap, event::Reclaimed{false});
  if (failed == Exchange::Deliver) post_for(of.swap, event::DeliveryFailed{"it failed"});
  if (failed == Exchange::Resume) end_resume();
  if (failed != Exchange::ResumeState) return;
  // It cannot work with what came back: its own memory is better than to stand still.
  bool const left_alone = setup_->mutation == Mutation::UnreadableIsLeftAlone;
  if (speaks(revision) && !left_alone) return send_resume(revision);
  end_resume();
}

void HandoffWorld::close(std::uint8_t revision) {
  session(revision).open = false;
  exchange_fails(revision);
  session(revision) = Session{};
}

void HandoffWorld::exit_seen(std::uint8_t revision) {
  Process const was = process(revision);
  process(revision) =
      Process{};  // Nothing of it matters any more: states that differ in it are one.
  process(revision).life = Process::Life::Gone;
  process(revision).broke = was.broke;
  close(revision);
  if (retirements_.at(revision - 1U)) return retirement_event(revision, RetirementEvent::Exited);
  if (swap_runs_ && revision == next_) return post(event::NextExited{"it died"});
  if (swap_runs_ && revision == old_) return post(event::OldExited{"it died"});
  if (revision == serving_) restart_ = true;
}

}  // namespace aether::model
