// SPDX-License-Identifier: Apache-2.0
#include "ring/ring.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <random>
#include <thread>
#include <tuple>

#include <gmock/gmock.h>

#include "base/fault.h"
#include "ring/testing.h"

namespace aether::ring {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class EveryRing : public testing::TestWithParam<std::tuple<Kind, Checksum, Peer>> {
 protected:
  static RingSpec spec(std::uint64_t capacity) {
    return {
        .capacity = capacity, .kind = std::get<0>(GetParam()), .checksum = std::get<1>(GetParam())};
  }
  static Peer peer() { return std::get<2>(GetParam()); }
};

TEST_P(EveryRing, DeliversMessagesInOrderWithTypeFlagsAndSequence) {
  RingMemory const memory = make_ring(spec(4096));
  Producer out = must(Producer::attach(memory.ring()));
  Consumer in = must(Consumer::attach(memory.ring(), peer()));
  put(out, "one", 7);
  put(out, "", 8);
  put(out, "three", 65534);
  std::vector<std::tuple<std::string, int, int, std::uint64_t>> got;
  std::size_t const count = must(in.drain(10, [&](Message const& each) {
    got.emplace_back(as_text(each.payload), each.type, each.flags, each.sequence);
  }));
  EXPECT_EQ(count, 3U);
  EXPECT_THAT(got, ElementsAre(std::tuple("one", 7, 3, 0), std::tuple("", 8, 3, 1),
                               std::tuple("three", 65534, 3, 2)));
  EXPECT_THAT(take_all(in), IsEmpty());
}

TEST_P(EveryRing, WrapsAtEveryOffsetWithEverySize) {
  for (std::uint64_t offset = 0; offset < 4096; offset += 8) {
    RingMemory const memory = make_ring(spec(4096));
    std::uint64_t const start = 4096 * 3 + offset;
    std::memcpy(memory.ring().base + AETHER_RING_AT_TAIL, &start, sizeof start);
    std::memcpy(memory.ring().base + AETHER_RING_AT_HEAD, &start, sizeof start);
    Producer out = must(Producer::attach(memory.ring()));
    Consumer in = must(Consumer::attach(memory.ring(), peer()));
    for (std::size_t const size : {0U, 1U, 8U, 63U, 1000U, 2016U, 2016U, 7U}) {
      std::string const text = text_of(offset + size, size);
      put(out, text);
      ASSERT_THAT(take_all(in), ElementsAre(text)) << offset << " " << size;
    }
  }
}

TEST_P(EveryRing, GoesThroughAllOffsetsWithEveryRemainder) {
  // Sizes around each other move the records through all offsets of the data, modulo 8 and not.
  for (std::size_t first = 0; first <= 4096 / 2 - 32; first += 37) {
    RingMemory const memory = make_ring(spec(4096));
    Producer out = must(Producer::attach(memory.ring()));
    Consumer in = must(Consumer::attach(memory.ring(), peer()));
    std::size_t const other = (first * 5 + 3) % (4096 / 2 - 32);
    for (std::uint64_t number = 0; number < 40; ++number) {
      std::string const text = text_of(number, number % 3 == 0 ? other : first);
      put(out, text);
      ASSERT_THAT(take_all(in), ElementsAre(text)) << first << " " << number;
    }
  }
}

TEST_P(EveryRing, HoldsWhatFitsAndIsFullThenForAnyMixOfSizes) {
  std::mt19937_64 random(5);
  RingMemory const memory = make_ring(spec(4096));
  Producer out = must(Producer::attach(memory.ring()));
  Consumer in = must(Consumer::attach(memory.ring(), peer()));
  std::deque<std::string> due;
  int full = 0;
  for (std::uint64_t number = 0; number < 20'000; ++number) {
    std::size_t const size = random() % (random() % 8 == 0 ? out.payload_max() + 1 : 200);
    auto room = must(out.claim(1, 3, size));
    if (room) {
      due.push_back(text_of(number, size));
      std::ranges::copy(bytes_of(due.back()), room->begin());
      out.commit(size);
      continue;
    }
    ++full;
    for (std::string const& text : take_all(in, 1 + random() % 5)) {
      ASSERT_EQ(text, due.front());
      due.pop_front();
    }
  }
  EXPECT_GT(full, 1000);
  for (std::string const& text : take_all(in)) {
    ASSERT_EQ(text, due.front());
    due.pop_front();
  }
  EXPECT_THAT(due, IsEmpty());
  Counters const counters = in.counters();
  EXPECT_EQ(counters.gaps + counters.mismatches + counters.unblocked + counters.reason, 0U);
}

TEST_P(EveryRing, TakesBackAnAbortedClaimAndTheUnusedEndOfAShrunkenOne) {
  RingMemory const memory = make_ring(spec(4096));
  Producer out = must(Producer::attach(memory.ring()));
  Consumer in = must(Consumer::attach(memory.ring(), peer()));
  for (std::size_t used = 0; used <= 64; ++used) {
    ASSERT_TRUE(must(out.claim(1, 3, 100)).has_value());
    EXPECT_EQ(out.claim(1, 3, 1).error().code(), ErrorCode::Conflict);
    out.abort();
    std::string const text = text_of(used, used);
    auto room = must(out.claim(1, 3, 64));
    std::ranges::copy(bytes_of(text), room->begin());
    out.commit(used);
    ASSERT_THAT(take_all(in), ElementsAre(text));
  }
  EXPECT_EQ(in.counters().gaps, 0U);
}

TEST_P(EveryRing, SendsMessagesLargerThanItselfInFragments) {
  RingMemory const memory = make_ring(spec(4096));
  Producer out = must(Producer::attach(memory.ring()));
  std::string const large = text_of(9, 100'000);
  std::string got;
  std::jthread reader([&] {
    Consumer in = must(Consumer::attach(memory.ring(), peer()));
    Assembler assembler(1 << 20);
    while (got.empty()) {
      ASSERT_EQ(must(in.wait(10s)), Consumer::Waited::Ready);
      must(in.drain(64, [&](Message const& each) {
        if (auto whole = must(assembler.add(each))) got = as_text(whole->payload);
      }));
    }
  });
  Status const sent = out.send(5, bytes_of(large), 10s);
  EXPECT_TRUE(sent.has_value()) << sent.error().describe();
  reader.join();
  EXPECT_EQ(got, large);
}

INSTANTIATE_TEST_SUITE_P(All, EveryRing,
                         testing::Combine(testing::Values(Kind::Single, Kind::Many),
                                          testing::Values(Checksum::None, Checksum::Crc32,
                                                          Checksum::Crc32c),
                                          testing::Values(Peer::Hostile, Peer::Trusted)));

TEST(Ring, IsNotMadeHalfWhenItsMemoryCannotBeHad) {
  RingMemory const memory = make_ring({.capacity = 4096});
  RingSpec const spec{.capacity = 4096};
  for (char const* const point : {"ring.make:1:eio", "ring.map:1:eio"}) {
    ASSERT_TRUE(fault::configure(point));
    EXPECT_FALSE(RingMemory::create(std::span(&spec, 1)).has_value()) << point;
  }
  ASSERT_TRUE(fault::configure("ring.map:1:eio"));
  EXPECT_FALSE(RingMemory::adopt(os::UniqueFd(::dup(memory.fd()))).has_value());
  ASSERT_TRUE(fault::configure(""));
  EXPECT_TRUE(RingMemory::adopt(os::UniqueFd(::dup(memory.fd()))).has_value());
}

TEST(Ring, IsRefusedWithTheReasonWhenItsSizeCannotBe) {
  for (std::uint64_t const capacity : {0ULL, 2048ULL, 5000ULL, 1ULL << 31, 1ULL << 63}) {
    RingSpec const spec{.capacity = capacity};
    Result<RingMemory> const memory = RingMemory::create(std::span(&spec, 1));
    ASSERT_FALSE(memory.has_value());
    EXPECT_EQ(memory.error().code(), ErrorCode::LimitReached);
  }
}

TEST(Ring, HasOneProducerAndOneConsumerWhileTheyLiveAndTheNextAfterThem) {
  RingMemory const memory = make_ring({.capacity = 4096});
  for (std::uint64_t round = 0; round < 3; ++round) {
    Producer out = must(Producer::attach(memory.ring()));
    Consumer in = must(Consumer::attach(memory.ring()));
    EXPECT_EQ(Producer::attach(memory.ring()).error().code(), ErrorCode::Conflict);
    EXPECT_EQ(Consumer::attach(memory.ring()).error().code(), ErrorCode::Conflict);
    put(out, "hello");
    must(in.drain(9, [&](Message const& each) { EXPECT_EQ(each.sequence, round); }));
  }
}

TEST(Ring, GivesSixtyFourProducersASlotAndTheNextARefusal) {
  RingMemory const memory = make_ring({.capacity = 4096, .kind = Kind::Many});
  std::vector<Producer> all;
  for (int each = 0; each < 64; ++each) all.push_back(must(Producer::attach(memory.ring())));
  EXPECT_EQ(Producer::attach(memory.ring()).error().code(), ErrorCode::Conflict);
  all.pop_back();
  EXPECT_TRUE(Producer::attach(memory.ring()).has_value());
}

TEST(Ring, TellsItsReaderThatAllIsReadWhenTheProducerHasClosed) {
  RingMemory const memory = make_ring({.capacity = 4096});
  Consumer in = must(Consumer::attach(memory.ring()));
  EXPECT_EQ(must(in.wait(1ms)), Consumer::Waited::TimedOut);
  {
    Producer out = must(Producer::attach(memory.ring()));
    put(out, "last");
    EXPECT_EQ(must(in.wait(1ms)), Consumer::Waited::Ready);
  }
  EXPECT_EQ(must(in.wait(1s)), Consumer::Waited::Ready);
  EXPECT_THAT(take_all(in), ElementsAre("last"));
  EXPECT_EQ(must(in.wait(1s)), Consumer::Waited::Closed);
}

TEST(Ring, TellsItsWriterThatTimeIsOverOrThatTheReaderHasGone) {
  RingMemory const memory = make_ring({.capacity = 4096});
  Producer out = must(Producer::attach(memory.ring()));
  std::string const much(10'000, 'x');
  EXPECT_EQ(out.send(1, bytes_of(much), 5ms).error().code(), ErrorCode::Timeout);
  must(Consumer::attach(memory.ring()));
  EXPECT_EQ(out.send(1, bytes_of(much), 5s).error().code(), ErrorCode::RingPeerGone);
  EXPECT_EQ(out.claim(1, 3, out.payload_max() + 1).error().code(), ErrorCode::LimitReached);
  EXPECT_EQ(out.claim(65535, 3, 1).error().code(), ErrorCode::RequestInvalid);
}

TEST(Ring, TellsALostMessageOnceAndGoesOnWithTheNext) {
  RingMemory const memory = make_ring({.capacity = 4096});
  Producer out = must(Producer::attach(memory.ring()));
  Consumer in = must(Consumer::attach(memory.ring()));
  put(out, "zero");
  out.core().sequence += 2;
  put(out, "three");
  put(out, "four");
  std::vector<std::string> got;
  auto const keep = [&](Message const& each) { got.push_back(as_text(each.payload)); };
  Result<std::size_t> const first = in.drain(9, keep);
  ASSERT_FALSE(first.has_value());
  EXPECT_EQ(first.error().code(), ErrorCode::RingGap);
  EXPECT_THAT(first.error().message(), HasSubstr("message 3 of producer 0 came where 1 was due"));
  EXPECT_EQ(must(in.drain(9, keep)), 2U);
  EXPECT_THAT(got, ElementsAre("zero", "three", "four"));
  EXPECT_EQ(in.counters().gaps, 1U);
}

TEST(Ring, PassesOverAMessageThatArrivedChanged) {
  RingMemory const memory = make_ring({.capacity = 4096});
  Producer out = must(Producer::attach(memory.ring()));
  Consumer in = must(Consumer::attach(memory.ring()));
  put(out, "first");
  memory.ring().data[AETHER_RING_RECORD] ^= 1;
  put(out, "second");
  Result<std::size_t> const got = in.drain(9, [](Message const&) { FAIL(); });
  ASSERT_FALSE(got.has_value());
  EXPECT_EQ(got.error().code(), ErrorCode::ChecksumMismatch);
  EXPECT_THAT(take_all(in), ElementsAre("second"));
  EXPECT_EQ(in.counters().mismatches, 1U);
  EXPECT_EQ(in.counters().gaps, 0U);
}

TEST(Ring, IsPoisonedForBothSidesByALengthThatCannotBe) {
  for (std::uint32_t const length : {1U, 23U, 2048U, 4096U, 0x7FFFFFFFU}) {
    RingMemory const memory = make_ring({.capacity = 4096});
    Producer out = must(Producer::attach(memory.ring()));
    Consumer in = must(Consumer::attach(memory.ring()));
    put(out, "first");
    std::memcpy(memory.ring().data, &length, sizeof length);
    EXPECT_EQ(in.drain(9, [](Message const&) {}).error().code(), ErrorCode::RingPoisoned);
    EXPECT_EQ(reason_name(in.counters().reason), "length of a record");
    EXPECT_EQ(in.wait(1s).error().code(), ErrorCode::RingPoisoned);
    EXPECT_EQ(out.send(1, bytes_of(std::string(5000, 'x')), 5s).error().code(),
              ErrorCode::RingPoisoned);
    EXPECT_EQ(reason_name(out.core().reason), "found by the peer");
  }
}

TEST(Ring, IsPoisonedForTheWriterByAHeadThatCannotBe) {
  for (std::uint64_t const head : {8ULL << 20, 5ULL, ~0ULL - 7}) {
    RingMemory const memory = make_ring({.capacity = 4096});
    Producer out = must(Producer::attach(memory.ring()));
    std::memcpy(memory.ring().base + AETHER_RING_AT_HEAD, &head, sizeof head);
    Status const sent = out.send(1, bytes_of(std::string(5000, 'x')), 5s);
    EXPECT_EQ(sent.error().code(), ErrorCode::RingPoisoned) << head;
    EXPECT_EQ(reason_name(out.core().reason), "head");
  }
}

TEST(Ring, IsNotAdoptedUnlessItIsSealedAndItsHeaderMakesSense) {
  RingSpec const spec{.capacity = 4096};
  for (std::size_t at = 0; at < 80; ++at) {
    RingMemory const good = make_ring(spec);
    ASSERT_TRUE(RingMemory::adopt(must(os::duplicate(good.fd()))).has_value());
    good.ring().base[at] ^= 0x10;
    Result<RingMemory> const bad = RingMemory::adopt(must(os::duplicate(good.fd())));
    ASSERT_FALSE(bad.has_value()) << "byte " << at;
    EXPECT_EQ(bad.error().code(), ErrorCode::ProtocolViolation);
  }
  os::Memfd open = must(os::Memfd::create("open", 1 << 16));
  EXPECT_EQ(RingMemory::adopt(std::move(open).take_fd()).error().code(),
            ErrorCode::ProtocolViolation);
  os::Memfd tiny = must(os::Memfd::create("tiny", 8));
  ASSERT_EQ(::fcntl(tiny.fd(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  EXPECT_EQ(RingMemory::adopt(std::move(tiny).take_fd()).error().code(),
            ErrorCode::ProtocolViolation);
}

TEST(Ring, CannotBeShortenedByThePeer) {
  RingMemory const memory = make_ring({.capacity = 4096});
  EXPECT_NE(::ftruncate(memory.fd(), 4096), 0);
  EXPECT_NE(::ftruncate(memory.fd(), 1 << 20), 0);
}

TEST(Ring, LiesBehindAnotherInTheSameMemory) {
  std::array<RingSpec, 2> const specs{RingSpec{.capacity = 4096}, RingSpec{.capacity = 8192}};
  RingMemory const mine = must(RingMemory::create(specs));
  RingMemory const theirs = must(RingMemory::adopt(must(os::duplicate(mine.fd()))));
  ASSERT_EQ(theirs.count(), 2U);
  Producer ask = must(Producer::attach(mine.ring(0)));
  Consumer asked = must(Consumer::attach(theirs.ring(0)));
  Producer answer = must(Producer::attach(theirs.ring(1)));
  Consumer answered = must(Consumer::attach(mine.ring(1)));
  put(ask, "question");
  EXPECT_THAT(take_all(asked), ElementsAre("question"));
  put(answer, "answer");
  EXPECT_THAT(take_all(answered), ElementsAre("answer"));
}

TEST(Assembler, KeepsTheFragmentsOfProducersApartAndTheirSizeBounded) {
  Assembler assembler(8);
  auto const piece = [](std::string_view text, std::uint16_t flags, std::uint32_t producer) {
    return Message{.payload = bytes_of(text), .type = 1, .flags = flags, .producer = producer};
  };
  EXPECT_EQ(assembler.add(piece("x", 0, 0)).error().code(), ErrorCode::ProtocolViolation);
  EXPECT_FALSE(must(assembler.add(piece("ab", AETHER_RING_FIRST, 0))));
  EXPECT_FALSE(must(assembler.add(piece("12", AETHER_RING_FIRST, 1))));
  EXPECT_EQ(as_text(must(assembler.add(piece("cd", AETHER_RING_LAST, 0)))->payload), "abcd");
  EXPECT_EQ(as_text(must(assembler.add(piece("34", AETHER_RING_LAST, 1)))->payload), "1234");
  EXPECT_FALSE(must(assembler.add(piece("12345", AETHER_RING_FIRST, 1))));
  EXPECT_EQ(assembler.add(piece("6789", 0, 1)).error().code(), ErrorCode::LimitReached);
  EXPECT_EQ(assembler.add(piece("123456789", 3, 1)).error().code(), ErrorCode::LimitReached);
}

}  // namespace
}  // namespace aether::ring
