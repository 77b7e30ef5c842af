// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#if defined(__aarch64__)
#include <sys/auxv.h>

#include <asm/hwcap.h>
#endif

#include <array>

#include "base/checksum_kernels.h"

namespace aether {
namespace checksum {
namespace {

struct Choice {
  std::array<Implementation, 4> list{};
  std::size_t count = 0;

  void add(std::string_view name, Kernel kernel) { list.at(count++) = {name, kernel}; }
};

#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
}
#elif defined(__aarch64__)
bool has_crc() {
  return (::getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
#endif

Choice choose_crc32c() {
  Choice choice;
#if defined(__x86_64__)
  bool const sse42 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
  if (sse42 && has_avx512()) choice.add("vpclmulqdq", crc32c_vpclmulqdq);
  if (sse42) choice.add("sse4.2", crc32c_sse42);
#elif defined(__aarch64__)
  if (has_crc()) choice.add("armv8", crc32c_armv8);
#endif
  choice.add("table", crc32c_table);
  return choice;
}

Choice choose_crc32() {
  Choice choice;
#if defined(__x86_64__)
  bool const pclmul = __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("pclmul");
  if (pclmul && has_avx512()) choice.add("vpclmulqdq", crc32_vpclmulqdq);
  if (pclmul) choice.add("pclmul", crc32_pclmul);
#elif defined(__aarch64__)
  if (has_crc()) choice.add("armv8", crc32_armv8);
#endif
  choice.add("table", crc32_table);
  return choice;
}

}  // namespace

std::span<Implementation const> implementations() {
  static Choice const choice = choose_crc32c();
  return std::span(choice.list).first(choice.count);
}

std::span<Implementation const> crc32_implementations() {
  static Choice const choice = choose_crc32();
  return std::span(choice.list).first(choice.count);
}

}  // namespace checksum

std::uint32_t crc32c(std::span<std::byte const> bytes, std::uint32_t crc) {
  static checksum::Kernel const kernel = checksum::implementations().front().kernel;
  return ~kernel(~crc, bytes.data(), bytes.size());
}

std::uint32_t crc32c(std::string_view bytes, std::uint32_t crc) {
  return crc32c(std::as_bytes(std::span(bytes)), crc);
}

std::string_view crc32c_implementation() {
  return checksum::implementations().front().name;
}

std::uint32_t crc32(std::span<std::byte const> bytes, std::uint32_t crc) {
  static checksum::Kernel const kernel = checksum::crc32_implementations().front().kernel;
  return ~kernel(~crc, bytes.data(), bytes.size());
}

std::uint32_t crc32(std::string_view bytes, std::uint32_t crc) {
  return crc32(std::as_bytes(std::span(bytes)), crc);
}

std::string_view crc32_implementation() {
  return checksum::crc32_implementations().front().name;
}

}  // namespace aether
