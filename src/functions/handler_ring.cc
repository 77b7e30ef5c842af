// SPDX-License-Identifier: Apache-2.0
#include "functions/handler_ring.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include <fmt/format.h>

#include "functions/handler.h"
#include "ring/ring.h"

namespace aether::functions {
namespace {

/// Records taken before others have their turn.
constexpr int kRecordsPerTurn = 512;

struct Pipe {
  os::UniqueFd reads;
  os::UniqueFd writes;
};

Result<Pipe> open_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return fail(system_error("pipe2"));
  return Pipe{.reads = os::UniqueFd(ends[0]), .writes = os::UniqueFd(ends[1])};
}

/// Of one direction: both rings together, with their headers' pages, are about as large as asked.
std::uint64_t capacity_for(std::uint64_t size) {
  return std::clamp<std::uint64_t>(std::bit_floor(size / 2), AETHER_RING_CAPACITY_MIN,
                                   AETHER_RING_CAPACITY_MAX);
}

RingFault fault_of(int status, aether_ring_consumer const& in, aether_ring_message const& message) {
  using Kind = RingFault::Kind;
  switch (status) {
    case AETHER_RING_MISMATCH:
      return {.kind = Kind::Checksum,
              .why = "the handler's ring is poisoned: a record does not have its checksum"};
    case AETHER_RING_GAP:
      return {.kind = Kind::Sequence,
              .why = fmt::format("the handler's ring is poisoned: record {} came where {} was due",
                                 message.sequence, message.expected)};
    case AETHER_RING_TOO_LARGE:
      return {.kind = Kind::Record,
              .why = fmt::format("the handler's ring is poisoned: a message of {} bytes, more than "
                                 "{}",
                                 message.size, kRingMessageMax)};
    default:
      return {.kind = Kind::Record,
              .why = fmt::format("the handler's ring is poisoned: a word in it cannot be ({})",
                                 static_cast<unsigned>(in.reason))};
  }
}

}  // namespace

std::string_view name_of(RingFault::Kind kind) {
  switch (kind) {
    case RingFault::Kind::Checksum:
      return "checksum";
    case RingFault::Kind::Sequence:
      return "sequence";
    case RingFault::Kind::Record:
      return "record";
    case RingFault::Kind::Message:
      return "message";
  }
  return "message";
}

struct HandlerRing::State {
  State(ring::RingMemory&& made, ring::Producer&& requests, ring::Consumer&& answers)
      : memory(std::move(made)),
        producer(std::move(requests)),
        consumer(std::move(answers)),
        exchange(std::min<std::uint64_t>(producer.payload_max(), kRingMessageMax)) {}

  ring::RingMemory memory;
  // When they close they ring, if the handler waits: the pipes outlive them.
  Pipe to_handler;
  Pipe to_us;
  ring::Producer producer;
  ring::Consumer consumer;
  RingExchange exchange;
  std::array<char, kRingMessageMax> record{};
  std::string complaint;
};

Result<std::shared_ptr<HandlerRing>> HandlerRing::create(std::uint64_t size) {
  // Requests first, then answers.
  std::array const specs{ring::RingSpec{.capacity = capacity_for(size)},
                         ring::RingSpec{.capacity = capacity_for(size)}};
  TRY_ASSIGN(ring::RingMemory memory, ring::RingMemory::create(specs));
  aether_ring const& requests = memory.ring(0);
  TRY_ASSIGN(ring::Producer producer, ring::Producer::attach(requests));
  // Hostile all the same: receive() has each record copied before it is checked.
  TRY_ASSIGN(ring::Consumer consumer, ring::Consumer::attach(memory.ring(1), ring::Peer::Trusted));
  // A copy does not know yet that it is one, and that it has this ring: it sleeps at its pipe.
  __atomic_store_n(aether_ring_half(&requests, AETHER_RING_AT_CONSUMER_WAITS),
                   AETHER_RING_ON_DOORBELL, __ATOMIC_RELEASE);
  auto state = std::make_unique<State>(std::move(memory), std::move(producer), std::move(consumer));
  TRY_ASSIGN(state->to_handler, open_pipe());
  TRY_ASSIGN(state->to_us, open_pipe());
  state->producer.set_consumer_doorbell(state->to_handler.writes.get());
  state->consumer.set_producer_doorbell(state->to_handler.writes.get());
  (void)state->consumer.ask();
  return std::shared_ptr<HandlerRing>(new HandlerRing(std::move(state)));
}

HandlerRing::HandlerRing(std::unique_ptr<State> state) : state_(std::move(state)) {}
HandlerRing::~HandlerRing() = default;

std::vector<int> HandlerRing::handler_ends() const {
  std::vector<int> const ends{state_->memory.fd(), state_->to_handler.reads.get(),
                              state_->to_us.writes.get()};
  static_assert(kRingDescriptors.size() == 3);
  return ends;
}

void HandlerRing::close_handler_ends() {
  state_->to_handler.reads.reset();
  state_->to_us.writes.reset();
}

int HandlerRing::wake_fd() const {
  return state_->to_us.reads.get();
}

RingExchange& HandlerRing::exchange() {
  return state_->exchange;
}

std::expected<bool, RingFault> HandlerRing::receive() {
  State& state = *state_;
  std::array<char, 256> rung{};
  while (::read(wake_fd(), rung.data(), rung.size()) == std::ssize(rung)) continue;
  aether_ring_message message{};
  int status = AETHER_RING_OK;
  for (int i = 0; i < kRecordsPerTurn; ++i) {
    status = aether_ring_read(&state.consumer.core(), &message, state.record.data(),
                              state.record.size());
    if (status != AETHER_RING_OK) break;
    auto const taken = state.exchange.take({state.record.data(), message.size});
    if (taken) continue;
    return std::unexpected(
        RingFault{.kind = RingFault::Kind::Message,
                  .why = fmt::format("the handler's ring is poisoned: {}", taken.error())});
  }
  aether_ring_release(&state.consumer.core());
  // It has spoiled the other ring: send() could not go on.
  if (state.producer.core().reason != AETHER_RING_SOUND) status = AETHER_RING_POISONED;
  if (status == AETHER_RING_OK) return true;
  if (status != AETHER_RING_EMPTY)
    return std::unexpected(fault_of(status, state.consumer.core(), message));
  return aether_ring_ask(&state.consumer.core(), AETHER_RING_ON_DOORBELL) == AETHER_RING_OK;
}

bool HandlerRing::send() {
  State& state = *state_;
  auto& outbox = state.exchange.outbox();
  if (outbox.empty()) return true;
  bool has_room = true;
  while (!outbox.empty() && has_room) {
    std::string const& record = outbox.front();
    void* payload = nullptr;
    constexpr std::uint16_t kWhole = AETHER_RING_FIRST | AETHER_RING_LAST;
    int const claimed =
        aether_ring_claim(&state.producer.core(), 0, kWhole, record.size(), &payload);
    if (claimed == AETHER_RING_OK) {
      std::ranges::copy(record, static_cast<char*>(payload));
      (void)aether_ring_commit(&state.producer.core(), record.size());
      outbox.pop_front();
      continue;
    }
    has_room = claimed == AETHER_RING_FULL &&
               aether_ring_ask_for_room(&state.producer.core(), record.size(),
                                        AETHER_RING_ON_DOORBELL) == AETHER_RING_OK;
  }
  aether_ring_flush(&state.producer.core());
  return state.producer.core().reason == AETHER_RING_SOUND;
}

bool HandlerRing::is_attached() {
  if (!state_->complaint.empty()) return false;
  auto const received = receive();
  if (!received) state_->complaint = received.error().why;
  return state_->exchange.greeted();
}

std::string const& HandlerRing::complaint() const {
  return state_->complaint;
}

}  // namespace aether::functions
