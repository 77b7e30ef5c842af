// SPDX-License-Identifier: Apache-2.0
// What `up` says on the terminal while it starts: seed 004's box and lines.
#pragma once
#include <string>
#include <vector>

#include "api/control_plane.h"
#include "config/config.h"

namespace aether::cli {

/// Before anything runs: the box (on a terminal) if there are functions, and a line for each of
/// what is going to start.
[[nodiscard]] std::string starting_text(config::Config const& config);
/// Once everything has had its chance: a line for each, then how many functions run, and where.
[[nodiscard]] std::string started_text(api::ControlPlane const& control);

}  // namespace aether::cli
