// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli, RFC 3720 appendix B.4) and CRC-32 (zlib's, RFC 1952 section 8), with the
// fastest instructions this CPU has.
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

/// The CRC-32 that zlib, Python's zlib.crc32 and Node's zlib.crc32 give; `crc` as in crc32c.
[[nodiscard]] std::uint32_t crc32(std::span<std::byte const> bytes, std::uint32_t crc = 0);
[[nodiscard]] std::uint32_t crc32(std::string_view bytes, std::uint32_t crc = 0);

/// "vpclmulqdq", "pclmul", "armv8" or "table".
[[nodiscard]] std::string_view crc32_implementation();

}  // namespace aether
