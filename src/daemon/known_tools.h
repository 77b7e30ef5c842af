// SPDX-License-Identifier: Apache-2.0
// Whether the tools that a job asks for are there: at its submission, not in the middle of it.
#pragma once
#include "base/result.h"
#include "jobs/run_event.h"
#include "tools/tool.h"

namespace aether::daemon {

/// RequestInvalid has a line for each place that names a tool which is not there. A graph that
/// cannot be read is left to jobs::make_driver().
[[nodiscard]] Status check_tools(jobs::RunSpec const& spec, tools::ToolSet const& tools);

}  // namespace aether::daemon
