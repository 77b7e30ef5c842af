// SPDX-License-Identifier: Apache-2.0
// memory-pass BYTES: what one core of this machine takes for one pass over that much memory: a
// CRC-32C over a fresh mapping of a sealed memfd (what a handoff cannot do without), the same over
// a mapping that has been read before, and a memcpy. Median of five; one JSON object.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "base/checksum.h"
#include "os/memfd.h"

namespace {

using namespace aether;
using Clock = std::chrono::steady_clock;

template <class Work>
double median_ms(Work work) {
  std::array<double, 5> took{};
  for (double& one : took) {
    auto const began = Clock::now();
    work();
    one = std::chrono::duration<double, std::milli>(Clock::now() - began).count();
  }
  std::ranges::sort(took);
  return took[took.size() / 2];
}

os::Memfd filled(std::uint64_t size) {
  os::Memfd memfd = or_throw(os::Memfd::create("memory-pass", size));
  std::vector<std::byte> const piece(std::min<std::uint64_t>(size, 1 << 20), std::byte{0x5a});
  for (std::uint64_t at = 0; at < size; at += piece.size()) {
    std::uint64_t const rest = std::min<std::uint64_t>(piece.size(), size - at);
    or_throw(memfd.write(at, std::span(piece).first(rest)));
  }
  or_throw(memfd.seal());
  return memfd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: memory-pass BYTES\n");
    return 2;
  }
  std::uint64_t const size = std::strtoull(argv[1], nullptr, 10);
  os::Memfd const memfd = filled(size);
  std::uint32_t volatile sink = 0;
  double const fresh = median_ms([&] {
    os::Mapping const mapping = or_throw(os::Mapping::map_read(memfd.fd(), size));
    sink = crc32c(mapping.bytes());
  });
  os::Mapping const mapping = or_throw(os::Mapping::map_read(memfd.fd(), size));
  double const warm = median_ms([&] { sink = crc32c(mapping.bytes()); });
  auto const copy = std::make_unique_for_overwrite<std::byte[]>(size);
  std::memset(copy.get(), 0, size);  // First touch is another cost than copying.
  double const copied = median_ms([&] {
    std::memcpy(copy.get(), mapping.bytes().data(), size);
    sink = static_cast<std::uint32_t>(copy[size / 2]);  // So that it is not left out.
  });
  fmt::print(
      "{{\"bytes\": {}, \"crc32c_fresh_map_ms\": {:.3f}, \"crc32c_warm_ms\": {:.3f}, "
      "\"memcpy_ms\": {:.3f}, \"crc32c\": \"{}\"}}\n",
      size, fresh, warm, copied, crc32c_implementation());
  return 0;
}
