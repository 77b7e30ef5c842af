// SPDX-License-Identifier: Apache-2.0
// "did you mean": the known word that is nearest to what was written.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace aether::config {

/// The nearest word, if it is near enough to be meant: at most a third of its letters off, counting
/// a swap of neighbours as one, and case, "-" and "_" as nothing; or one begins with the other.
[[nodiscard]] std::optional<std::string_view> nearest(std::string_view written,
                                                      std::span<std::string_view const> known);

/// "; did you mean \"x\"?", or nothing.
[[nodiscard]] std::string did_you_mean(std::string_view written,
                                       std::span<std::string_view const> known);

}  // namespace aether::config
