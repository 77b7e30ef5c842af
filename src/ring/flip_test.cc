// SPDX-License-Identifier: Apache-2.0
// Every bit of a ring in use is turned once. Whatever happens then, a reader is never given what
// was not sent, nor anything twice, and is told when something is missing.
#include <algorithm>
#include <cstring>

#include "ring/testing.h"

namespace aether::ring {
namespace {

constexpr std::uint64_t kBefore =
    60;  // Messages read before, so that those waiting go round the end.
constexpr std::uint64_t kWaiting = 6;
constexpr std::uint64_t kAfter = 3;

std::string nth(std::uint64_t number) {
  return text_of(number, 20 + number * 13 % 90);
}

// A ring in the middle of its life, to be brought back to this moment again and again.
struct Moment {
  RingMemory memory;
  Producer out;
  Consumer in;
  std::vector<unsigned char> bytes;
  aether_ring_producer out_then{};
  aether_ring_consumer in_then{};

  explicit Moment(Kind kind)
      : memory(make_ring({.capacity = 4096, .kind = kind})),
        out(must(Producer::attach(memory.ring()))),
        in(must(Consumer::attach(memory.ring()))) {
    for (std::uint64_t number = 0; number < kBefore; ++number) {
      put(out, nth(number));
      EXPECT_EQ(take_all(in).size(), 1U);
    }
    for (std::uint64_t number = 0; number < kWaiting; ++number) put(out, nth(kBefore + number));
    aether_ring const& ring = memory.ring();
    bytes.assign(ring.base, ring.base + ring.total);
    out_then = out.core();
    in_then = in.core();
  }

  void restore() {
    std::ranges::copy(bytes, memory.ring().base);
    out.core() = out_then;
    in.core() = in_then;
  }
};

struct Heard {
  std::vector<std::uint64_t> numbers;
  int faults = 0;
  bool wrong = false;
};

void hear(Consumer& in, Heard& heard) {
  for (int look = 0; look < 40; ++look) {
    Result<std::size_t> const count = in.drain(100, [&](Message const& each) {
      heard.numbers.push_back(each.sequence);
      heard.wrong = heard.wrong || as_text(each.payload) != nth(each.sequence);
    });
    if (!count) ++heard.faults;
    if (count && *count == 0) break;
  }
  // A stall is told at the second look, and by others at once.
  for (int look = 0; look < 2; ++look) {
    if (!in.look_around()) ++heard.faults;
  }
}

void turn_every_bit(Kind kind, std::size_t begin, std::size_t end) {
  Moment moment(kind);
  for (std::size_t at = begin * 8; at < end * 8; ++at) {
    moment.restore();
    moment.memory.ring().base[at / 8] ^= static_cast<unsigned char>(1U << at % 8);
    Heard heard;
    hear(moment.in, heard);
    std::uint64_t sent = kWaiting;
    for (std::uint64_t number = 0; number < kAfter; ++number) {
      std::string const text = nth(kBefore + sent);
      if (moment.out.send(1, bytes_of(text), 0ns)) ++sent;
    }
    hear(moment.in, heard);
    ASSERT_FALSE(heard.wrong) << "byte " << at / 8 << " bit " << at % 8;
    ASSERT_EQ(std::ranges::adjacent_find(heard.numbers, std::ranges::greater_equal()),
              heard.numbers.end())
        << "byte " << at / 8 << " bit " << at % 8;
    bool const whole = heard.numbers.size() == sent && sent == kWaiting + kAfter;
    bool const told = heard.faults > 0 || moment.out.core().reason != 0 || sent < kWaiting + kAfter;
    ASSERT_TRUE(whole || told) << "byte " << at / 8 << " bit " << at % 8 << ": "
                               << heard.numbers.size() << " of " << sent;
  }
}

TEST(RingFlips, OfTheHeaderNeverMakeAReaderBelieveWhatWasNotSent) {
  turn_every_bit(Kind::Single, 0, AETHER_RING_AT_SLOTS + AETHER_RING_SLOT);
}

TEST(RingFlips, OfTheHeaderOfManyProducersNeverMakeAReaderBelieveWhatWasNotSent) {
  turn_every_bit(Kind::Many, 0, AETHER_RING_AT_SLOTS + 2 * AETHER_RING_SLOT);
}

TEST(RingFlips, OfRecordsAreToldAndNeverBelieved) {
  turn_every_bit(Kind::Single, 4096, 8192);
}

TEST(RingFlips, OfRecordsOfManyProducersAreToldAndNeverBelieved) {
  turn_every_bit(Kind::Many, 12288, 16384);
}

}  // namespace
}  // namespace aether::ring
