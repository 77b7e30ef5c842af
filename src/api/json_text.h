// SPDX-License-Identifier: Apache-2.0
// JSON as people and simple tools read it: numbers are written plainly (1.5, not 1.5E0).
#pragma once
#include <string>

#include <boost/json/fwd.hpp>

#include "base/time.h"

namespace aether::api {

/// As boost::json::serialize, with the shortest plain form of each number. What JSON has no number
/// for (infinity) is null.
[[nodiscard]] std::string json_text(boost::json::value const& value);

/// As the API gives durations, in fields that end in _ms.
[[nodiscard]] constexpr double milliseconds_of(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace aether::api
