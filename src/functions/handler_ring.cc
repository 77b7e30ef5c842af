// SPDX-License-Identifier: Apache-2.0
#include "functions/handler_ring.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "../../sdk/c/aether_ring.h"
#include "base/checksum.h"
#include "functions/handler.h"
#include "os/memfd.h"

namespace aether::functions {
namespace {

/// Records taken before others have their turn.
constexpr int kRecordsPerTurn = 512;
constexpr unsigned kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

struct Pipe {
  os::UniqueFd reads;
  os::UniqueFd writes;
};

Result<Pipe> open_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return fail(system_error("pipe2"));
  return Pipe{.reads = os::UniqueFd(ends[0]), .writes = os::UniqueFd(ends[1])};
}

std::uint32_t fast_crc32(std::uint32_t crc, void const* data, std::size_t size) {
  return crc32(std::span(static_cast<std::byte const*>(data), size), crc);
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
  State() = default;
  ~State() {
    if (memory != MAP_FAILED) ::munmap(memory, size);
  }
  State(State const&) = delete;
  State& operator=(State const&) = delete;

  Status map(int fd);
  Status attach(std::uint64_t capacity);

  void* memory = MAP_FAILED;
  std::uint64_t size = 0;
  os::UniqueFd memfd;
  Pipe to_handler;
  Pipe to_us;
  aether_ring_producer out{};
  aether_ring_consumer in{};
  std::optional<RingExchange> exchange;
  std::array<char, kRingMessageMax> record{};
  std::string complaint;
};

Status HandlerRing::State::map(int fd) {
  memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? Status(fail(system_error("mmap"))) : Status();
}

/// Requests first, then answers.
Status HandlerRing::State::attach(std::uint64_t capacity) {
  auto* const first = static_cast<unsigned char*>(memory);
  auto* const second = first + size / 2;
  aether_ring requests{};
  aether_ring answers{};
  bool const made =
      aether_ring_format(first, AETHER_RING_SINGLE, capacity, AETHER_RING_CRC32, 1) == 0 &&
      aether_ring_format(second, AETHER_RING_SINGLE, capacity, AETHER_RING_CRC32, 1) == 0 &&
      aether_ring_open(&requests, first, size / 2) == 0 &&
      aether_ring_open(&answers, second, size / 2) == 0;
  requests.crc = answers.crc = fast_crc32;
  if (!made || aether_ring_attach_producer(&out, &requests) != 0 ||
      aether_ring_attach_consumer(&in, &answers) != 0)
    return fail(ErrorCode::RingPoisoned, "a ring that was just made cannot be attached");
  out.doorbell = in.doorbell = to_handler.writes.get();
  (void)aether_ring_ask(&in, AETHER_RING_ON_DOORBELL);
  // A copy does not know yet that it is one, and that it has this ring: it sleeps at its pipe.
  __atomic_store_n(aether_ring_half(&requests, AETHER_RING_AT_CONSUMER_WAITS),
                   AETHER_RING_ON_DOORBELL, __ATOMIC_RELEASE);
  exchange.emplace(std::min<std::uint64_t>(aether_ring_payload_max(&requests), kRingMessageMax));
  return {};
}

Result<std::shared_ptr<HandlerRing>> HandlerRing::create(std::uint64_t size) {
  std::uint64_t const capacity = capacity_for(size);
  auto state = std::make_unique<State>();
  state->size = 2 * aether_ring_size(AETHER_RING_SINGLE, capacity);
  TRY_ASSIGN(os::Memfd memfd, os::Memfd::create("aether-ring", state->size));
  TRY(state->map(memfd.fd()));
  state->memfd = std::move(memfd).take_fd();
  // Its size is for ever; its bytes are for both to write.
  if (::fcntl(state->memfd.get(), F_ADD_SEALS, kSeals) != 0)
    return fail(system_error("fcntl(F_ADD_SEALS)"));
  TRY_ASSIGN(state->to_handler, open_pipe());
  TRY_ASSIGN(state->to_us, open_pipe());
  TRY(state->attach(capacity));
  return std::shared_ptr<HandlerRing>(new HandlerRing(std::move(state)));
}

HandlerRing::HandlerRing(std::unique_ptr<State> state) : state_(std::move(state)) {}
HandlerRing::~HandlerRing() = default;

std::vector<int> HandlerRing::handler_ends() const {
  std::vector<int> const ends{state_->memfd.get(), state_->to_handler.reads.get(),
                              state_->to_us.writes.get()};
  static_assert(kRingDescriptors.size() == 3);
  return ends;
}

void HandlerRing::close_handler_ends() {
  state_->memfd.reset();
  state_->to_handler.reads.reset();
  state_->to_us.writes.reset();
}

int HandlerRing::wake_fd() const {
  return state_->to_us.reads.get();
}

RingExchange& HandlerRing::exchange() {
  return *state_->exchange;
}

std::expected<bool, RingFault> HandlerRing::receive() {
  State& state = *state_;
  std::array<char, 256> rung{};
  while (::read(wake_fd(), rung.data(), rung.size()) == std::ssize(rung)) continue;
  aether_ring_message message{};
  int status = AETHER_RING_OK;
  for (int i = 0; i < kRecordsPerTurn; ++i) {
    status = aether_ring_read(&state.in, &message, state.record.data(), state.record.size());
    if (status != AETHER_RING_OK) break;
    auto const taken = state.exchange->take({state.record.data(), message.size});
    if (taken) continue;
    return std::unexpected(
        RingFault{.kind = RingFault::Kind::Message,
                  .why = fmt::format("the handler's ring is poisoned: {}", taken.error())});
  }
  aether_ring_release(&state.in);
  // It has spoiled the other ring: send() could not go on.
  if (state.out.reason != AETHER_RING_SOUND) status = AETHER_RING_POISONED;
  if (status == AETHER_RING_OK) return true;
  if (status != AETHER_RING_EMPTY) return std::unexpected(fault_of(status, state.in, message));
  return aether_ring_ask(&state.in, AETHER_RING_ON_DOORBELL) == AETHER_RING_OK;
}

bool HandlerRing::send() {
  State& state = *state_;
  auto& outbox = state.exchange->outbox();
  if (outbox.empty()) return true;
  bool has_room = true;
  while (!outbox.empty() && has_room) {
    std::string const& record = outbox.front();
    void* payload = nullptr;
    constexpr std::uint16_t kWhole = AETHER_RING_FIRST | AETHER_RING_LAST;
    int const claimed = aether_ring_claim(&state.out, 0, kWhole, record.size(), &payload);
    if (claimed == AETHER_RING_OK) {
      std::ranges::copy(record, static_cast<char*>(payload));
      (void)aether_ring_commit(&state.out, record.size());
      outbox.pop_front();
      continue;
    }
    has_room = claimed == AETHER_RING_FULL &&
               aether_ring_ask_for_room(&state.out, record.size(), AETHER_RING_ON_DOORBELL) ==
                   AETHER_RING_OK;
  }
  aether_ring_flush(&state.out);
  return state.out.reason == AETHER_RING_SOUND;
}

bool HandlerRing::is_attached() {
  if (!state_->complaint.empty()) return false;
  auto const received = receive();
  if (!received) state_->complaint = received.error().why;
  return state_->exchange->greeted();
}

std::string const& HandlerRing::complaint() const {
  return state_->complaint;
}

}  // namespace aether::functions
