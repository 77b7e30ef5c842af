// SPDX-License-Identifier: Apache-2.0
// A hostile producer: the first bytes say what the header's words become, the rest is the data, as
// it pleases. The consumer reads until it is told that there is nothing or that all is lost.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ring/ring.h"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  using namespace aether::ring;
  static RingMemory const single = [] {
    RingSpec const spec{.capacity = 4096, .kind = Kind::Single, .checksum = Checksum::None};
    return aether::or_throw(RingMemory::create(std::span(&spec, 1)));
  }();
  static RingMemory const many = [] {
    RingSpec const spec{.capacity = 4096, .kind = Kind::Many, .checksum = Checksum::None};
    return aether::or_throw(RingMemory::create(std::span(&spec, 1)));
  }();
  if (size < 32) return 0;
  aether_ring const& ring = (data[0] & 1) != 0 ? many.ring() : single.ring();
  std::memset(ring.base + 128, 0, ring.total - 128);
  // head, tail, intent of the first slot: small numbers are the interesting ones.
  std::uint64_t const head = std::uint64_t{data[1]} * 8;
  std::uint64_t tail = 0;
  std::memcpy(&tail, data + 2, 3);
  std::memcpy(ring.base + AETHER_RING_AT_HEAD, &head, 8);
  std::memcpy(ring.base + AETHER_RING_AT_TAIL, &tail, 8);
  std::memcpy(ring.base + AETHER_RING_AT_SLOTS, data + 8, std::min<std::size_t>(size - 8, 24));
  std::memcpy(ring.data, data + 32, std::min<std::size_t>(size - 32, ring.capacity));
  auto in = Consumer::attach(ring, Peer::Hostile);
  AETHER_CHECK(in.has_value());
  in->set_spins(0);
  std::size_t bytes = 0;
  for (int look = 0; look < 2000; ++look) {
    auto const count = in->drain(7, [&](Message const& each) {
      for (std::byte const byte : each.payload) bytes += static_cast<std::size_t>(byte);
    });
    if (!count && in->counters().reason != 0) break;
    if (count && *count == 0 && !in->look_around()) break;
    if (count && *count == 0 && !in->ready()) break;
    AETHER_CHECK(look < 1999, "a hostile ring is read for ever");
  }
  auto out = Producer::attach(ring);
  if (!out) return 0;
  for (std::uint64_t each = 0; each < 8; ++each) {
    auto const room = out->claim(1, 3, data[5] * 8U);
    if (!room || !*room) break;
    std::ranges::fill(**room, std::byte{1});
    out->commit(each % 2 == 0 ? (*room)->size() : (*room)->size() / 2);
  }
  return bytes == 1 ? 0 : 0;
}
