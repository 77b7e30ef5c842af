// SPDX-License-Identifier: Apache-2.0
// From the configuration of a service to the limits of its swaps.
#pragma once
#include "config/config.h"
#include "relay/swap_machine.h"

namespace aether::relay {

/// How long state_handoff.check may take.
[[nodiscard]] Duration state_check_limit(config::Service const& spec);
[[nodiscard]] SwapPolicy swap_policy(config::Service const& spec);
/// @param drain as the configuration says it now.
/// @param retiring the revision that ends, whose own stop_timeout counts.
[[nodiscard]] RetirementPolicy retirement_policy(config::Drain const& drain,
                                                 config::Service const& retiring);

}  // namespace aether::relay
