// SPDX-License-Identifier: Apache-2.0
// How revisions end that no longer serve, while swaps go on.
#include <algorithm>

#include <fmt/format.h>

#include "swap_world.h"

namespace aether::sim {

using namespace relay;
using std::chrono::milliseconds;

void SwapWorld::perform(action::Retire a) {
  if (is_given(a.revision)) broken("the revision that is steered to was sent away");
  ++statistics_.retired;
  RetirementActions begun;
  retirees_[a.revision] = begin_retirement(a.farewell, agenda_.now(), plan_.retirement, begun);
  carry_out(a.revision, begun);
  tick_retiree_when_due(a.revision);
  ProcessPtr const process = find(a.revision);
  if (!process || process->reported) tell_retiree(a.revision, RetirementEvent::Exited);
}

void SwapWorld::tell_retiree(RevisionId revision, RetirementEvent event) {
  auto found = retirees_.find(revision);
  if (found == retirees_.end()) return;
  Instant const due_before = found->second.due;
  RetirementActions const actions = step(found->second, event, agenda_.now());
  note(fmt::format("revision {} retires: {}", revision, stage_name(found->second.stage)));
  carry_out(revision, actions);
  found = retirees_.find(revision);
  if (found == retirees_.end()) return;
  if (is_over(found->second)) {
    retirees_.erase(found);
  } else if (found->second.due != due_before) {
    tick_retiree_when_due(revision);
  }
}

void SwapWorld::carry_out(RevisionId revision, RetirementActions const& actions) {
  for (RetirementAction const action : actions) {
    switch (action) {
      case RetirementAction::WatchQueue:
        watch_retiree_queue(revision);
        break;
      case RetirementAction::WatchUse:
        watch_use(revision);
        break;
      case RetirementAction::Stop:
        stop(find(revision));
        break;
      case RetirementAction::Kill:
        kill(find(revision));
        break;
      case RetirementAction::RetireLane:
        move_lane(revision);
        break;
    }
  }
}

void SwapWorld::watch_retiree_queue(RevisionId revision) {
  agenda_.after(milliseconds(5), [this, revision] {
    auto const lane = lanes_.find(revision);
    if (lane == lanes_.end() || !retirees_.contains(revision)) return;
    if (lane->second > 0) return watch_retiree_queue(revision);
    tell_retiree(revision, RetirementEvent::QueueEmpty);
  });
}

void SwapWorld::watch_use(RevisionId revision) {
  agenda_.after(milliseconds(10), [this, revision] {
    ProcessPtr const process = find(revision);
    if (!process || !retirees_.contains(revision)) return;
    if (process->held > 0) return watch_use(revision);
    tell_retiree(revision, RetirementEvent::Unused);
  });
}

void SwapWorld::tick_retiree_when_due(RevisionId revision) {
  auto const found = retirees_.find(revision);
  if (found == retirees_.end()) return;
  Duration const wait = found->second.due - agenda_.now();
  agenda_.after(std::max(wait, Duration::zero()) + random_.between({}, milliseconds(1)),
                [this, revision] { tell_retiree(revision, RetirementEvent::Tick); });
}

bool SwapWorld::has_room() const {
  auto const living = std::ranges::count_if(
      processes_, [](ProcessPtr const& process) { return !process->reported; });
  return in_the_way(static_cast<std::size_t>(living), retirees_.size(), plan_.revisions_max) == 0;
}

void SwapWorld::make_room() {
  auto const living = std::ranges::count_if(
      processes_, [](ProcessPtr const& process) { return !process->reported; });
  std::size_t const excess =
      in_the_way(static_cast<std::size_t>(living), retirees_.size(), plan_.revisions_max);
  std::vector<RevisionId> oldest;
  for (auto const& [revision, retirement] : retirees_)
    if (oldest.size() < excess) oldest.push_back(revision);
  for (RevisionId const revision : oldest) {
    ++statistics_.hurried;
    tell_retiree(revision, RetirementEvent::Hurry);
  }
}

}  // namespace aether::sim
