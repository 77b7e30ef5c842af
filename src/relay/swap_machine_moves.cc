// SPDX-License-Identifier: Apache-2.0
#include "relay/swap_machine_moves.h"

#include <fmt/format.h>

namespace aether::relay::swap {

std::string late(std::string_view what, Duration limit) {
  return fmt::format("{} within {}", what, format_duration(limit));
}

void Moves::steer(Sides& sides, RevisionId revision) {
  sides.steered = revision;
  perform(action::SteerTo{revision});
}

void Moves::launch(Sides sides) {
  perform(action::Launch{sides.next});
  if (!sides.old_alive) take_over(sides);
  state = Launching{sides, now + policy.launch_limit};
}

void Moves::take_over(Sides& sides) {
  sides.old_alive = false;
  steer(sides, sides.next);
  perform(action::RetireLane{sides.old});
}

void Moves::ready(Sides const& sides) {
  if (policy.warmup > Duration::zero()) {
    state = WarmingUp{sides, now + policy.warmup, false, true};
  } else {
    cut_over(sides);
  }
}

void Moves::cut_over(Sides sides) {
  bool const may_split = sides.old_alive && !exclusive() && policy.soak > Duration::zero();
  if (may_split && !policy.parts.empty()) return soak_in_parts(sides);
  if (sides.steered != sides.next) steer(sides, sides.next);
  soak(sides);
}

void Moves::hand_off(Sides sides, bool next_ready) {
  if (!sides.old_alive) {
    deliver(HandingOff{sides, now + policy.handoff_limit, {}, next_ready});
    return;
  }
  steer(sides, sides.next);
  perform(action::WatchQueue{sides.old});
  state = HandingOff{sides, now + policy.empty_queue_limit, HandingOff::Stage::EmptyingQueue,
                     next_ready};
}

void Moves::export_memory(HandingOff s) {
  perform(action::ExportMemory{s.old});
  s.memory = Memory::Exported;
  s.stage = HandingOff::Stage::Exporting;
  s.due = now + policy.handoff_limit;
  state = s;
}

void Moves::export_failed(HandingOff s, std::string why) {
  if (!s.old_alive) {
    // Nobody has the memory any more, and there is nobody to go back to.
    s.due = now + policy.handoff_limit;
    deliver(s);
    return;
  }
  if (policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Abort) {
    roll_back(s, std::move(why));
    return;
  }
  s.forgets = true;
  // The export may have used up the time of both: being told that there is nothing needs its own.
  s.due = now + policy.handoff_limit;
  deliver(s);
}

void Moves::deliver(HandingOff s) {
  perform(action::DeliverMemory{s.next});
  s.stage = HandingOff::Stage::Delivering;
  state = s;
}

void Moves::delivered(HandingOff s) {
  // What the old one could not export it still has: a rollback must not overwrite that.
  if (!s.forgets) s.memory = Memory::Moved;
  if (!s.rollback.empty()) return roll_back_served(s, s.rollback);
  if (s.old_alive) perform(action::Release{s.old});
  if (s.next_ready) {
    soak(s);
  } else {
    state = AwaitingReady{s, now + policy.launch_limit};
  }
}

void Moves::handoff_late(HandingOff s) {
  switch (s.stage) {
    case HandingOff::Stage::EmptyingQueue:
      // Connections that the old one does not accept are brought over when its lane is retired.
      export_memory(s);
      break;
    case HandingOff::Stage::Exporting:
      // The old one may still be at it: nothing is known of its memory but that it is its own.
      export_failed(s, late("the old revision did not hand over its memory", policy.handoff_limit));
      break;
    case HandingOff::Stage::Delivering:
      delivery_failed(s, late("the new revision did not take its memory", policy.handoff_limit));
      break;
  }
}

void Moves::delivery_failed(HandingOff const& s, std::string why) {
  if (!s.rollback.empty()) why = s.rollback;
  roll_back(s, std::move(why));
}

void Moves::roll_back_handoff(HandingOff s, std::string why) {
  // The new one may work with the memory already, and have told clients so, before its word of that
  // is here: once it is, the memory comes back with what was added. Whoever asks again is in haste.
  bool const may_have_it = s.stage == HandingOff::Stage::Delivering && !s.forgets;
  if (!may_have_it || !s.rollback.empty()) return roll_back(s, std::move(why));
  s.rollback = why.empty() ? "a rollback was requested" : std::move(why);
  state = std::move(s);
}

void Moves::soak(Sides const& sides) {
  if (policy.soak <= Duration::zero()) {
    succeed(sides, "no soak time is configured");
    return;
  }
  perform(action::StartJudge{});
  state = Soaking{sides, now + policy.soak, now, policy.parts.size()};
}

void Moves::soak_in_parts(Sides sides) {
  sides.steered = sides.next;
  Soaking s{sides, {}, now, 0};
  enter_part(s);
  perform(action::StartJudge{});
  state = s;
}

void Moves::enter_part(Soaking& s) {
  perform(action::Split{s.next, s.old, policy.parts.at(s.part).percent});
  bool const is_last = s.part + 1 == policy.parts.size();
  s.due = s.began + (is_last ? policy.soak : policy.parts.at(s.part + 1).after);
}

void Moves::soaked(Soaking s) {
  bool const goes_on = is_split(s) && s.part + 1 < policy.parts.size();
  if (goes_on) {
    ++s.part;
    enter_part(s);
    state = s;
    return;
  }
  if (is_split(s)) steer(s, s.next);
  succeed(s, {});
}

void Moves::promote(Sides const& sides, std::string_view how_old_ended) {
  succeed(sides, fmt::format("the new revision serves before its soak was over, because {}",
                             how_old_ended));
}

void Moves::succeed(Sides const& sides, std::string note) {
  perform(action::StopJudge{}, action::Succeed{std::move(note)});
  if (sides.old_alive) {
    perform(action::Retire{sides.old, Farewell::Drain});
  } else {
    perform(action::RetireLane{sides.old});
  }
  state = Idle{sides.next};
}

void Moves::fail_idle(Sides const& sides, std::string why) {
  perform(action::Fail{why});
  if (!sides.old_alive) perform(action::GiveUp{std::move(why)});
  state = Idle{sides.old};
}

void Moves::roll_back(Sides const& sides, std::string why) {
  begin_rollback(Reclaiming{sides, {}, std::move(why), false});
}

void Moves::roll_back_served(Sides const& sides, std::string why) {
  begin_rollback(Reclaiming{sides, {}, std::move(why), true});
}

void Moves::begin_rollback(Reclaiming s) {
  perform(action::StopJudge{});
  if (exclusive()) {
    perform(action::Kill{s.next});
    state = Relaunching{s, now + policy.stop_limit, Relaunching::Stage::EndingNext,
                        std::move(s.reason)};
    return;
  }
  // Without an old process the new one keeps the connections until it is gone.
  if (s.old_alive && s.steered != s.old) steer(s, s.old);
  if (s.memory != Memory::Moved) return take_back(std::move(s), false);
  perform(action::ReclaimMemory{s.next});
  s.due = now + policy.handoff_limit;
  state = std::move(s);
}

void Moves::take_back(Reclaiming s, bool with_reclaimed_memory) {
  bool const gave_memory_back = s.memory == Memory::Moved && with_reclaimed_memory;
  bool const has_no_memory = s.memory == Memory::Untouched;
  bool const may_finish = s.old_alive && s.next_served && (gave_memory_back || has_no_memory);
  if (may_finish) {
    resume_old(s, with_reclaimed_memory);
    // What it still holds it passes on to the old one, which has the memory again.
    if (gave_memory_back) perform(action::Release{s.next});
    perform(action::Retire{s.next, Farewell::Drain});
  } else {
    // In this order, so that two processes never change the same memory: the new one may have
    // begun to, without our having heard of it.
    if (s.steered != s.old) steer(s, s.old);
    perform(action::Retire{s.next, Farewell::AtOnce});
    resume_old(s, with_reclaimed_memory);
  }
  fail_idle(s, std::move(s.reason));
}

void Moves::resume_old(Sides& sides, bool with_reclaimed_memory) {
  if (!sides.old_alive || sides.memory == Memory::Untouched) return;
  perform(action::Resume{sides.old, with_reclaimed_memory});
  sides.memory = Memory::Untouched;
}

void Moves::next_died(Sides sides, std::string why) {
  perform(action::StopJudge{});
  if (exclusive()) {
    relaunch(Relaunching{sides, {}, {}, std::move(why)});
    return;
  }
  next_gone(sides, std::move(why));
}

void Moves::next_gone(Sides sides, std::string why) {
  if (sides.steered != sides.old) steer(sides, sides.old);
  resume_old(sides, false);
  perform(action::RetireLane{sides.next});
  fail_idle(sides, std::move(why));
}

void Moves::serve_on_with_next(Reclaiming s) {
  steer(s, s.next);
  perform(action::Resume{s.next}, action::RetireLane{s.old},
          action::Fail{fmt::format("{}; the old revision died while it was being brought back, so "
                                   "the new one serves on",
                                   s.reason)});
  state = Idle{s.next};
}

void Moves::relaunch(Relaunching s) {
  if (s.steered != s.old) {
    steer(s, s.old);
    perform(action::RetireLane{s.next});
  }
  perform(action::Launch{s.old});
  s.stage = Relaunching::Stage::Starting;
  s.due = now + policy.launch_limit;
  state = std::move(s);
}

}  // namespace aether::relay::swap
