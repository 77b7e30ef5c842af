// SPDX-License-Identifier: Apache-2.0
// A tool as the configuration names it: its own policy, defaults and key around one of the kinds.
#pragma once
#include <memory>
#include <string>

#include "config/config.h"
#include "tools/tool.h"

namespace aether::daemon {

/// @param api_key Sent as a bearer's; goes into no record, because it is put in after the arguments
///   were recorded. May be empty.
[[nodiscard]] std::unique_ptr<tools::Tool> make_configured_tool(std::unique_ptr<tools::Tool> inner,
                                                                config::Tool const& told,
                                                                std::string api_key);

}  // namespace aether::daemon
