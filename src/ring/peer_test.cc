// SPDX-License-Identifier: Apache-2.0
// Real processes at both ends, killed and stopped at any moment.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <random>

#include "ring/testing.h"

namespace aether::ring {
namespace {

// A copy of this process that does one thing; killed and reaped when it is let go.
class OtherProcess {
 public:
  explicit OtherProcess(std::function<void()> const& body) : pid_(::fork()) {
    if (pid_ != 0) return;
    body();
    ::_exit(0);
  }
  OtherProcess(OtherProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  OtherProcess& operator=(OtherProcess&& other) noexcept {
    std::swap(pid_, other.pid_);
    return *this;
  }
  ~OtherProcess() { kill(); }

  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
  }
  void signal(int number) const { ::kill(pid_, number); }

 private:
  pid_t pid_;
};

std::string numbered(std::uint64_t producer, std::uint64_t sequence) {
  return text_of(producer << 32 | sequence, 1 + (sequence * 37 + producer) % 700);
}

// Writes numbered messages for ever.
[[noreturn]] void write_for_ever(aether_ring const& ring) {
  Result<Producer> out = Producer::attach(ring);
  if (!out) ::_exit(3);
  for (;;) {
    aether_ring_producer& core = out->core();
    std::string const text = numbered(core.slot, core.sequence);
    if (!out->send(1, bytes_of(text), 10s)) ::_exit(4);
  }
}

// Reads for so long and checks each message; how many were wrong.
struct Reading {
  std::uint64_t messages = 0;
  std::uint64_t wrong = 0;
  std::uint64_t gaps = 0;
  std::map<std::uint32_t, std::uint64_t> last;
};

void read_messages(Consumer& in, Reading& reading, std::uint64_t count) {
  std::uint64_t const end = reading.messages + count;
  while (reading.messages < end) {
    Result<std::size_t> const got = in.drain(16, [&](Message const& each) {
      ++reading.messages;
      if (as_text(each.payload) != numbered(each.producer, each.sequence)) ++reading.wrong;
      auto const [last, first] = reading.last.try_emplace(each.producer, each.sequence);
      if (!first && each.sequence <= last->second) ++reading.wrong;
      last->second = each.sequence;
    });
    if (!got) {
      ASSERT_EQ(got.error().code(), ErrorCode::RingGap) << got.error().describe();
      ++reading.gaps;
    } else if (*got == 0) {
      Result<Consumer::Waited> const waited = in.wait(20s);
      if (!waited || *waited != Consumer::Waited::Ready) return;
    }
  }
}

TEST(RingPeers, AProducerKilledAnywhereLosesNothingThatItHadCommitted) {
  std::mt19937_64 random(11);
  RingMemory const memory = make_ring({.capacity = 4096});
  Consumer in = must(Consumer::attach(memory.ring()));
  Reading reading;
  for (int round = 0; round < 40; ++round) {
    OtherProcess writer([&] { write_for_ever(memory.ring()); });
    read_messages(in, reading, 1 + random() % 2000);
    writer.kill();
    read_messages(in, reading, ~0ULL >> 1);  // What is left, until the death is told.
    ASSERT_EQ(in.wait(20s).error().code(), ErrorCode::RingPeerGone);
    ASSERT_FALSE(in.ready());
  }
  EXPECT_EQ(reading.wrong, 0U);
  EXPECT_LE(reading.gaps, 40U);  // A number may have been taken for what was never shown.
  EXPECT_EQ(in.counters().mismatches + in.counters().reason, 0U);
  EXPECT_GT(reading.messages, 1000U);
}

TEST(RingPeers, AConsumerKilledAnywhereIsFollowedByOneThatMissesNothing) {
  std::mt19937_64 random(12);
  RingMemory const memory = make_ring({.capacity = 4096});
  void* const page =
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto* const words = static_cast<std::atomic<std::uint64_t>*>(page);  // next number, mistakes
  Producer out = must(Producer::attach(memory.ring()));
  auto const read_for_ever = [&] {
    Result<Consumer> in = Consumer::attach(memory.ring());
    if (!in) ++words[1];
    for (;;) {
      (void)in->drain(8, [&](Message const& each) {
        if (each.sequence > words[0]) ++words[1];
        if (as_text(each.payload) != numbered(0, each.sequence)) ++words[1];
        words[0] = std::max(words[0].load(), each.sequence + 1);
      });
      if (!in->wait(20s)) ::_exit(0);
    }
  };
  for (int round = 0; round < 40; ++round) {
    OtherProcess reader(read_for_ever);
    std::uint64_t const target = out.core().sequence + 1 + random() % 1000;
    while (out.core().sequence < target) {
      Status const sent = out.send(1, bytes_of(numbered(0, out.core().sequence)), 20s);
      if (sent) continue;
      // The next reader has not come yet, and the one before is known to be dead.
      ASSERT_EQ(sent.error().code(), ErrorCode::RingPeerGone) << sent.error().describe();
    }
    reader.kill();
    auto const claimed = out.wait_room(out.payload_max(), 20s);
    if (!claimed) {
      EXPECT_EQ(claimed.error().code(), ErrorCode::RingPeerGone);
    }
  }
  Consumer in = must(Consumer::attach(memory.ring()));
  must(in.drain(1000, [&](Message const& each) {
    EXPECT_LE(each.sequence, words[0]);
    words[0] = std::max(words[0].load(), each.sequence + 1);
  }));
  EXPECT_EQ(words[0], out.core().sequence);
  EXPECT_EQ(words[1], 0U);
  ::munmap(page, 4096);
}

TEST(RingPeers, ManyProducersKilledAnywhereNeverBlockTheOthersForGood) {
  std::mt19937_64 random(13);
  RingMemory const memory = make_ring({.capacity = 4096, .kind = Kind::Many});
  Consumer in = must(Consumer::attach(memory.ring()));
  Reading reading;
  {
    std::array<std::optional<OtherProcess>, 4> writers;
    for (int round = 0; round < 60; ++round) {
      auto& writer = writers.at(random() % writers.size());
      writer.reset();
      writer.emplace([&] { write_for_ever(memory.ring()); });
      read_messages(in, reading, 1 + random() % 1000);
      ASSERT_EQ(in.counters().reason, 0U) << reason_name(in.counters().reason);
    }
  }
  read_messages(in, reading, ~0ULL >> 1);
  EXPECT_EQ(in.wait(20s).error().code(), ErrorCode::RingPeerGone);
  EXPECT_EQ(reading.wrong, 0U);
  EXPECT_EQ(in.counters().mismatches + in.counters().reason, 0U);
  std::uint64_t tail = 0;
  std::memcpy(&tail, memory.ring().base + AETHER_RING_AT_TAIL, sizeof tail);
  EXPECT_EQ(in.core().next, tail) << "a dead claim is still in the way";
  Producer out = must(Producer::attach(memory.ring()));
  std::string const text = numbered(out.core().slot, out.core().sequence);
  ASSERT_TRUE(out.send(1, bytes_of(text), 1s).has_value());
  std::uint64_t const before = reading.messages;
  read_messages(in, reading, 1);
  EXPECT_EQ(reading.messages, before + 1);
}

TEST(RingPeers, AStoppedConsumerCostsTheWriterItsDeadlineAndNothingElse) {
  RingMemory const memory = make_ring({.capacity = 4096});
  Producer out = must(Producer::attach(memory.ring()));
  OtherProcess const reader([&] {
    Result<Consumer> in = Consumer::attach(memory.ring());
    while (in->wait(20s)) (void)in->drain(100, [](Message const&) {});
  });
  std::string const much(20'000, 'x');
  ASSERT_TRUE(out.send(1, bytes_of(much), 20s).has_value());
  reader.signal(SIGSTOP);
  Status stuck = {};
  while (stuck) stuck = out.send(1, bytes_of(much), 50ms);
  EXPECT_EQ(stuck.error().code(), ErrorCode::Timeout);
  reader.signal(SIGCONT);
  EXPECT_TRUE(out.send(1, bytes_of(much), 20s).has_value());
}

TEST(RingPeers, AStoppedProducerIsAliveAndIsHeardWhenItGoesOn) {
  RingMemory const memory = make_ring({.capacity = 4096, .kind = Kind::Many});
  Consumer in = must(Consumer::attach(memory.ring()));
  OtherProcess const writer([&] { write_for_ever(memory.ring()); });
  Reading reading;
  read_messages(in, reading, 1000);
  writer.signal(SIGSTOP);
  while (must(in.wait(60ms)) == Consumer::Waited::Ready) {
    must(in.drain(1, [&](Message const& each) { reading.last[each.producer] = each.sequence; }));
  }
  EXPECT_EQ(in.counters().unblocked, 0U);
  writer.signal(SIGCONT);
  read_messages(in, reading, 1000);
  EXPECT_EQ(reading.wrong + reading.gaps, 0U);
}

// The other peer is a C11 program that knows nothing but the header.
TEST(RingPeers, AProgramInCAnswersThroughThePairOfRings) {
  std::array<RingSpec, 2> const specs{RingSpec{.capacity = 4096}, RingSpec{.capacity = 8192}};
  RingMemory const memory = must(RingMemory::create(specs));
  Producer ask = must(Producer::attach(memory.ring(0)));
  Consumer answered = must(Consumer::attach(memory.ring(1)));
  int const fd = ::dup(memory.fd());  // Kept over exec.
  OtherProcess const echo([&] {
    ::execl(AETHER_RING_ECHO, "ring-echo", std::to_string(fd).c_str(), nullptr);
    ::_exit(127);
  });
  ::close(fd);
  for (std::uint64_t number = 0; number < 2000; ++number) {
    std::string const text = text_of(number, number % 1500);
    ASSERT_TRUE(ask.send(9, bytes_of(text), 20s).has_value());
    std::vector<std::string> got;
    while (got.empty()) {  // Ready may be the padding in front of a record that is not there yet.
      ASSERT_EQ(must(answered.wait(20s)), Consumer::Waited::Ready);
      got = take_all(answered);
    }
    ASSERT_EQ(got, std::vector{text});
  }
}

}  // namespace
}  // namespace aether::ring
