// SPDX-License-Identifier: Apache-2.0
// For tests of the instance machine: when its story begins, and what its actions are asked for.
#pragma once
#include <string_view>
#include <variant>

#include "supervise/instance_machine.h"

namespace aether::supervise::story {

inline constexpr Instant kLaunched{std::chrono::seconds(1000)};

/// The first action of this kind; null if there is none.
template <class T>
T const* find(InstanceActions const& actions) {
  for (InstanceAction const& action : actions)
    if (auto const* found = std::get_if<T>(&action)) return found;
  return nullptr;
}

/// The first event of this kind that is told; null if there is none.
template <class T>
T const* told(InstanceActions const& actions) {
  for (InstanceAction const& action : actions)
    if (auto const* tell = std::get_if<perform::Tell>(&action))
      if (auto const* event = std::get_if<T>(&tell->event)) return event;
  return nullptr;
}

inline input::Said said(std::string_view text) {
  return {parse_notify_message(text)};
}

}  // namespace aether::supervise::story
