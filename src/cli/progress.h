// SPDX-License-Identifier: Apache-2.0
// Progress: the phases of swaps on a terminal, one line that is written over, while somebody waits.
#pragma once
#include <boost/json/fwd.hpp>

#include "base/result.h"
#include "cli/control_client.h"

namespace aether::cli {

/// Shows how the swaps of a 202 answer go until the last verdict is out; gives the answer that
/// `?wait=true` would have given.
[[nodiscard]] Result<boost::json::value> watch_swaps(ControlClient const& client,
                                                     boost::json::value const& begun);

}  // namespace aether::cli
