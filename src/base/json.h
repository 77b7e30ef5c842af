// SPDX-License-Identifier: Apache-2.0
// JSON text that is hashed, compared or recorded: RFC 8785 (JSON Canonicalization Scheme), and
// strict reading with limits.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "base/result.h"

namespace aether {

/// Arrays and objects within each other: more is an attack on whoever reads it.
inline constexpr std::size_t kJsonDepthMax = 60;

/// RFC 8785: no white space, members in the order of their UTF-16 code units, numbers as ECMAScript
/// writes them. Two values are equal exactly if their canonical texts are. JSON has no number for
/// NaN and infinities: null.
[[nodiscard]] std::string canonical_json(boost::json::value const& value);

/// One JSON value (RFC 8259) and nothing after it. RequestInvalid names `what` and the line and
/// column of the first mistake: "graph.json:3:7: ...".
[[nodiscard]] Result<boost::json::value> parse_json(std::string_view text, std::string_view what);

}  // namespace aether
