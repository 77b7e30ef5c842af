// SPDX-License-Identifier: Apache-2.0
// One swap's plan and disturbances, and the promises that are checked.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "swap_world.h"

namespace aether::sim {

using namespace relay;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

/// More than all limits of a swap together.
constexpr Duration kSwapLimit = seconds(60);
constexpr Duration kSettleLimit = seconds(30);

}  // namespace

void SwapWorld::swap_once() {
  ProcessPtr const serving = find(serving_);
  draw_plan();
  most_before_ = processes_.size();
  ++swap_;
  ++statistics_.swaps;
  old_ = serving_;
  next_ = RevisionId{++revisions_};
  old_process_ = serving;
  verdicts_ = 0;
  succeeded_ = false;
  gave_up_ = next_owned_ = forgot_ = false;
  exported_.reset();
  reclaimed_.reset();
  floor_ = 0;
  // The restart policy stands back while a swap runs.
  ++restart_round_;
  restart_planned_ = false;
  for (ProcessPtr const& process : processes_) process->past = process != serving;
  for (ProcessPtr const& process : processes_)
    if (process->past) process->owner = false;
  make_room();
  plan_disturbances();
  Instant const began = agenda_.now();
  note(fmt::format("---- swap {} from {} to {}", swap_, old_, next_));
  tell(event::ReloadRequested{next_, serving && !serving->reported});
  while (!is_idle(state_) || !pending_.empty() || !inbox_.empty()) {
    ++statistics_.happenings;
    agenda_.turn();
    check();
    if (agenda_.now() - began > kSwapLimit) broken("every swap ends");
  }
  check_end();
  // Otherwise the next swap begins while revisions of this one, and of earlier ones, still drain.
  if (random_.one_in(2)) settle();
  std::erase_if(processes_, [this](ProcessPtr const& process) {
    return process->reported && process->revision != serving_;
  });
  statistics_.connections = arrived_;
  if (plan_.must_succeed) ++statistics_.had_to_succeed;
  statistics_.dropped = dropped_;
}

void SwapWorld::draw_plan() {
  auto const fate = [this](std::uint64_t times) {
    if (!random_.one_in(times)) return Fate::Good;
    return random_.one_in(2) ? Fate::Fails : Fate::Hangs;
  };
  SwapPolicy policy;
  policy.overlap = random_.one_in(5) ? SwapPolicy::Overlap::No : SwapPolicy::Overlap::Yes;
  policy.on_handoff_failure = random_.one_in(3) ? SwapPolicy::OnHandoffFailure::Continue
                                                : SwapPolicy::OnHandoffFailure::Abort;
  policy.preflight_limit = seconds(3);
  policy.launch_limit = seconds(1);
  policy.warmup = milliseconds(random_.one_in(4) ? 50 : 0);
  policy.empty_queue_limit = milliseconds(100);
  policy.handoff_limit = milliseconds(200);
  policy.soak = milliseconds(random_.one_in(4) ? 0 : 400);
  policy.drain_limit = milliseconds(250);
  policy.stop_limit = milliseconds(200);
  plan_ = Plan{.policy = policy,
               .hooks = fate(40),
               .launch = fate(25),
               .exporting = fate(12),
               .delivery = fate(12),
               .reclaim = fate(3),
               .asks = !random_.one_in(15),
               .asks_late = random_.one_in(15),
               .ignores_stop = random_.one_in(10),
               .immortal = random_.one_in(25),
               .retirement = draw_retirement(),
               .revisions_max = 2 + random_.below(3),
               .sudden = random_.one_in(3) ? 15U : 0U};
  bool const exclusive = policy.overlap == SwapPolicy::Overlap::No;
  has_memory_ = !exclusive && !random_.one_in(3);
  if (!exclusive && !has_memory_ && random_.one_in(2)) {
    plan_.policy.parts = {{milliseconds(0), 10}, {milliseconds(100), 50}};
  }
  // Whoever serves now has whatever memory there is.
  ProcessPtr const serving = find(serving_);
  bool const runs = serving && serving->runs();
  if (runs) serving->owner = has_memory_;
  applied_ = runs ? serving->updates : 0;
  may_forget_ = !runs;
  if (runs && serving->ready && random_.one_in(4)) let_it_succeed();
}

RetirementPolicy SwapWorld::draw_retirement() {
  using Stop = RetirementPolicy::Stop;
  constexpr std::array kStops{Stop::AfterQueue, Stop::WhenIdle, Stop::AtDeadline};
  return {.stop = kStops.at(random_.below(3)),
          .empty_queue_limit = milliseconds(100),
          .drain_limit = milliseconds(random_.one_in(3) ? 2000 : 250),
          .stop_limit = milliseconds(200),
          .kill_limit = milliseconds(200)};
}

void SwapWorld::let_it_succeed() {
  bool const forgetful = plan_.policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Continue;
  plan_.must_succeed = true;
  plan_.hooks = plan_.launch = plan_.delivery = Fate::Good;
  plan_.immortal = false;
  plan_.sudden = 0;
  if (forgetful) return;
  plan_.exporting = Fate::Good;
  plan_.asks = true;
  plan_.asks_late = false;
}

void SwapWorld::plan_disturbances() {
  if (plan_.must_succeed || random_.one_in(3)) return;
  std::uint64_t const swap = swap_;
  for (std::uint64_t count = random_.below(3); count > 0; --count) {
    agenda_.after(random_.between({}, milliseconds(900)), [this, swap] {
      if (news_for(swap)) disturb();
    });
  }
}

void SwapWorld::disturb() {
  switch (random_.below(6)) {
    case 0:
      return dies(find(old_));
    case 1:
    case 2:
      return dies(find(next_));
    case 3:
      return tell_later(event::NextSick{"health probe failed"});
    case 4:
      return tell(event::RollbackRequested{"the user said so"});
    default:
      for (int i = 0; i < 5; ++i) tell(event::ReloadRequested{RevisionId{revisions_ + 1000}});
  }
}

/// No more clients, no more faults: whatever waits must be answered, whatever died be replaced.
void SwapWorld::settle() {
  clients_come_ = false;
  Instant const began = agenda_.now();
  auto const settled = [this] {
    ProcessPtr const serving = find(serving_);
    bool const others_gone = std::ranges::all_of(processes_, [&](ProcessPtr const& process) {
      return process == serving || process->reported;
    });
    bool const quiet =
        std::ranges::all_of(lanes_, [](auto const& lane) { return lane.second == 0; });
    return serving && serving->runs() && serving->ready && !serving->waiting &&
           serving->held == 0 && others_gone && quiet;
  };
  while (!settled()) {
    ++statistics_.happenings;
    agenda_.turn();
    check();
    if (agenda_.now() - began > kSettleLimit)
      broken("who waits, for an answer or for memory, gets it in the end");
  }
  check_settled();
  clients_come_ = true;
}

void SwapWorld::check() const {
  std::uint64_t waiting = 0;
  for (auto const& [revision, count] : lanes_) waiting += count;
  std::uint64_t held = 0;
  for (ProcessPtr const& process : processes_) held += process->held;
  if (arrived_ != answered_ + dropped_ + waiting + held) broken("no connection is lost");
  if (steered_ != serving_ && steered_ != old_ && steered_ != next_) {
    broken("connections go to the old revision or to the new one");
  }
  if (pending_.empty() && steered_ != steered(state_)) broken("it is steered where the state says");
  if (pending_.empty() && percent_ != percent(state_, plan_.policy))
    broken("the new revision has the part that the state says");
  bool const has_lanes = lanes_.contains(steered_) && (percent_ == 100 || lanes_.contains(other_));
  if (!has_lanes) broken("whoever is steered to has a lane");
  check_lanes();
  check_owners();
  auto const running =
      std::ranges::count_if(processes_, [](ProcessPtr const& process) { return process->runs(); });
  // Two of them with a smaller limit than the swap before had: they are on their way out.
  if (static_cast<std::size_t>(running) > std::max(plan_.revisions_max, most_before_))
    broken("no more revisions live than may");
}

void SwapWorld::check_lanes() const {
  for (auto const& [revision, waiting] : lanes_) {
    if (waiting == 0) continue;
    ProcessPtr const owner = find(revision);
    if (owner && owner->runs()) continue;
    if (process_to_come(revision)) continue;
    broken(fmt::format("who waits for revision {} waits for somebody", revision));
  }
}

bool SwapWorld::process_to_come(RevisionId revision) const {
  if (!pending_.empty() || !inbox_.empty() || exit_unreported(revision)) return true;
  if (revision == serving_ && restart_planned_) return true;
  // These states end by launching it, or by leaving it to the restart policy.
  return std::visit(
      [&](auto const& s) {
        using State = std::remove_cvref_t<decltype(s)>;
        if constexpr (std::is_same_v<State, Idle>) {
          return false;
        } else {
          bool const gone_before = !s.old_alive && s.steered == revision;
          bool const back = std::is_same_v<State, Reclaiming> || std::is_same_v<State, Relaunching>;
          bool const early = std::is_same_v<State, Preflight> || std::is_same_v<State, StoppingOld>;
          return (back || early) && (gone_before || revision == s.next);
        }
      },
      state_);
}

void SwapWorld::check_owners() const {
  if (!has_memory_ || forgot_) return;
  auto const owners = std::ranges::count_if(
      processes_, [](ProcessPtr const& process) { return process->owner && process->runs(); });
  if (owners > 1) broken("one process at most owns the memory");
}

void SwapWorld::check_end() const {
  if (verdicts_ != 1) broken(fmt::format("a swap has one verdict, not {}", verdicts_));
  if (plan_.must_succeed) {
    if (!succeeded_) broken("a swap that nothing disturbs succeeds");
  }
  if (std::get<Idle>(state_).serving != serving_) broken("the verdict says who serves");
  ProcessPtr const serving = find(serving_);
  if (!serving) broken("somebody serves");
  bool const kept = serving == old_process_ && serving->runs() && has_memory_;
  if (kept && serving->updates < floor_) broken("what was exported is not lost");
  if (serving->runs()) {
    if (serving->quiesced) broken("who serves does not stand still");
    return;
  }
  if (!restart_planned_ && serving->reported) broken("who does not serve is started again");
}

void SwapWorld::check_settled() {
  ProcessPtr const serving = find(serving_);
  if (lanes_.size() != 1) broken("no lane is left over");
  for (ProcessPtr const& process : processes_) {
    if (process != serving && process->runs()) broken("no process is left over");
  }
  if (!has_memory_) return;
  if (!may_forget_ && serving->updates != applied_) {
    broken(fmt::format("{} updates were applied, {} are remembered", applied_, serving->updates));
  }
  if (!may_forget_) ++statistics_.memory_checked;
}

void SwapWorld::broken(std::string const& promise) const {
  throw BrokenPromise(
      fmt::format("broken promise: {} (swap {}, {}, revisions {} and {}, steered {})", promise,
                  swap_, phase_name(state_), old_, next_, steered_));
}

}  // namespace aether::sim
