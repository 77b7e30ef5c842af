// SPDX-License-Identifier: Apache-2.0
#include "swap_world.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace aether::sim {

using namespace relay;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t kNotesMax = 300;

}  // namespace

SwapWorld::SwapWorld(std::uint64_t seed, bool trace) : random_(seed), tracing_(trace) {
  serving_ = steered_ = RevisionId{1};
  state_ = Idle{serving_};
  ProcessPtr const first = start_process(serving_);
  first->ready = true;
  first->owner = true;
  client_arrives();
}

SwapWorld::~SwapWorld() = default;

SwapWorld::ProcessPtr SwapWorld::start_process(RevisionId revision) {
  auto process = std::make_shared<Process>();
  process->revision = revision;
  processes_.push_back(process);
  lanes_.try_emplace(revision, 0U);
  return process;
}

SwapWorld::ProcessPtr SwapWorld::find(RevisionId revision) const {
  for (auto it = processes_.rbegin(); it != processes_.rend(); ++it) {
    if ((*it)->revision == revision) return *it;
  }
  return nullptr;
}

bool SwapWorld::exit_unreported(RevisionId revision) const {
  return std::ranges::any_of(processes_, [&](ProcessPtr const& process) {
    return process->revision == revision && !process->runs() && !process->reported;
  });
}

void SwapWorld::becomes_ready(ProcessPtr const& process) {
  if (!process->runs() || process->ready) return;
  process->ready = true;
  note(fmt::format("revision {} is ready", process->revision));
  if (!is_idle(state_) && process->revision == next_) {
    ProcessPtr const old = find(old_);
    bool const old_has_memory = has_memory_ && old && old->alive;
    tell_later(event::NextReady{.forgets_memory = old_has_memory && !process->asked});
  } else if (!is_idle(state_) && process->revision == old_) {
    tell_later(event::OldReady{});
  }
  accept(process->revision);
}

void SwapWorld::asks_memory(ProcessPtr const& process) {
  if (!process->runs()) return;
  process->asked = true;
  process->waiting = true;
  // A question is never lost: the connection that carries it is the process's life line.
  std::uint64_t const swap = swap_;
  agenda_.after(random_.between(milliseconds(0), milliseconds(3)), [this, process, swap] {
    if (!process->runs()) return;
    note(fmt::format("revision {} asks for its memory", process->revision));
    bool const of_this_swap = news_for(swap) && process->revision == next_;
    if (of_this_swap) return tell(event::NextAskedMemory{});
    process->waiting = false;  // The shell answers that there is none.
    accept(process->revision);
  });
}

void SwapWorld::dies(ProcessPtr const& process) {
  if (!process || !process->alive) return;
  note(fmt::format("revision {} dies", process->revision));
  process->alive = false;
  dropped_ += std::exchange(process->held, 0U);
  if (process->owner) may_forget_ = true;
  process->owner = false;
  bool const late = !plan_.must_succeed && random_.one_in(50);
  Duration const most = late ? milliseconds(300) : milliseconds(5);
  agenda_.after(random_.between(milliseconds(0), most), [this, process] { exit_seen(process); });
}

void SwapWorld::exit_seen(ProcessPtr const& process) {
  process->reported = true;
  bool const swapping = !is_idle(state_);
  RevisionId const revision = process->revision;
  note(fmt::format("the exit of revision {} is seen", revision));
  if (retirees_.contains(revision)) {
    tell_retiree(revision, RetirementEvent::Exited);
  } else if (swapping && revision == next_) {
    tell(event::NextExited{"it died"});
  } else if (swapping && revision == old_) {
    tell(event::OldExited{"it died"});
  } else if (revision == serving_) {
    plan_restart();
  }
}

void SwapWorld::plan_restart() {
  if (restart_planned_) return;
  restart_planned_ = true;
  std::uint64_t const round = ++restart_round_;
  agenda_.after(random_.between(milliseconds(5), milliseconds(200)),
                [this, round] { restart(round); });
}

void SwapWorld::restart(std::uint64_t round) {
  if (round != restart_round_) return;
  restart_planned_ = false;
  ProcessPtr const last = find(serving_);
  if (last && last->runs()) return;
  // The lane is given to one process at a time: the last one must be gone.
  if (last && !last->reported) return plan_restart();
  note(fmt::format("revision {} is started again", serving_));
  may_forget_ = true;
  ProcessPtr const process = start_process(serving_);
  process->owner = has_memory_;
  ProcessPtr const old = find(old_);
  // An old one that was never asked for its memory drains with it.
  if (old != process && old && old->owner) forgot_ = true;
  agenda_.after(random_.between(milliseconds(1), milliseconds(50)),
                [this, process] { becomes_ready(process); });
}

void SwapWorld::client_arrives() {
  agenda_.after(random_.between(milliseconds(1), milliseconds(100)), [this] { client_arrives(); });
  if (!clients_come_) return;
  ++arrived_;
  bool const to_steered = random_.below(100) < static_cast<std::uint64_t>(percent_);
  RevisionId const receiver = to_steered ? steered_ : other_;
  ++lanes_[receiver];
  accept(receiver);
}

void SwapWorld::accept(RevisionId revision) {
  ProcessPtr const process = find(revision);
  auto const lane = lanes_.find(revision);
  if (!process || lane == lanes_.end() || lane->second == 0) return;
  bool const works = process->runs() && process->ready && !process->stopping;
  if (!works || process->quiesced || process->waiting) return;
  std::uint64_t const count = std::exchange(lane->second, 0U);
  process->held += count;
  for (std::uint64_t i = 0; i < count; ++i) {
    agenda_.after(random_.between(milliseconds(1), milliseconds(30)),
                  [this, process] { answer_one(process); });
  }
}

void SwapWorld::answer_one(ProcessPtr const& process) {
  if (!process->runs() || process->held == 0) return;
  --process->held;
  ++answered_;
  apply_update(*process);
}

void SwapWorld::serve_all(Process& process) {
  for (; process.held > 0; --process.held) {
    ++answered_;
    apply_update(process);
  }
}

void SwapWorld::apply_update(Process& process) {
  if (!has_memory_ || process.past) return;
  if (!process.owner && !may_forget_) {
    // A revision that never asked has a memory of its own, if the policy lets it.
    bool const abort = plan_.policy.on_handoff_failure == SwapPolicy::OnHandoffFailure::Abort;
    bool const asks_in_time = plan_.asks && !plan_.asks_late;
    if (abort || asks_in_time) broken("an update was applied by who does not own the memory");
    may_forget_ = true;
  }
  ++process.updates;
  ++applied_;
}

bool SwapWorld::news_for(std::uint64_t swap) const {
  return swap == swap_ && !is_idle(state_);
}

void SwapWorld::note(std::string_view what) {
  if (!tracing_) return;
  auto const at = std::chrono::duration_cast<milliseconds>(agenda_.now().time_since_epoch());
  notes_.push_back(fmt::format("{} ms [{}] {}", at.count(), phase_name(state_), what));
  if (notes_.size() > kNotesMax) notes_.pop_front();
}

std::string SwapWorld::trace() const {
  std::string text;
  for (std::string const& note : notes_) text += note + "\n";
  return text;
}

}  // namespace aether::sim
