// SPDX-License-Identifier: Apache-2.0
// What users can type about jobs; part of command_line.cc.
#pragma once
#include <functional>

#include "base/result.h"
#include "cli/globals.h"

namespace CLI {
class App;
}

namespace aether::cli {

/// Declares the commands. `choose` takes the one that was typed. Both arguments outlive `app`.
void add_job_commands(CLI::App& app, Globals const& globals,
                      std::function<void(std::function<Result<int>()>)> const& choose);

}  // namespace aether::cli
