// SPDX-License-Identifier: Apache-2.0
// The ways to compute CRC-32C and CRC-32. Private to base, its tests and benchmarks: everybody
// else uses checksum.h.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace aether::checksum {

/// A kernel works on the inverted register (it takes ~crc and gives ~crc), so that calls compose.
using Kernel = std::uint32_t (*)(std::uint32_t state, std::byte const* data, std::size_t size);

struct Implementation {
  std::string_view name;
  Kernel kernel;
};

/// Slicing by eight: any CPU.
[[nodiscard]] std::uint32_t crc32c_table(std::uint32_t state, std::byte const* data,
                                         std::size_t size);

[[nodiscard]] std::uint32_t crc32_table(std::uint32_t state, std::byte const* data,
                                        std::size_t size);

#if defined(__x86_64__)
/// Three interleaved streams of the crc32 instruction. Needs SSE4.2 and PCLMUL.
[[nodiscard]] std::uint32_t crc32c_sse42(std::uint32_t state, std::byte const* data,
                                         std::size_t size);
/// Folding 256 bytes at a time. Needs AVX-512F, VPCLMULQDQ and what crc32c_sse42 needs.
[[nodiscard]] std::uint32_t crc32c_vpclmulqdq(std::uint32_t state, std::byte const* data,
                                              std::size_t size);
/// Folding 64 bytes at a time. Needs PCLMUL and SSE4.1.
[[nodiscard]] std::uint32_t crc32_pclmul(std::uint32_t state, std::byte const* data,
                                         std::size_t size);
/// Folding 256 bytes at a time. Needs AVX-512F, VPCLMULQDQ and what crc32_pclmul needs.
[[nodiscard]] std::uint32_t crc32_vpclmulqdq(std::uint32_t state, std::byte const* data,
                                             std::size_t size);
#elif defined(__aarch64__)
/// Three interleaved streams of the crc32cx instruction. Needs the CRC extension.
[[nodiscard]] std::uint32_t crc32c_armv8(std::uint32_t state, std::byte const* data,
                                         std::size_t size);
/// The same with crc32x.
[[nodiscard]] std::uint32_t crc32_armv8(std::uint32_t state, std::byte const* data,
                                        std::size_t size);
#endif

/// All that this CPU can run, the fastest first; the last is always the table.
[[nodiscard]] std::span<Implementation const> implementations();        // of CRC-32C
[[nodiscard]] std::span<Implementation const> crc32_implementations();  // of CRC-32

}  // namespace aether::checksum
