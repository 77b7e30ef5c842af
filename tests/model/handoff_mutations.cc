// SPDX-License-Identifier: Apache-2.0
// Deliberate defects of the swap machine: what it decided is changed a little.
#include <algorithm>

#include "handoff_world.h"

namespace aether::model {

using namespace relay;

namespace {

template <class Action>
void forget(SwapActions& actions) {
  std::erase_if(actions, [](SwapAction const& a) { return std::holds_alternative<Action>(a); });
}

template <class Action>
auto find(SwapActions& actions) {
  return std::ranges::find_if(
      actions, [](SwapAction const& a) { return std::holds_alternative<Action>(a); });
}

}  // namespace

void HandoffWorld::mutate(SwapState const& before, SwapActions& actions) const {
  bool const handing_off = std::holds_alternative<HandingOff>(before);
  bool const delivers = handing_off && find<action::DeliverMemory>(actions) != actions.end();
  switch (setup_->mutation) {
    case Mutation::ReleaseBeforeAck:
      if (delivers) actions.emplace_back(action::Release{RevisionId{old_}});
      break;
    case Mutation::NoRelease:
      forget<action::Release>(actions);
      break;
    case Mutation::FailingOneMayDrain:
      for (SwapAction& one : actions) {
        auto* const retire = std::get_if<action::Retire>(&one);
        if (retire != nullptr) retire->farewell = Farewell::Drain;
      }
      break;
    case Mutation::NoResume:
      forget<action::Resume>(actions);
      break;
    case Mutation::ForgetReclaimed:
      for (SwapAction& one : actions) {
        auto* const resume = std::get_if<action::Resume>(&one);
        if (resume != nullptr) resume->with_reclaimed_memory = false;
      }
      break;
    case Mutation::RetireOldAtDelivery:
      if (delivers) actions.emplace_back(action::Retire{RevisionId{old_}, Farewell::AtOnce});
      break;
    case Mutation::NoSteeringBack:
      std::erase_if(actions, [this](SwapAction const& a) {
        auto const* steer = std::get_if<action::SteerTo>(&a);
        return steer != nullptr && steer->revision == RevisionId{old_};
      });
      break;
    default:
      break;
  }
}

}  // namespace aether::model
