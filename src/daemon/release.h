// SPDX-License-Identifier: Apache-2.0
// What this release, and the kernel it runs on, can do of what a configuration may ask for.
#pragma once
#include "base/result.h"
#include "config/config.h"

namespace aether::daemon {

/// Unsupported, with every key that asks for more than this release does; never a silent fallback.
[[nodiscard]] Status check_release(config::Config const& config);

/// BpfUnavailable, with every place of the file that asks for what this kernel does not give to
/// this process, and what is missing. Tries it: takes some milliseconds if something is asked for.
[[nodiscard]] Status check_kernel(config::Config const& config);

}  // namespace aether::daemon
