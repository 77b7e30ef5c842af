// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the fastest instructions this CPU has.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace aether {

/// The CRC-32C of `bytes`, or of earlier bytes followed by them when `crc` is what those gave.
[[nodiscard]] std::uint32_t crc32c(std::span<std::byte const> bytes, std::uint32_t crc = 0);
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes, std::uint32_t crc = 0);

/// How it is computed here: "vpclmulqdq", "sse4.2", "armv8" or "table". Chosen once, shown by
/// doctor.
[[nodiscard]] std::string_view crc32c_implementation();

}  // namespace aether
