// SPDX-License-Identifier: Apache-2.0
// Why a process of a service ended, in words for its user: what happened, the last lines it wrote,
// and a hint where the lines show a mistake that many make. Pure.
#pragma once

#include <string>

#include "supervise/instance_machine.h"

namespace aether::relay {

/// What a process found around it, which its own output does not tell.
struct EndSurroundings {
  enum class Listeners : std::uint8_t { None, Held };
  enum class Neighbour : std::uint8_t { None, OldRevision };
  Listeners listeners = Listeners::None;
  Neighbour neighbour = Neighbour::None;  ///< Whether another revision ran beside it.
};

/// "exited with code 1", then, each on a line of its own, what it wrote and the hints.
[[nodiscard]] std::string why_ended(supervise::event::Exited const& exited,
                                    EndSurroundings const& around);

}  // namespace aether::relay
