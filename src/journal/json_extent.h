// SPDX-License-Identifier: Apache-2.0
// Where a JSON value ends: all that the journal needs to know of a body.
#pragma once
#include <cstddef>
#include <optional>
#include <string_view>

namespace aether::journal {

/// The length of the one JSON value (RFC 8259, without any white space between its tokens, in valid
/// UTF-8, at most kJsonDepthMax deep) that `text` begins with.
[[nodiscard]] std::optional<std::size_t> json_extent(std::string_view text);

}  // namespace aether::journal
