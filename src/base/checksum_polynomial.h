// SPDX-License-Identifier: Apache-2.0
// Arithmetic modulo Castagnoli's polynomial, at compile time, for the constants of the kernels.
// A polynomial is a word with its bits reflected: bit 31 is x^0, bit 0 is x^31.
#pragma once
#include <cstdint>

namespace aether::checksum {

inline constexpr std::uint32_t kPolynomial = 0x82F63B78;

[[nodiscard]] constexpr std::uint32_t times_x(std::uint32_t value) {
  return (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
}

[[nodiscard]] constexpr std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
  std::uint32_t product = 0;
  for (std::uint32_t bit = 0x80000000; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = times_x(b);
  }
  return product;
}

/// x^exponent.
[[nodiscard]] constexpr std::uint32_t x_to_the(std::uint64_t exponent) {
  std::uint32_t result = 0x80000000;
  std::uint32_t square = 0x40000000;
  for (; exponent != 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result;
}

}  // namespace aether::checksum
