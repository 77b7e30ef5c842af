// SPDX-License-Identifier: Apache-2.0
// From the configuration of a service to the limits of its swaps.
#pragma once
#include "config/config.h"
#include "relay/swap_machine.h"

namespace aether::relay {

[[nodiscard]] SwapPolicy swap_policy(config::Service const& spec);

}  // namespace aether::relay
