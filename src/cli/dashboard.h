// SPDX-License-Identifier: Apache-2.0
// The dashboard of `aether stats`: a terminal that shows what dashboard_view.h draws.
#pragma once
#include "base/result.h"
#include "cli/control_client.h"

namespace aether::cli {

/// Returns when the person at it has had enough. UsageInvalid without a terminal that can.
[[nodiscard]] Result<int> run_dashboard(ControlClient const& client);

}  // namespace aether::cli
