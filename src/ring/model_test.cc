// SPDX-License-Identifier: Apache-2.0
// The header's own code, walked through all its executions by the explorer of model.h. Not part of
// the unity build: here each access to shared memory is a step of the explorer.
#include "ring/model.h"

namespace aether::ring::model {
// The explorer of the scenario that runs; none while it is set up.
static Explorer* explorer = nullptr;  // NOLINT

template <class Word>
Word model_load(char const* site, Word* at, int order) {
  if (explorer == nullptr) return *at;
  // A record's own words are relaxed only for the sanitizers: nothing may race for them.
  if (std::string_view(site) == "record") return explorer->plain_read(at);
  return static_cast<Word>(explorer->load(site, at, sizeof(Word), order));
}
template <class Word>
void model_store(char const* site, Word* at, std::uint64_t value, int order) {
  if (explorer == nullptr) {
    *at = static_cast<Word>(value);
  } else if (std::string_view(site) == "record") {
    explorer->plain_write(at, value);
  } else {
    explorer->store(site, at, sizeof(Word), value, order);
  }
}
template <class Word>
Word model_exchange(char const* site, Word* at, std::uint64_t value) {
  return static_cast<Word>(explorer->exchange(site, at, sizeof(Word), value));
}
template <class Word>
bool model_compare_exchange(char const* site, Word* at, Word* expected, std::uint64_t desired) {
  if (explorer == nullptr) {
    *at = static_cast<Word>(desired);
    return true;
  }
  std::uint64_t value = *expected;
  bool const done = explorer->compare_exchange(site, at, sizeof(Word), value, desired);
  *expected = static_cast<Word>(value);
  return done;
}
static void model_fence(char const* site) {
  if (explorer != nullptr) explorer->fence(site);
}
static void model_copy_out(void* to, void const* from, std::size_t size) {
  for (std::size_t at = 0; at < size; at += 8) {
    static_cast<std::uint64_t*>(to)[at / 8] =
        explorer->plain_read(static_cast<char const*>(from) + at);
  }
}
static void model_zero(void* to, std::size_t size) {
  for (std::size_t at = 0; at < size; at += 8) {
    explorer->plain_write(static_cast<char*>(to) + at, 0);
  }
}
}  // namespace aether::ring::model

#define AETHER_RING_LOAD(site, pointer, order) \
  ::aether::ring::model::model_load(#site, pointer, __ATOMIC_##order)
#define AETHER_RING_STORE(site, pointer, value, order) \
  ::aether::ring::model::model_store(#site, pointer, value, __ATOMIC_##order)
#define AETHER_RING_EXCHANGE(site, pointer, value) \
  ::aether::ring::model::model_exchange(#site, pointer, value)
#define AETHER_RING_CAS(site, pointer, expected, desired) \
  ::aether::ring::model::model_compare_exchange(#site, pointer, expected, desired)
#define AETHER_RING_FENCE(site) ::aether::ring::model::model_fence(#site)
#define AETHER_RING_COPY_OUT(to, from, size) ::aether::ring::model::model_copy_out(to, from, size)
#define AETHER_RING_ZERO(to, size) ::aether::ring::model::model_zero(to, size)
#define AETHER_RING_FUTEX_WAIT(word, value, nanoseconds) \
  ((void)(nanoseconds), ::aether::ring::model::explorer->futex_wait(word, value))
#define AETHER_RING_FUTEX_WAKE(word) ::aether::ring::model::explorer->futex_wake(word)
#define AETHER_RING_NOW() UINT64_C(0)
#define AETHER_RING_IS_DEAD(process) \
  ((process)->pid == 1 && ::aether::ring::model::explorer->dead())

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <gmock/gmock.h>

#include "aether_ring.h"

namespace aether::ring::model {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kCapacity = 128;  // Three records with eight bytes of payload each.
constexpr std::uint64_t kForever = UINT64_MAX;

// A ring in memory that only the explorer changes once it runs. What `used` says was sent and read
// before, so that the records go around the end.
struct Bench {
  alignas(4096) std::array<unsigned char, 16384> memory{};
  aether_ring ring{};
  aether_ring_consumer in{};
  std::array<aether_ring_producer, 2> out{};
  std::uint64_t begin = 0;

  Bench(std::uint32_t kind, std::uint64_t used, std::uint64_t waiting = 0) {
    explorer = nullptr;
    aether_ring_format(memory.data(), kind, 4096, AETHER_RING_UNCHECKED, 0);
    aether_ring_open(&ring, memory.data(), memory.size());
    ring.capacity = kCapacity;
    std::uint32_t const producers = kind == AETHER_RING_SINGLE ? 1 : 2;
    ring.slots = producers;
    begin = used;
    std::memcpy(memory.data() + AETHER_RING_AT_HEAD, &used, 8);
    std::memcpy(memory.data() + AETHER_RING_AT_TAIL, &used, 8);
    aether_ring_attach_consumer(&in, &ring);
    in.known = ~0ULL;
    for (std::uint32_t each = 0; each < producers; ++each) {
      aether_ring_attach_producer(&out.at(each), &ring);
    }
    for (std::uint32_t pid = 1; pid <= producers; ++pid) {  // Process 1 is the mortal one.
      std::memcpy(memory.data() + aether_ring_slot_at(pid - 1) + 20, &pid, 4);
    }
    // One producer leaves its old records behind: the consumer must not take them for new ones.
    if (kind == AETHER_RING_SINGLE) {
      for (std::uint64_t at = 0; at < kCapacity; at += 32) {
        if (at == used % kCapacity) continue;
        std::uint64_t const old = aether_ring_make_lead(32, 1, 3);
        std::memcpy(ring.data + at, &old, 8);
      }
    }
    for (std::uint64_t each = 1; each <= waiting; ++each) {
      aether_ring_send(&out[0], 1, 3, &each, sizeof each);
    }
  }
};

// What a consumer got; lives outside of the fibers, whose stacks are given up half way.
struct Got {
  std::array<std::uint64_t, 8> values{};
  std::size_t count = 0;
};

// `words` of payload, each of them the value.
void send_one(aether_ring_producer& out, std::uint64_t value, std::uint64_t words = 1) {
  void* payload = nullptr;
  int status = aether_ring_claim(&out, 1, 3, words * 8, &payload);
  while (status == AETHER_RING_FULL) {
    status = aether_ring_wait_room(&out, words * 8, kForever);
    if (status == AETHER_RING_OK) status = aether_ring_claim(&out, 1, 3, words * 8, &payload);
  }
  if (status != AETHER_RING_OK) return explorer->fail("the producer fails");
  for (std::uint64_t at = 0; at < words; ++at) {
    explorer->plain_write(static_cast<std::uint64_t*>(payload) + at, value);
  }
  aether_ring_commit(&out, words * 8);
  aether_ring_flush(&out);
}

void read_until(aether_ring_consumer& in, Got& got, std::size_t count) {
  while (got.count < count) {
    std::array<std::uint64_t, 4> words{};
    aether_ring_message message;
    int const status = aether_ring_read(&in, &message, words.data(), sizeof words);
    if (status == AETHER_RING_OK) {
      got.values.at(got.count++) = words.at(message.size / 8 - 1);
      continue;
    }
    if (status != AETHER_RING_EMPTY) return explorer->fail("the consumer reads nonsense");
    int const waited = aether_ring_wait(&in, kForever, 0);
    if (waited != AETHER_RING_OK) return explorer->fail("the consumer's wait fails");
  }
}

// One producer sends messages until there were `count`, `waiting` of which lie there when it
// begins; the consumer reads them all. The ring has room for three.
Outcome one_producer(std::uint64_t used, std::uint64_t waiting, std::uint64_t count,
                     Mistake mistake = {}) {
  Bench const bench(AETHER_RING_SINGLE, used, waiting);
  Explorer mine;
  explorer = &mine;
  aether_ring_producer out;
  aether_ring_consumer in;
  Got got;
  return mine.run(
      [&] {
        out = bench.out[0];
        in = bench.in;
        got = {};
        Program program;
        program.threads = {[&] {
                             for (std::uint64_t each = waiting + 1; each <= count; ++each)
                               send_one(out, each, waiting == 0 ? 1 : 4);
                           },
                           [&] { read_until(in, got, count); }};
        program.verdict = [&] {
          for (std::uint64_t each = 0; each < count; ++each) {
            if (got.values.at(each) != each + 1) return std::string("a message came wrong");
          }
          return std::string();
        };
        return program;
      },
      mistake);
}

// Reads what there is; what keeps the reader waiting is looked at. False: nothing more for now.
bool look_once(aether_ring_consumer& in, Got& got) {
  std::uint64_t value = 0;
  aether_ring_message message;
  int const status = aether_ring_read(&in, &message, &value, sizeof value);
  if (status == AETHER_RING_OK) got.values.at(got.count++) = value;
  if (status != AETHER_RING_OK && status != AETHER_RING_EMPTY)
    explorer->fail("the consumer reads nonsense");
  aether_ring_release(&in);
  if (status == AETHER_RING_OK) return true;
  int const stuck = aether_ring_unblock(&in);
  if (stuck == AETHER_RING_POISONED) explorer->fail("an honest claim is taken for nonsense");
  return stuck == AETHER_RING_OK;
}

// Two producers send one message each, while the consumer reads and looks at stuck claims; then it
// reads what they have left. The first one may be killed anywhere.
Outcome two_producers(std::uint64_t used, bool mortal, Mistake mistake = {}) {
  Bench const bench(AETHER_RING_MANY, used);
  Explorer mine;
  explorer = &mine;
  std::array<aether_ring_producer, 2> out;
  aether_ring_consumer in;
  Got got;
  return mine.run(
      [&] {
        out = bench.out;
        in = bench.in;
        got = {};
        Program program;
        program.mortal = mortal ? 0 : -1;
        program.threads = {[&] { send_one(out[0], 1); }, [&] { send_one(out[1], 2); },
                           [&] {
                             look_once(in, got);
                             explorer->join_others();
                             while (look_once(in, got)) {
                             }
                           }};
        program.verdict = [&] {
          auto const end = got.values.begin() + static_cast<std::ptrdiff_t>(got.count);
          auto const first = std::count(got.values.begin(), end, 1U);
          auto const second = std::count(got.values.begin(), end, 2U);
          bool const sound = second == 1 && (first == 1 || (mortal && first == 0)) &&
                             got.count == static_cast<std::size_t>(first + second);
          return std::string(sound ? "" : "a message is lost, wrong, or came twice");
        };
        return program;
      },
      mistake);
}

void expect_sound(Outcome const& outcome) {
  EXPECT_EQ(outcome.failure, "");
  EXPECT_GT(outcome.states, 100U);
  testing::Test::RecordProperty("states", static_cast<int>(outcome.states));
  testing::Test::RecordProperty("executions", static_cast<int>(outcome.executions));
  printf("          %zu states, %zu executions\n", outcome.states, outcome.executions);
}

TEST(Model, OneProducerIsHeardInEveryExecution) {
  expect_sound(one_producer(0, 0, 2));
}

TEST(Model, OneProducerIsHeardInEveryExecutionAcrossTheEnd) {
  expect_sound(one_producer(104, 0, 2));
}

TEST(Model, OneProducerThatFindsNoRoomIsWokenInEveryExecution) {
  expect_sound(one_producer(64, 3, 4));
}

TEST(Model, TwoProducersAreHeardOnceInEveryExecution) {
  expect_sound(two_producers(0, false));
}

TEST(Model, ADeadProducersClaimIsPassedOverWhereverItDied) {
  expect_sound(two_producers(0, true));
}

TEST(Model, ADeadProducersClaimAcrossTheEndIsPassedOverWhereverItDied) {
  expect_sound(two_producers(112, true));
}

struct Planted {
  char const* what;
  Mistake mistake;
  Outcome (*scenario)(Mistake);
  char const* found;
};

Outcome plain(Mistake mistake) {
  return one_producer(104, 0, 2, mistake);
}
Outcome full(Mistake mistake) {
  return one_producer(64, 3, 4, mistake);
}
Outcome many(Mistake mistake) {
  return two_producers(0, false, mistake);
}
Outcome mortal(Mistake mistake) {
  return two_producers(0, true, mistake);
}

using enum Mistake::Kind;

class PlantedMistake : public testing::TestWithParam<Planted> {};

TEST_P(PlantedMistake, IsFound) {
  Outcome const outcome = GetParam().scenario(GetParam().mistake);
  EXPECT_NE(outcome.failure, "");
  EXPECT_THAT(outcome.failure, HasSubstr(GetParam().found));
}

INSTANTIATE_TEST_SUITE_P(
    Ring, PlantedMistake,
    testing::Values(
        Planted{"RelaxedCommit", {"commit", Relaxed}, plain, "races"},
        Planted{"RelaxedLookAtTheRecord", {"peek", Relaxed}, plain, "races"},
        Planted{"NoFenceBeforeTheLookAtWhoSleeps", {"wake", NoFence}, plain, "nobody will wake"},
        Planted{"NoFenceBeforeTheLastLook", {"ask", NoFence}, plain, "nobody will wake"},
        Planted{"NoLastLookBeforeTheSleep", {"look_again", Unlooked}, plain, "nobody will wake"},
        Planted{"NextLeadNotZeroed", {"zero_next", Unwritten}, plain, "races"},
        Planted{"RelaxedPadding", {"commit_pad", Relaxed}, plain, "races"},
        Planted{"RelaxedHead", {"head", Relaxed}, full, "races"},
        Planted{"RelaxedLookAtTheHead", {"see_head", Relaxed}, full, "races"},
        Planted{"NoFenceBeforeTheLastLookForRoom", {"ask_room", NoFence}, full, "nobody will wake"},
        Planted{"RelaxedCommitOfMany", {"commit", Relaxed}, many, "races"},
        Planted{"RelaxedClaim", {"claim", Relaxed}, many, "taken for nonsense"},
        Planted{"RelaxedEndOfTheClaim", {"intent", Relaxed}, many, "taken for nonsense"},
        Planted{"ClaimNotSaidBefore", {"intent", Unwritten}, many, "taken for nonsense"},
        Planted{"NoSecondLookAtAStuckClaim", {"unblock_again", Unlooked}, mortal, "taken for"}),
    [](auto const& each) { return each.param.what; });

}  // namespace
}  // namespace aether::ring::model
