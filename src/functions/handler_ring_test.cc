// SPDX-License-Identifier: Apache-2.0
#include "functions/handler_ring.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "aether_ring.h"

namespace aether::functions {
namespace {

constexpr std::uint64_t kSize = 64 * 1024;

/// A handler in this process: it maps the memory a second time.
class FakeHandler {
 public:
  explicit FakeHandler(HandlerRing const& ring) : ends_(ring.handler_ends()) {
    struct stat file{};
    EXPECT_EQ(::fstat(ends_[0], &file), 0);
    size_ = static_cast<std::size_t>(file.st_size);
    memory_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, ends_[0], 0);
    aether_ring requests{};
    aether_ring answers{};
    EXPECT_EQ(aether_ring_open(&requests, memory_, size_), 0);
    EXPECT_EQ(aether_ring_open(&answers, static_cast<char*>(memory_) + requests.total,
                               size_ - requests.total),
              0);
    EXPECT_EQ(aether_ring_attach_consumer(&in, &requests), 0);
    EXPECT_EQ(aether_ring_attach_producer(&out, &answers), 0);
    out.doorbell = in.doorbell = ends_[2];
  }
  ~FakeHandler() { ::munmap(memory_, size_); }
  FakeHandler(FakeHandler const&) = delete;
  FakeHandler& operator=(FakeHandler const&) = delete;

  void say(std::string const& record) {
    EXPECT_EQ(aether_ring_send(&out, 0, 3, record.data(), record.size()), 0);
  }
  void hello() { say(write_ring_message({.content = write_ring_number(kRingProtocol)})); }
  /// The next message, or nothing.
  std::string hear() {
    aether_ring_message message{};
    std::string bytes(kRingMessageMax, 0);
    if (aether_ring_read(&in, &message, bytes.data(), bytes.size()) != 0) return {};
    bytes.resize(message.size);
    aether_ring_release(&in);
    return bytes;
  }
  [[nodiscard]] bool was_woken() const {
    pollfd asked{.fd = ends_[1], .events = POLLIN, .revents = 0};
    return ::poll(&asked, 1, 0) == 1;
  }
  [[nodiscard]] unsigned char* answers() const {
    return static_cast<unsigned char*>(memory_) + size_ / 2;
  }
  [[nodiscard]] int memfd() const { return ends_[0]; }

  aether_ring_consumer in{};
  aether_ring_producer out{};

 private:
  std::vector<int> ends_;
  std::size_t size_ = 0;
  void* memory_ = nullptr;
};

struct Rig {
  std::shared_ptr<HandlerRing> ring = *HandlerRing::create(kSize);
  FakeHandler handler{*ring};
};

TEST(RingInC, IsByteForByteWhatPythonAndNodeWrite) {
  constexpr std::size_t kCapacity = 4096;
  alignas(4096) static std::array<unsigned char, 2 * kCapacity> memory{};
  aether_ring ring{};
  aether_ring_producer out{};
  ASSERT_EQ(aether_ring_format(memory.data(), AETHER_RING_SINGLE, kCapacity, AETHER_RING_CRC32, 1),
            0);
  ASSERT_EQ(aether_ring_open(&ring, memory.data(), memory.size()), 0);
  ASSERT_EQ(aether_ring_attach_producer(&out, &ring), 0);
  for (std::string_view const text : {"", "x", "12345678", "a longer payload"})
    ASSERT_EQ(aether_ring_send(&out, 7, 3, text.data(), text.size()), 0);
  EXPECT_EQ(aether_ring_crc32(0, memory.data() + kCapacity, kCapacity), 0x944CE0A5U);
}

TEST(HandlerRing, IsAttachedOnceTheHandlerSaysHello) {
  Rig rig;
  EXPECT_FALSE(rig.ring->is_attached());
  rig.handler.hello();
  EXPECT_TRUE(rig.ring->is_attached());
  EXPECT_EQ(rig.ring->complaint(), "");
}

TEST(HandlerRing, WakesAHandlerThatHasNotAttachedYet) {
  Rig rig;
  rig.ring->exchange().begin("GET / HTTP/1.1\r\n\r\n", {}, true);
  EXPECT_FALSE(rig.handler.was_woken());
  EXPECT_TRUE(rig.ring->send());
  EXPECT_TRUE(rig.handler.was_woken()) << "a copy sleeps at its pipe, and knows nothing";
  EXPECT_EQ(rig.handler.hear().substr(kRingMessageHead), "GET / HTTP/1.1\r\n\r\n");
}

TEST(HandlerRing, CannotBeMadeSmallerOrLarger) {
  Rig rig;
  EXPECT_NE(::ftruncate(rig.handler.memfd(), 4096), 0);
  EXPECT_NE(::ftruncate(rig.handler.memfd(), 1 << 24), 0);
  EXPECT_NE(::fcntl(rig.handler.memfd(), F_ADD_SEALS, F_SEAL_WRITE), 0);
}

TEST(HandlerRing, KeepsWhatDoesNotFitAndWritesItWhenThereIsRoom) {
  Rig rig;
  std::string const head = "GET / HTTP/1.1\r\nX: " + std::string(10000, 'x') + "\r\n\r\n";
  for (int i = 0; i < 10; ++i) rig.ring->exchange().begin(head, {}, true);
  EXPECT_TRUE(rig.ring->send());
  EXPECT_FALSE(rig.ring->exchange().outbox().empty());
  std::size_t heard = 0;
  for (int turn = 0; turn < 100; ++turn) {
    while (!rig.handler.hear().empty()) ++heard;
    EXPECT_TRUE(rig.ring->send());
  }
  EXPECT_TRUE(rig.ring->exchange().outbox().empty());
  EXPECT_EQ(heard, 10U);
}

RingFault::Kind fault(Rig& rig) {
  auto const received = rig.ring->receive();
  EXPECT_FALSE(received);
  return received ? RingFault::Kind::Message : received.error().kind;
}

TEST(HandlerRing, TellsAFlippedBitFromAMissingRecord) {
  Rig flipped;
  flipped.handler.hello();
  flipped.handler.answers()[4096 + AETHER_RING_RECORD] ^= 1U;
  EXPECT_EQ(fault(flipped), RingFault::Kind::Checksum);
  Rig missing;
  missing.handler.out.sequence = 3;
  missing.handler.hello();
  EXPECT_EQ(fault(missing), RingFault::Kind::Sequence);
}

TEST(HandlerRing, TellsNonsenseInARecordFromNonsenseInAMessage) {
  Rig record;
  record.handler.hello();
  record.handler.answers()[4096] = 1;  // of the length
  EXPECT_EQ(fault(record), RingFault::Kind::Record);
  Rig message;
  message.handler.say("nonsense");
  EXPECT_EQ(fault(message), RingFault::Kind::Message);
  EXPECT_FALSE(message.ring->is_attached());
}

TEST(HandlerRing, NoticesAHandlerThatSpoilsTheRingOfRequests) {
  Rig rig;
  std::uint64_t const nonsense = std::uint64_t{1} << 40U;
  std::memcpy(rig.handler.answers() - (rig.handler.in.ring.total) + AETHER_RING_AT_HEAD, &nonsense,
              sizeof nonsense);
  std::string const head = "GET / HTTP/1.1\r\nX: " + std::string(10000, 'x') + "\r\n\r\n";
  for (int i = 0; i < 10; ++i) rig.ring->exchange().begin(head, {}, true);
  EXPECT_FALSE(rig.ring->send());
  EXPECT_EQ(fault(rig), RingFault::Kind::Record);
}

TEST(HandlerRing, RefusesAMessageThatIsTooLarge) {
  auto const ring = *HandlerRing::create(std::uint64_t{1} << 20U);
  FakeHandler handler(*ring);
  handler.say(std::string(kRingMessageMax + 1, 'x'));
  auto const received = ring->receive();
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().kind, RingFault::Kind::Record);
}

}  // namespace
}  // namespace aether::functions
