// SPDX-License-Identifier: Apache-2.0
// Folding: what has been read is kept as a polynomial of 2048 bits, multiplied by x^2048 and added
// to the next 256 bytes, 128 bits to a lane (V. Gopal et al., "Fast CRC Computation for Generic
// Polynomials Using PCLMULQDQ Instruction", Intel, 2009; here with sixteen lanes).
#if defined(__x86_64__)
#include <immintrin.h>

#include "base/checksum_kernels.h"
#include "base/checksum_polynomial.h"

#define AETHER_TARGET __attribute__((target("avx512f,vpclmulqdq,sse4.2,pclmul")))

namespace aether::checksum {
namespace {

constexpr std::size_t kFold = 256;  // Bytes read in one round: four registers.

// A lane holds low * x^64 + high. Moving it on by `bits` multiplies low by x^(bits + 64) and high
// by x^bits; the carry-less product with a reflected 32-bit factor brings x^33 of its own.
consteval long long low_factor(std::uint64_t bits) {
  return x_to_the(bits + 31);
}
consteval long long high_factor(std::uint64_t bits) {
  return x_to_the(bits - 33);
}

template <std::uint64_t Bits>
AETHER_TARGET inline __m512i factors() {
  constexpr long long low = low_factor(Bits);
  constexpr long long high = high_factor(Bits);
  return _mm512_set_epi64(high, low, high, low, high, low, high, low);
}

// value moved on by what `by` holds, plus next.
AETHER_TARGET inline __m512i fold(__m512i value, __m512i by, __m512i next) {
  constexpr int exclusive_or = 0x96;  // The truth table of a ^ b ^ c.
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(value, by, 0x00),
                                   _mm512_clmulepi64_epi128(value, by, 0x11), next, exclusive_or);
}

// The four lanes of a register as one lane, then as the crc register.
AETHER_TARGET inline std::uint32_t reduce(__m512i value) {
  constexpr long long low[] = {low_factor(384), low_factor(256), low_factor(128)};
  constexpr long long high[] = {high_factor(384), high_factor(256), high_factor(128)};
  __m512i const by = _mm512_set_epi64(0, 0, high[2], low[2], high[1], low[1], high[0], low[0]);
  __m512i const moved = _mm512_xor_si512(_mm512_clmulepi64_epi128(value, by, 0x00),
                                         _mm512_clmulepi64_epi128(value, by, 0x11));
  __m128i const lane = _mm_xor_si128(
      _mm_xor_si128(_mm512_extracti32x4_epi32(moved, 0), _mm512_extracti32x4_epi32(moved, 1)),
      _mm_xor_si128(_mm512_extracti32x4_epi32(moved, 2), _mm512_extracti32x4_epi32(value, 3)));
  std::uint64_t const first = _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(lane)));
  return static_cast<std::uint32_t>(
      _mm_crc32_u64(first, static_cast<std::uint64_t>(_mm_extract_epi64(lane, 1))));
}

}  // namespace

AETHER_TARGET std::uint32_t crc32c_vpclmulqdq(std::uint32_t state, std::byte const* data,
                                              std::size_t size) {
  if (size < 2 * kFold) return crc32c_sse42(state, data, size);
  __m512i a = _mm512_loadu_si512(data);
  __m512i b = _mm512_loadu_si512(data + 64);
  __m512i c = _mm512_loadu_si512(data + 128);
  __m512i d = _mm512_loadu_si512(data + 192);
  a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  __m512i const by_round = factors<8 * kFold>();
  data += kFold;
  size -= kFold;
  for (; size >= kFold; data += kFold, size -= kFold) {
    a = fold(a, by_round, _mm512_loadu_si512(data));
    b = fold(b, by_round, _mm512_loadu_si512(data + 64));
    c = fold(c, by_round, _mm512_loadu_si512(data + 128));
    d = fold(d, by_round, _mm512_loadu_si512(data + 192));
  }
  __m512i const by_register = factors<512>();
  b = fold(a, by_register, b);
  c = fold(b, by_register, c);
  d = fold(c, by_register, d);
  for (; size >= 64; data += 64, size -= 64) {
    d = fold(d, by_register, _mm512_loadu_si512(data));
  }
  return crc32c_sse42(reduce(d), data, size);
}

}  // namespace aether::checksum

#undef AETHER_TARGET
#endif
