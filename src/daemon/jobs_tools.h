// SPDX-License-Identifier: Apache-2.0
// The tools of one Aether, from its configuration.
#pragma once
#include <memory>

#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "supervise/known_children.h"
#include "tools/function_tool.h"
#include "tools/tool.h"

namespace aether::daemon {

/// `http`, `llm` and `function` are there anyway; what the configuration names is added, or takes
/// their place. Programs are run only by tools that it names. ConfigInvalid names what is wrong.
/// All that is borrowed must outlive the tools.
[[nodiscard]] Result<std::unique_ptr<tools::ToolSet>> make_tools(config::Config const& config,
                                                                 Clock const& clock,
                                                                 supervise::KnownChildren& known,
                                                                 tools::FunctionPorts const& ports);

}  // namespace aether::daemon
