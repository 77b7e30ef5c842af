// SPDX-License-Identifier: Apache-2.0
// Arithmetic modulo a checksum's polynomial, at compile time, for the constants of the kernels.
// A polynomial is a word with its bits reflected: bit 31 is x^0, bit 0 is x^31; x^32 is implied.
#pragma once
#include <cstdint>

namespace aether::checksum {

inline constexpr std::uint32_t kCastagnoli = 0x82F63B78;  // CRC-32C
inline constexpr std::uint32_t kZlib = 0xEDB88320;        // CRC-32 of zlib, Ethernet, IEEE 802.3

template <std::uint32_t Modulus = kCastagnoli>
[[nodiscard]] constexpr std::uint32_t times_x(std::uint32_t value) {
  return (value >> 1) ^ ((value & 1) != 0 ? Modulus : 0);
}

template <std::uint32_t Modulus = kCastagnoli>
[[nodiscard]] constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product = 0;
  for (std::uint32_t bit = 0x80000000; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = times_x<Modulus>(b);
  }
  return product;
}

/// x^exponent.
template <std::uint32_t Modulus = kCastagnoli>
[[nodiscard]] constexpr std::uint32_t x_to_the(std::uint64_t exponent) {
  std::uint32_t result = 0x80000000;
  std::uint32_t square = 0x40000000;
  for (; exponent != 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result = multiply<Modulus>(result, square);
    square = multiply<Modulus>(square, square);
  }
  return result;
}

/// The whole modulus with x^32, reflected in 33 bits: bit 32 is x^0.
template <std::uint32_t Modulus>
[[nodiscard]] constexpr std::uint64_t whole_modulus() {
  return std::uint64_t{Modulus} << 1 | 1;
}

/// The quotient of x^64 by the modulus, reflected in 33 bits: what Barrett's reduction multiplies
/// by.
template <std::uint32_t Modulus>
[[nodiscard]] constexpr std::uint64_t barrett_quotient() {
  std::uint64_t quotient = 0;
  std::uint32_t rest = 0x80000000;  // x^0; the division takes one more factor x at each step.
  for (int power = 1; power <= 64; ++power) {
    bool const carries = (rest & 1) != 0;  // The next product has an x^32.
    rest = times_x<Modulus>(rest);
    if (carries) quotient |= std::uint64_t{1} << (32 - (64 - power));
  }
  return quotient;
}

}  // namespace aether::checksum
