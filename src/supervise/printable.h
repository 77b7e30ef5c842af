// SPDX-License-Identifier: Apache-2.0
// Bytes of children made fit for terminals and JSON: valid UTF-8 without NUL.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace aether::supervise {

enum class Controls : std::uint8_t {
  Keep,    ///< For logs: colours and tabs live on; only NUL is replaced.
  Replace  ///< For status lines: every control character becomes a space.
};

/// `bytes` with each byte that is no part of valid UTF-8 replaced by U+FFFD.
[[nodiscard]] std::string printable(std::string_view bytes, Controls controls);

/// The largest n <= limit at which `bytes` can be cut without cutting a UTF-8 character in two.
/// If no character ends within the last four bytes (binary data), it is `limit` itself.
[[nodiscard]] std::size_t cut_position(std::string_view bytes, std::size_t limit);

/// Of a line of output this much is told in an error: lines of binary data have kilobytes.
inline constexpr std::size_t kExcerptMax = 400;
/// The line, or its first kExcerptMax bytes and "...".
[[nodiscard]] std::string excerpt(std::string_view line);

/// How a line of output begins that an error's message quotes.
inline constexpr std::string_view kQuoted = "\n  | ";
/// The message without what it quotes: for places where that output has been shown already.
[[nodiscard]] std::string without_quotes(std::string_view message);

}  // namespace aether::supervise
