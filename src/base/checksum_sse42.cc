// SPDX-License-Identifier: Apache-2.0
// The crc32 instruction takes one word a cycle but answers three cycles later, so three streams run
// side by side over three neighbouring blocks, and are joined by a multiplication (V. Gopal et al.,
// "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel, 2011).
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "base/checksum_kernels.h"
#include "base/checksum_polynomial.h"

#define AETHER_TARGET __attribute__((target("sse4.2,pclmul")))

namespace aether::checksum {
namespace {

std::uint64_t load_word(std::byte const* data) {
  std::uint64_t word = 0;
  std::memcpy(&word, data, sizeof(word));
  return word;
}

// The register after `Bytes` more zero bytes: state * x^(8 * Bytes). The carry-less product of two
// reflected words stands one bit too low, and the reduction by crc32 multiplies by x^32.
template <std::size_t Bytes>
AETHER_TARGET std::uint64_t skip_zeros(std::uint64_t state) {
  constexpr std::uint32_t factor = x_to_the(8 * Bytes - 33);
  __m128i const product = _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<long long>(state)),
                                               _mm_cvtsi32_si128(static_cast<int>(factor)), 0x00);
  return _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(product)));
}

template <std::size_t Block>
AETHER_TARGET std::uint64_t three_blocks(std::uint64_t state, std::byte const*& data,
                                         std::size_t& size) {
  while (size >= 3 * Block) {
    std::uint64_t second = 0;
    std::uint64_t third = 0;
    for (std::size_t at = 0; at < Block; at += 8) {
      state = _mm_crc32_u64(state, load_word(data + at));
      second = _mm_crc32_u64(second, load_word(data + Block + at));
      third = _mm_crc32_u64(third, load_word(data + 2 * Block + at));
    }
    state = skip_zeros<2 * Block>(state) ^ skip_zeros<Block>(second) ^ third;
    data += 3 * Block;
    size -= 3 * Block;
  }
  return state;
}

}  // namespace

AETHER_TARGET std::uint32_t crc32c_sse42(std::uint32_t state, std::byte const* data,
                                         std::size_t size) {
  std::uint64_t wide = state;
  wide = three_blocks<4096>(wide, data, size);
  wide = three_blocks<256>(wide, data, size);
  for (; size >= 8; data += 8, size -= 8) wide = _mm_crc32_u64(wide, load_word(data));
  auto narrow = static_cast<std::uint32_t>(wide);
  for (; size > 0; ++data, --size) {
    narrow = _mm_crc32_u8(narrow, static_cast<unsigned char>(*data));
  }
  return narrow;
}

}  // namespace aether::checksum

#undef AETHER_TARGET
#endif
