// SPDX-License-Identifier: Apache-2.0
// What the sandbox of a function's instances really forbids here, in sentences for people.
#pragma once
#include <string>
#include <vector>

#include "config/config.h"

namespace aether::functions {

/// With the rights that this process has now, on this kernel. Empty for `sandbox: none`.
[[nodiscard]] std::vector<std::string> sandbox_rules(config::Function const& function);

}  // namespace aether::functions
