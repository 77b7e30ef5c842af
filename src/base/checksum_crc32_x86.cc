// SPDX-License-Identifier: Apache-2.0
// CRC-32 by folding, as checksum_vpclmulqdq.cc explains it, for a polynomial that no instruction
// knows: the last 128 bits are reduced by multiplications too (Barrett's, as in V. Gopal et al.).
#if defined(__x86_64__)
#include <immintrin.h>

#include "base/checksum_kernels.h"
#include "base/checksum_polynomial.h"

#define AETHER_TARGET __attribute__((target("sse4.1,pclmul")))
#define AETHER_TARGET_512 __attribute__((target("avx512f,vpclmulqdq,sse4.1,pclmul")))

namespace aether::checksum {
namespace {

constexpr std::size_t kLane = 16;
constexpr std::size_t kRound = 64;      // Bytes of one round over four lanes.
constexpr std::size_t kRound512 = 256;  // The same with four registers of four lanes.

// A lane holds low * x^64 + high; moving it on by `bits` multiplies both halves. The product of
// two reflected factors brings x^33 of its own.
consteval long long lane_low(std::uint64_t bits) {
  return x_to_the<kZlib>(bits + 31);
}
consteval long long lane_high(std::uint64_t bits) {
  return x_to_the<kZlib>(bits - 33);
}

template <std::uint64_t Bits>
AETHER_TARGET inline __m128i fold_lane(__m128i value, __m128i next) {
  __m128i const by = _mm_set_epi64x(lane_high(Bits), lane_low(Bits));
  return _mm_xor_si128(next, _mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00),
                                           _mm_clmulepi64_si128(value, by, 0x11)));
}

AETHER_TARGET inline __m128i load_lane(std::byte const* data) {
  return _mm_loadu_si128(reinterpret_cast<__m128i const*>(data));
}

// The crc register after a lane: the lane times x^32, modulo the polynomial. First as 96 bits (bit
// 95 is x^0, a product brings x of its own), then as 64 (likewise), then Barrett's reduction to 32.
AETHER_TARGET inline std::uint32_t reduce_lane(__m128i lane) {
  constexpr long long x95 = x_to_the<kZlib>(95);
  constexpr long long x63 = x_to_the<kZlib>(63);
  __m128i const by = _mm_set_epi64x(x63, x95);
  __m128i const wide = _mm_xor_si128(_mm_clmulepi64_si128(lane, by, 0x00), _mm_srli_si128(lane, 8));
  __m128i const above = _mm_cvtsi64_si128(_mm_cvtsi128_si64(wide) & 0xFFFFFFFF);
  __m128i const less = _mm_clmulepi64_si128(above, by, 0x10);
  auto const rest =
      static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_xor_si128(_mm_srli_si128(wide, 4), less)));
  __m128i const barrett = _mm_set_epi64x(static_cast<long long>(whole_modulus<kZlib>()),
                                         static_cast<long long>(barrett_quotient<kZlib>()));
  __m128i const upper = _mm_cvtsi64_si128(static_cast<long long>(rest & 0xFFFFFFFF));
  __m128i const estimate = _mm_clmulepi64_si128(upper, barrett, 0x00);
  __m128i const quotient = _mm_cvtsi64_si128(_mm_cvtsi128_si64(estimate) & 0xFFFFFFFF);
  __m128i const product = _mm_clmulepi64_si128(quotient, barrett, 0x10);
  return static_cast<std::uint32_t>(
      (rest ^ static_cast<std::uint64_t>(_mm_cvtsi128_si64(product))) >> 32);
}

// The lane that has been read, over what is left: whole lanes by folding, the rest by the table.
AETHER_TARGET inline std::uint32_t finish(__m128i lane, std::byte const* data, std::size_t size) {
  for (; size >= kLane; data += kLane, size -= kLane) {
    lane = fold_lane<8 * kLane>(lane, load_lane(data));
  }
  std::uint32_t const state = reduce_lane(lane);
  return size == 0 ? state : crc32_table(state, data, size);
}

template <std::uint64_t Bits>
AETHER_TARGET_512 inline __m512i fold_register(__m512i value, __m512i next) {
  constexpr int exclusive_or = 0x96;  // The truth table of a ^ b ^ c.
  constexpr long long low = lane_low(Bits);
  constexpr long long high = lane_high(Bits);
  __m512i const by = _mm512_set_epi64(high, low, high, low, high, low, high, low);
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(value, by, 0x00),
                                   _mm512_clmulepi64_epi128(value, by, 0x11), next, exclusive_or);
}

}  // namespace

AETHER_TARGET std::uint32_t crc32_pclmul(std::uint32_t state, std::byte const* data,
                                         std::size_t size) {
  if (size < kLane) return crc32_table(state, data, size);
  __m128i a = _mm_xor_si128(load_lane(data), _mm_cvtsi32_si128(static_cast<int>(state)));
  if (size < 2 * kRound) return finish(a, data + kLane, size - kLane);
  __m128i b = load_lane(data + kLane);
  __m128i c = load_lane(data + 2 * kLane);
  __m128i d = load_lane(data + 3 * kLane);
  data += kRound;
  size -= kRound;
  for (; size >= kRound; data += kRound, size -= kRound) {
    a = fold_lane<8 * kRound>(a, load_lane(data));
    b = fold_lane<8 * kRound>(b, load_lane(data + kLane));
    c = fold_lane<8 * kRound>(c, load_lane(data + 2 * kLane));
    d = fold_lane<8 * kRound>(d, load_lane(data + 3 * kLane));
  }
  b = fold_lane<8 * kLane>(a, b);
  c = fold_lane<8 * kLane>(b, c);
  return finish(fold_lane<8 * kLane>(c, d), data, size);
}

AETHER_TARGET_512 std::uint32_t crc32_vpclmulqdq(std::uint32_t state, std::byte const* data,
                                                 std::size_t size) {
  if (size < 2 * kRound512) return crc32_pclmul(state, data, size);
  __m512i a = _mm512_loadu_si512(data);
  __m512i b = _mm512_loadu_si512(data + 64);
  __m512i c = _mm512_loadu_si512(data + 128);
  __m512i d = _mm512_loadu_si512(data + 192);
  a = _mm512_xor_si512(a, _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  data += kRound512;
  size -= kRound512;
  for (; size >= kRound512; data += kRound512, size -= kRound512) {
    a = fold_register<8 * kRound512>(a, _mm512_loadu_si512(data));
    b = fold_register<8 * kRound512>(b, _mm512_loadu_si512(data + 64));
    c = fold_register<8 * kRound512>(c, _mm512_loadu_si512(data + 128));
    d = fold_register<8 * kRound512>(d, _mm512_loadu_si512(data + 192));
  }
  b = fold_register<512>(a, b);
  c = fold_register<512>(b, c);
  d = fold_register<512>(c, d);
  for (; size >= 64; data += 64, size -= 64) {
    d = fold_register<512>(d, _mm512_loadu_si512(data));
  }
  __m128i lane =
      fold_lane<8 * kLane>(_mm512_extracti32x4_epi32(d, 0), _mm512_extracti32x4_epi32(d, 1));
  lane = fold_lane<8 * kLane>(lane, _mm512_extracti32x4_epi32(d, 2));
  lane = fold_lane<8 * kLane>(lane, _mm512_extracti32x4_epi32(d, 3));
  return finish(lane, data, size);
}

}  // namespace aether::checksum

#undef AETHER_TARGET
#undef AETHER_TARGET_512
#endif
