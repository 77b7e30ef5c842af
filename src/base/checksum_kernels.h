// SPDX-License-Identifier: Apache-2.0
// The ways to compute CRC-32C, one file each, and the dispatch's view of them. Private to base and
// its tests: everybody else uses checksum.h.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace aether::checksum {

/// A kernel works on the inverted register: it takes ~crc and returns ~crc, so that they compose.
using Kernel = std::uint32_t (*)(std::uint32_t state, std::byte const* data, std::size_t size);

struct Implementation {
  std::string_view name;
  Kernel kernel;
};

/// Slicing by eight: any CPU.
[[nodiscard]] std::uint32_t crc32c_table(std::uint32_t state, std::byte const* data,
                                         std::size_t size);

/// All that this CPU can run, the fastest first; the last is always the table.
[[nodiscard]] std::span<Implementation const> implementations();

}  // namespace aether::checksum
