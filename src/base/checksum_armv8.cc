// SPDX-License-Identifier: Apache-2.0
// As checksum_sse42.cc, with ARM's crc32cx and crc32x. The streams are joined by an ordinary
// multiplication, so that the CRC extension is all that is needed.
#if defined(__aarch64__)
#include <cstring>

#include "base/checksum_kernels.h"
#include "base/checksum_polynomial.h"

namespace aether::checksum {
namespace {

constexpr std::size_t kBlock = 4096;

// The intrinsics of arm_acle.h cannot be used from a function with a target attribute in every
// compiler, the assembler's word always can.
template <std::uint32_t Modulus>
inline std::uint32_t crc_word(std::uint32_t state, std::byte const* data) {
  std::uint64_t word = 0;
  std::memcpy(&word, data, sizeof(word));
  if constexpr (Modulus == kCastagnoli) {
    asm(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(state) : "r"(word));
  } else {
    asm(".arch_extension crc\n\tcrc32x %w0, %w0, %x1" : "+r"(state) : "r"(word));
  }
  return state;
}

template <std::uint32_t Modulus>
inline std::uint32_t crc_byte(std::uint32_t state, std::byte data) {
  auto const byte = static_cast<std::uint32_t>(data);
  if constexpr (Modulus == kCastagnoli) {
    asm(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(state) : "r"(byte));
  } else {
    asm(".arch_extension crc\n\tcrc32b %w0, %w0, %w1" : "+r"(state) : "r"(byte));
  }
  return state;
}

template <std::uint32_t Modulus>
std::uint32_t by_instruction(std::uint32_t state, std::byte const* data, std::size_t size) {
  constexpr std::uint32_t skip_one = x_to_the<Modulus>(8 * kBlock);
  constexpr std::uint32_t skip_two = x_to_the<Modulus>(16 * kBlock);
  for (; size >= 3 * kBlock; data += 3 * kBlock, size -= 3 * kBlock) {
    std::uint32_t second = 0;
    std::uint32_t third = 0;
    for (std::size_t at = 0; at < kBlock; at += 8) {
      state = crc_word<Modulus>(state, data + at);
      second = crc_word<Modulus>(second, data + kBlock + at);
      third = crc_word<Modulus>(third, data + 2 * kBlock + at);
    }
    state = multiply<Modulus>(state, skip_two) ^ multiply<Modulus>(second, skip_one) ^ third;
  }
  for (; size >= 8; data += 8, size -= 8) state = crc_word<Modulus>(state, data);
  for (; size > 0; ++data, --size) state = crc_byte<Modulus>(state, *data);
  return state;
}

}  // namespace

std::uint32_t crc32c_armv8(std::uint32_t state, std::byte const* data, std::size_t size) {
  return by_instruction<kCastagnoli>(state, data, size);
}

std::uint32_t crc32_armv8(std::uint32_t state, std::byte const* data, std::size_t size) {
  return by_instruction<kZlib>(state, data, size);
}

}  // namespace aether::checksum
#endif
