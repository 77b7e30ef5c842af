// SPDX-License-Identifier: Apache-2.0
// What became of functions that were deployed or rolled back, told.
#pragma once
#include <boost/json/fwd.hpp>

#include "base/result.h"
#include "cli/globals.h"

namespace aether::cli {

/// Prints each deploy of an API's answer. kFailed if one of them failed.
[[nodiscard]] Result<int> tell_deploys(Globals const& globals, boost::json::value const& answer);

}  // namespace aether::cli
