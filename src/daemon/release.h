// SPDX-License-Identifier: Apache-2.0
// What this release can do of what a configuration may ask for.
#pragma once
#include "base/result.h"
#include "config/config.h"

namespace aether::daemon {

/// Unsupported, with every key that asks for more than this release does; never a silent fallback.
[[nodiscard]] Status check_release(config::Config const& config);

}  // namespace aether::daemon
