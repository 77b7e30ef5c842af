// SPDX-License-Identifier: Apache-2.0
// Slicing by eight (Kounavis and Berry, 2005): eight table look-ups for eight bytes.
#include <array>
#include <bit>
#include <cstring>

#include "base/checksum_kernels.h"
#include "base/checksum_polynomial.h"

namespace aether::checksum {
namespace {

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

template <std::uint32_t Modulus>
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = times_x<Modulus>(crc);
    tables[0][byte] = crc;
  }
  for (std::size_t table = 1; table < 8; ++table) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::uint32_t const before = tables[table - 1][byte];
      tables[table][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

template <std::uint32_t Modulus>
constexpr Tables kTables = make_tables<Modulus>();

template <std::uint32_t Modulus>
std::uint32_t by_table(std::uint32_t state, std::byte const* data, std::size_t size) {
  Tables const& tables = kTables<Modulus>;
  while (size >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, data, 8);
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    word ^= state;
    state = 0;
    for (std::size_t byte = 0; byte < 8; ++byte) {
      state ^= tables[7 - byte][(word >> (8 * byte)) & 0xFF];
    }
    data += 8;
    size -= 8;
  }
  for (; size > 0; --size, ++data) {
    state = (state >> 8) ^ tables[0][(state ^ static_cast<std::uint32_t>(*data)) & 0xFF];
  }
  return state;
}

}  // namespace

std::uint32_t crc32c_table(std::uint32_t state, std::byte const* data, std::size_t size) {
  return by_table<kCastagnoli>(state, data, size);
}

std::uint32_t crc32_table(std::uint32_t state, std::byte const* data, std::size_t size) {
  return by_table<kZlib>(state, data, size);
}

}  // namespace aether::checksum
