// SPDX-License-Identifier: Apache-2.0
// Explorer: every state that can be reached, each visited once, nearest first; so the first broken
// promise comes with a shortest story.
#pragma once
#include <cstddef>
#include <optional>
#include <string>

#include "handoff_world.h"

namespace aether::model {

struct Findings {
  std::size_t states = 0;
  std::size_t moves = 0;
  std::size_t at_rest = 0;
  std::size_t depth = 0;
  bool complete = true;  ///< False: `states_max` was reached.
  std::optional<std::string> counterexample;
};

[[nodiscard]] Findings explore(Setup const& setup, std::size_t states_max);

}  // namespace aether::model
