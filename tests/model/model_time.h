// SPDX-License-Identifier: Apache-2.0
// Time in the model: it is always kNow, and every deadline is kDue. A timer is a move that may be
// made whenever one is set, so all orders of deadlines and news are tried.
#pragma once
#include <chrono>
#include <variant>

#include "relay/retirement_machine.h"
#include "relay/swap_machine.h"

namespace aether::model {

inline constexpr Instant kNow{std::chrono::hours(1)};
inline constexpr Instant kDue{std::chrono::hours(2)};

/// Makes states equal that differ only in when and why.
inline void normalise(relay::SwapState& state) {
  std::visit(
      [](auto& s) {
        if constexpr (requires { s.due; }) s.due = kDue;
        if constexpr (requires { s.reason; }) s.reason = "r";
        if constexpr (requires { s.rollback; }) s.rollback = s.rollback.empty() ? "" : "r";
      },
      state);
}

inline void normalise(relay::Retirement& retirement) {
  retirement.began = retirement.stopped_at = kNow;
  retirement.deadline = retirement.due = kDue;
}

}  // namespace aether::model
