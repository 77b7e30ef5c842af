// SPDX-License-Identifier: Apache-2.0
// What `aether stats` prints: tables of functions, of how they were started, and of services. Pure.
#pragma once
#include <string>

#include "cli/stats_snapshot.h"

namespace aether::cli {

[[nodiscard]] std::string stats_text(StatsSnapshot const& snapshot);

}  // namespace aether::cli
