// SPDX-License-Identifier: Apache-2.0
// Internal to the swap machine: the moves that its table chooses from. Each move performs its
// actions and leaves the state where the swap stands then.
#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "relay/swap_machine.h"

namespace aether::relay::swap {

template <class... Lambdas>
struct Cases : Lambdas... {
  using Lambdas::operator()...;
};
template <class... Lambdas>
Cases(Lambdas...) -> Cases<Lambdas...>;

struct Moves {
  SwapState& state;
  Instant now;
  SwapPolicy const& policy;
  SwapActions actions = {};

  template <class... Actions>
  void perform(Actions&&... listed) {
    (actions.emplace_back(std::forward<Actions>(listed)), ...);
  }
  void steer(Sides& sides, RevisionId revision);
  [[nodiscard]] bool exclusive() const { return policy.overlap == SwapPolicy::Overlap::No; }
  [[nodiscard]] bool due(Instant at) const { return now >= at; }

  // ---- Ways forward ----

  void launch(Sides sides);
  /// The old process is gone before the cutover: what waits in its queue must not wait for the
  /// verdict.
  void take_over(Sides& sides);
  void ready(Sides const& sides);
  void cut_over(Sides sides);
  void hand_off(Sides sides, bool next_ready);
  void export_memory(HandingOff s);
  void export_failed(HandingOff s, std::string why);
  void deliver(HandingOff s);
  void delivered(HandingOff s);
  void handoff_late(HandingOff s);
  void soak(Sides const& sides);
  /// A cutover of a part only: the old one serves on with the rest.
  void soak_in_parts(Sides sides);
  [[nodiscard]] bool is_split(Soaking const& s) const { return s.part < policy.parts.size(); }
  /// The next part, or everything, or the verdict.
  void soaked(Soaking s);
  void enter_part(Soaking& s);
  /// The old process ended by itself in the soak: there is nothing to go back to that would serve.
  void promote(Sides const& sides, std::string_view how_old_ended);
  void succeed(Sides const& sides, std::string note);

  // ---- Ways back ----

  /// Back to idle with the old revision, which serves; or does not, when its process is gone too.
  void fail_idle(Sides const& sides, std::string why);
  void roll_back(Sides const& sides, std::string why);
  /// As roll_back, of a new revision that has accepted connections already.
  void roll_back_served(Sides const& sides, std::string why);
  void roll_back_handoff(HandingOff s, std::string why);
  void delivery_failed(HandingOff const& s, std::string why);
  void begin_rollback(Reclaiming s);
  /// The old one serves again, and the new one goes.
  void take_back(Reclaiming s, bool with_reclaimed_memory);
  void resume_old(Sides& sides, bool with_reclaimed_memory);
  /// The new process died by itself: there is nothing to end, the way back is one step.
  void next_died(Sides sides, std::string why);
  void next_gone(Sides sides, std::string why);
  void serve_on_with_next(Reclaiming s);
  void relaunch(Relaunching s);
};

/// "<what> within <limit>".
[[nodiscard]] std::string late(std::string_view what, Duration limit);

}  // namespace aether::relay::swap
