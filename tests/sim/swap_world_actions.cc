// SPDX-License-Identifier: Apache-2.0
// The shell of the simulation: hands events to the machine, performs what it asks for.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "swap_world.h"

namespace aether::sim {

using namespace relay;
using std::chrono::milliseconds;

void SwapWorld::tell(SwapEvent event) {
  inbox_.push_back(std::move(event));
  if (pending_.empty()) turn();
}

void SwapWorld::tell_later(SwapEvent event) {
  bool const reliable = plan_.must_succeed;
  if (!reliable && random_.one_in(60)) return note(fmt::format("lost: {}", event_name(event)));
  Duration const most = !reliable && random_.one_in(40) ? milliseconds(3000) : milliseconds(8);
  int const copies = random_.one_in(50) ? 2 : 1;
  for (int copy = 0; copy < copies; ++copy) {
    std::uint64_t const swap = swap_;
    agenda_.after(random_.between(milliseconds(0), most), [this, swap, event] {
      if (news_for(swap)) tell(event);
    });
  }
}

void SwapWorld::turn() {
  while (pending_.empty() && !inbox_.empty()) {
    SwapEvent const event = std::move(inbox_.front());
    inbox_.pop_front();
    std::size_t const before = state_.index();
    std::optional<Instant> const due_before = due(state_);
    SwapActions actions = step(state_, event, agenda_.now(), plan_.policy);
    note(fmt::format("{} -> {}", event_name(event), phase_name(state_)));
    ++statistics_.phases.at(state_.index());
    if (state_.index() != before || due(state_) != due_before) tick_when_due();
    for (SwapAction& action : actions) pending_.push_back(std::move(action));
    if (!pending_.empty()) perform_next();
  }
}

void SwapWorld::perform_next() {
  bool const at_once = random_.one_in(3);
  Duration const wait = at_once ? Duration::zero() : random_.between({}, milliseconds(2));
  agenda_.after(wait, [this] {
    if (plan_.sudden > 0 && random_.one_in(plan_.sudden)) {
      dies(find(random_.one_in(2) ? old_ : next_));
    }
    SwapAction const action = std::move(pending_.front());
    pending_.pop_front();
    ++statistics_.actions[std::string(action_name(action))];
    if (tracing_) {
      auto const revision = revision_of(action).value_or(RevisionId{});
      note(fmt::format("  {} {}", action_name(action), revision));
    }
    std::visit([this](auto const& a) { perform(a); }, action);
    pending_.empty() ? turn() : perform_next();
  });
}

void SwapWorld::tick_when_due() {
  std::optional<Instant> const at = due(state_);
  if (!at) return;
  std::uint64_t const swap = swap_;
  // Never early; a busy loop is late.
  Duration const wait = *at - agenda_.now() + random_.between({}, milliseconds(1));
  agenda_.after(wait, [this, swap] {
    if (news_for(swap)) tell(event::Tick{});
  });
}

void SwapWorld::perform(action::RunPreflight) {
  if (plan_.hooks == Fate::Hangs) return;
  bool const good = plan_.hooks == Fate::Good;
  std::uint64_t const swap = swap_;
  agenda_.after(random_.between({}, milliseconds(100)), [this, swap, good] {
    if (!news_for(swap)) return;
    // Nobody is launched beside as many as may live.
    if (good && !has_room()) return perform(action::RunPreflight{});
    good ? tell_later(event::PreflightPassed{}) : tell_later(event::PreflightFailed{"hook"});
  });
}

void SwapWorld::perform(action::Launch a) {
  ProcessPtr const process = start_process(a.revision);
  bool const again = a.revision == old_;
  if (plan_.launch == Fate::Fails) return dies(process);
  if (again) process->owner = has_memory_;
  if (plan_.launch == Fate::Hangs && !again) return;
  // The old one worked before: it may be too slow for the limit, but it comes.
  Duration const slow = plan_.launch == Fate::Hangs ? milliseconds(1500) : milliseconds(1);
  Duration const start = slow + random_.between({}, milliseconds(100));
  bool const asks = has_memory_ && plan_.asks && !again;
  if (!asks || plan_.asks_late) {
    agenda_.after(start, [this, process] { becomes_ready(process); });
  }
  if (!asks) return;
  Duration const more = plan_.asks_late ? milliseconds(20) : Duration::zero();
  agenda_.after(start + more, [this, process] { asks_memory(process); });
}

void SwapWorld::perform(action::SteerTo a) {
  steered_ = a.revision;
  percent_ = 100;
  lanes_.try_emplace(a.revision, 0U);
}

void SwapWorld::perform(action::Split a) {
  if (has_memory_) broken("memory has one owner at a time, who gets everything");
  steered_ = a.revision;
  percent_ = a.percent;
  other_ = a.other;
}

void SwapWorld::perform(action::WatchQueue a) {
  std::uint64_t const swap = swap_;
  agenda_.after(milliseconds(5), [this, swap, a] {
    if (!news_for(swap)) return;
    auto const lane = lanes_.find(a.revision);
    if (lane == lanes_.end()) return;
    if (lane->second > 0) return perform(a);
    tell_later(event::QueueEmpty{});
  });
}

void SwapWorld::perform(action::ExportMemory a) {
  ProcessPtr const old = find(a.from);
  if (!old || !old->runs()) return;
  serve_all(*old);
  old->quiesced = true;
  old->owner = false;
  floor_ = old->updates;
  if (plan_.exporting == Fate::Hangs) return;
  std::uint64_t const swap = swap_;
  agenda_.after(random_.between({}, milliseconds(20)), [this, swap, old] {
    if (!news_for(swap) || !old->runs()) return;
    if (plan_.exporting == Fate::Fails) return tell_later(event::ExportFailed{"the hook raised"});
    exported_ = old->updates;
    tell_later(event::Exported{});
  });
}

void SwapWorld::perform(action::DeliverMemory a) {
  ProcessPtr const next = find(a.to);
  std::optional<std::uint64_t> const memory = std::exchange(exported_, std::nullopt);
  if (!next || !next->runs()) return;
  if (plan_.delivery == Fate::Hangs && memory) return;
  std::uint64_t const swap = swap_;
  // The answer may arrive in the next swap, whose policy is another.
  bool const abort = plan_.policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Abort;
  agenda_.after(random_.between({}, milliseconds(20)), [this, swap, next, memory, abort] {
    if (!next->runs()) return;
    if (plan_.delivery == Fate::Fails && memory) {
      if (news_for(swap)) tell_later(event::DeliveryFailed{"checksum"});
      return;
    }
    delivered(next, memory, abort);
  });
}

void SwapWorld::delivered(ProcessPtr const& next, std::optional<std::uint64_t> memory, bool abort) {
  next->waiting = false;
  if (next->owner || next->quiesced) return;  // It asked twice; it was told so.
  ProcessPtr const old = find(old_);
  if (!memory && old && old->runs() && old->owner) {
    if (abort) broken("the old one's memory is not forgotten unless the policy says so");
    forgot_ = true;
  }
  if (!memory) may_forget_ = true;
  next->updates = memory.value_or(0);
  next->owner = true;
  next_owned_ = true;
  tell_later(event::Delivered{});
  agenda_.after(random_.between({}, milliseconds(10)), [this, next] { becomes_ready(next); });
  accept(next->revision);
}

void SwapWorld::perform(action::Release) {}

void SwapWorld::perform(action::ReclaimMemory a) {
  ProcessPtr const next = find(a.from);
  if (!next || !next->runs() || plan_.reclaim == Fate::Hangs) return;
  std::uint64_t const swap = swap_;
  agenda_.after(random_.between({}, milliseconds(20)), [this, swap, next] {
    if (!news_for(swap) || !next->runs()) return;
    if (!std::holds_alternative<Reclaiming>(state_)) return;
    if (plan_.reclaim == Fate::Fails || next->waiting) {
      return tell_later(event::Reclaimed{.memory = false});
    }
    serve_all(*next);
    next->quiesced = true;
    next->owner = false;
    reclaimed_ = next->updates;
    tell_later(event::Reclaimed{.memory = true});
  });
}

void SwapWorld::perform(action::Resume a) {
  ProcessPtr const process = find(a.revision);
  if (!process || !process->runs()) return;
  if (a.with_reclaimed_memory) {
    if (!reclaimed_) broken("the old one was to resume with memory that was never reclaimed");
    process->updates = *reclaimed_;
    ++statistics_.reclaimed;
  } else if (next_owned_ && a.revision == old_) {
    may_forget_ = true;  // What the new one changed is gone with it.
  }
  process->quiesced = false;
  process->owner = has_memory_;
  check_owners();
  accept(a.revision);
}

void SwapWorld::perform(action::StartJudge) {}
void SwapWorld::perform(action::StopJudge) {}

void SwapWorld::perform(action::Stop a) {
  stop(find(a.revision));
}

void SwapWorld::stop(ProcessPtr const& process) {
  if (!process || !process->runs() || plan_.ignores_stop) return;
  process->stopping = true;
  agenda_.after(random_.between(milliseconds(1), milliseconds(300)), [this, process] {
    if (!process->runs()) return;
    serve_all(*process);
    dies(process);
  });
}

void SwapWorld::perform(action::Kill a) {
  kill(find(a.revision));
}

void SwapWorld::kill(ProcessPtr const& process) {
  if (!process || !process->runs()) return;
  process->killed = true;
  dropped_ += std::exchange(process->held, 0U);
  if (process->owner) may_forget_ = true;
  process->owner = false;
  Duration const lingering = plan_.policy.stop_limit + milliseconds(500);
  Duration const wait = plan_.immortal ? lingering : random_.between({}, milliseconds(5));
  agenda_.after(wait, [this, process] { dies(process); });
}

void SwapWorld::perform(action::RetireLane a) {
  move_lane(a.revision);
}

bool SwapWorld::is_given(RevisionId revision) const {
  return revision == steered_ || (percent_ < 100 && revision == other_);
}

void SwapWorld::move_lane(RevisionId revision) {
  ProcessPtr const process = find(revision);
  if (process && process->runs()) broken("the lane of a living revision was retired");
  if (is_given(revision)) broken("the lane that is steered to was retired");
  auto const lane = lanes_.find(revision);
  if (lane == lanes_.end()) return;
  lanes_[steered_] += lane->second;
  lanes_.erase(revision);
  accept(steered_);
}

void SwapWorld::perform(action::Succeed const&) {
  ++verdicts_;
  succeeded_ = true;
  ++statistics_.succeeded;
  serving_ = next_;
  // It may have died while the verdict was on its way.
  ProcessPtr const next = find(next_);
  if (next && next->reported) plan_restart();
}

void SwapWorld::perform(action::Fail const&) {
  ++verdicts_;
  ++statistics_.failed;
  if (auto const* idle = std::get_if<Idle>(&state_)) serving_ = idle->serving;
  ProcessPtr const serving = find(serving_);
  if (serving && serving->reported) plan_restart();
}

void SwapWorld::perform(action::GiveUp const&) {
  gave_up_ = true;
  ++statistics_.gave_up;
  plan_restart();
}

}  // namespace aether::sim
