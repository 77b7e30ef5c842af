// SPDX-License-Identifier: Apache-2.0
// Rings of shared memory: one way, one consumer, one or many producers, messages in order. The
// layout and the protocol are docs/ring.md; what touches shared memory is sdk/c/aether_ring.h, and
// this is its C++ face: owned memory, spans, typed errors, fragments. The peer is hostile.
//
//   RingMemory memory = create_ring({.capacity = 1 << 20});      // seal, pass memory.fd() on
//   Producer out(memory.ring());  out.send(type, bytes, 1s);
//   Consumer in(memory.ring());   in.wait(1s);  in.drain(64, [](Message const& message) {...});
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "aether_ring.h"
#include "base/result.h"
#include "os/memfd.h"

namespace aether::ring {

enum class Kind : std::uint8_t { Single = AETHER_RING_SINGLE, Many = AETHER_RING_MANY };
enum class Checksum : std::uint8_t {
  None = AETHER_RING_UNCHECKED,
  Crc32 = AETHER_RING_CRC32,
  Crc32c = AETHER_RING_CRC32C,
};

struct RingSpec {
  std::uint64_t capacity = 1 << 20;  ///< bytes of data: a power of two, 4 KiB to 1 GiB
  Kind kind = Kind::Single;
  Checksum checksum = Checksum::Crc32;
  std::uint64_t generation = 0;
};

/// Shared memory with one or more rings in it, mapped. Move only; producers and consumers must not
/// outlive it. The fast checksums of base are used.
class RingMemory {
 public:
  /// Makes rings one behind the other (each begins at the `total` of those before) in one sealed
  /// memfd. LimitReached if a capacity is not allowed.
  static Result<RingMemory> create(std::span<RingSpec const> specs);
  /// Maps what a peer has made. ProtocolViolation if it is no sealed memfd, or holds no ring of
  /// this ABI; what the header says is believed only as far as it fits the memory's size.
  static Result<RingMemory> adopt(os::UniqueFd fd);

  RingMemory(RingMemory&& other) noexcept;
  RingMemory& operator=(RingMemory&& other) noexcept;
  ~RingMemory();

  [[nodiscard]] int fd() const { return memfd_.fd(); }  ///< borrowed; pass it on as it is
  [[nodiscard]] std::size_t count() const { return rings_.size(); }
  [[nodiscard]] aether_ring const& ring(std::size_t index = 0) const { return rings_.at(index); }

 private:
  RingMemory(os::Memfd memfd, std::span<std::byte> bytes);
  os::Memfd memfd_;
  std::span<std::byte> bytes_;
  std::vector<aether_ring> rings_;
};

/// One record as the consumer sees it. The payload is valid until the callback returns.
struct Message {
  std::span<std::byte const> payload;
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint32_t producer = 0;
  std::uint64_t sequence = 0;

  [[nodiscard]] bool first() const { return (flags & AETHER_RING_FIRST) != 0; }
  [[nodiscard]] bool last() const { return (flags & AETHER_RING_LAST) != 0; }
};

/// Why a ring was given up: what a metric's label says.
[[nodiscard]] std::string_view reason_name(std::uint32_t reason);

/// The writing side. One thread. Closes on destruction: the consumer reads what is there, then
/// hears of it.
class Producer {
 public:
  /// Conflict if the side (Single) or every slot (Many) is held by a living process.
  static Result<Producer> attach(aether_ring const& ring);
  Producer(Producer&& other) noexcept;
  Producer& operator=(Producer&& other) = delete;
  ~Producer();

  /// The largest payload of one record.
  [[nodiscard]] std::uint64_t payload_max() const { return aether_ring_payload_max(&core_.ring); }

  /// Room for a record's payload inside the ring, to be filled before commit; nullopt if there is
  /// none now. Faults: LimitReached (too large for this ring), RingPoisoned, Conflict (a claim is
  /// open).
  Result<std::optional<std::span<std::byte>>> claim(std::uint16_t type, std::uint16_t flags,
                                                    std::uint64_t size);
  /// Shows the claimed record with `size` bytes, at most what was claimed. Does not wake: flush().
  void commit(std::uint64_t size);
  void abort();
  /// Wakes the consumer if it sleeps: once after a batch of commits.
  void flush() { aether_ring_flush(&core_); }

  /// One message, in as many records as it takes; waits for room, at most `limit` in all. Timeout,
  /// RingPeerGone, RingPoisoned: then a message that had begun is never finished.
  Status send(std::uint16_t type, std::span<std::byte const> bytes, std::chrono::nanoseconds limit);
  /// Waits until a record of this payload fits.
  Status wait_room(std::uint64_t size, std::chrono::nanoseconds limit);
  /// For event loops: asks that the own doorbell is rung when a record of this size fits. True if
  /// it fits already.
  Result<bool> ask_for_room(std::uint64_t size);

  /// What is written to when the consumer waits on its doorbell. Borrowed; -1: none.
  void set_consumer_doorbell(int fd) { core_.doorbell = fd; }
  /// For tests and for code that speaks C.
  [[nodiscard]] aether_ring_producer& core() { return core_; }

 private:
  explicit Producer(aether_ring_producer const& core) : core_(core) {}
  aether_ring_producer core_;
  bool attached_ = true;
};

/// Whether the consumer copies a payload before it checks it. Hostile: always. Trusted: never, the
/// payload is seen where it lies in the ring.
enum class Peer : std::uint8_t { Hostile, Trusted };

struct Counters {
  std::uint64_t messages = 0;
  std::uint64_t gaps = 0;
  std::uint64_t mismatches = 0;
  std::uint64_t unblocked = 0;  ///< claims of dead producers that became padding
  std::uint32_t reason = 0;     ///< why it is poisoned: aether_ring_reason; 0 if it is not
};

/// The reading side. One thread. Closes on destruction.
class Consumer {
 public:
  /// Conflict if a living process reads this ring already.
  static Result<Consumer> attach(aether_ring const& ring, Peer peer = Peer::Hostile);
  Consumer(Consumer&& other) noexcept;
  Consumer& operator=(Consumer&& other) = delete;
  ~Consumer();

  /// What wait() tells apart without a fault.
  enum class Waited : std::uint8_t { Ready, TimedOut, Closed };

  /// Gives `each` (Message const&) up to `limit` messages, frees their room at once and says how
  /// many there were; 0 if there is none now. Faults: RingGap (told once; the next call goes on
  /// with the message found), ChecksumMismatch (that message is lost; the next call goes on
  /// behind), RingPoisoned (for good). What came before a fault in the same call was delivered.
  template <class Each>
  Result<std::size_t> drain(std::size_t limit, Each&& each);

  /// Waits for something to read: looks `spins()` times, then sleeps. Ready may be padding whose
  /// record is still to come: drain() says 0 then, and it is to be waited again. Faults:
  /// RingPeerGone, RingPoisoned.
  Result<Waited> wait(std::chrono::nanoseconds limit);
  /// For event loops: asks that the own doorbell is rung for the next record. True if there is one
  /// already. Call look_around() now and then: a dead peer rings no bell.
  bool ask() { return aether_ring_ask(&core_, AETHER_RING_ON_DOORBELL) == AETHER_RING_OK; }
  /// Unblocks what a dead producer has left, and says whether anybody is left to write.
  Result<Waited> look_around();
  [[nodiscard]] bool ready() const { return aether_ring_ready(&core_); }

  /// How often wait() looks before it sleeps; 0 where only one CPU may be used.
  void set_spins(std::uint32_t spins) { spins_ = spins; }
  /// What is written to when producers wait for room on theirs. Borrowed; -1: none.
  void set_producer_doorbell(int fd) { core_.doorbell = fd; }
  /// A producer that is known to be dead by a pidfd: process numbers do not cross pid namespaces.
  void declare_dead(std::uint32_t producer) { core_.dead |= std::uint64_t{1} << producer; }
  [[nodiscard]] Counters counters() const;
  [[nodiscard]] aether_ring_consumer& core() { return core_; }

 private:
  Consumer(aether_ring_consumer const& core, Peer peer);
  [[nodiscard]] Error fault(int status, aether_ring_message const& message) const;
  Result<Waited> waited(int status) const;
  aether_ring_consumer core_;
  std::unique_ptr<std::byte[]> copy_;  // as large as the largest payload; none for a trusted peer
  static constexpr std::uint64_t kRoomParts = 8;  // drain gives room back in this many parts
  std::uint32_t spins_;
  bool attached_ = true;
};

/// Puts fragments together again, one message for each producer at a time. Bounded: LimitReached
/// when a message grows beyond `size_max`; ProtocolViolation when fragments do not fit together.
class Assembler {
 public:
  explicit Assembler(std::uint64_t size_max) : size_max_(size_max) {}
  /// The whole message if this was its last fragment (valid until the next call), else nullopt.
  Result<std::optional<Message>> add(Message const& fragment);

 private:
  struct Part {
    std::uint32_t producer;
    std::uint16_t type;
    std::vector<std::byte> bytes;
  };
  std::uint64_t size_max_;
  std::vector<Part> parts_;
  std::vector<std::byte> whole_;
};

template <class Each>
Result<std::size_t> Consumer::drain(std::size_t limit, Each&& each) {
  aether_ring_message message;
  int status = AETHER_RING_OK;
  std::size_t count = 0;
  for (; count < limit; ++count) {
    status = aether_ring_read(&core_, &message, copy_.get(), aether_ring_payload_max(&core_.ring));
    if (status != AETHER_RING_OK) break;
    each(Message{.payload = {static_cast<std::byte const*>(message.payload), message.size},
                 .type = message.type,
                 .flags = message.flags,
                 .producer = message.producer,
                 .sequence = message.sequence});
    // Room is given back while there is still something to read: neither side waits for the other.
    if (core_.next - core_.head >= core_.ring.capacity / kRoomParts) aether_ring_release(&core_);
  }
  aether_ring_release(&core_);
  if (status == AETHER_RING_OK || status == AETHER_RING_EMPTY) return count;
  return fail(fault(status, message));
}

}  // namespace aether::ring
