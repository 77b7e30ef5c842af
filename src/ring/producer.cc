// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "ring/ring.h"

namespace aether::ring {
namespace {

// Large messages go in pieces of this size: the consumer checks one while the next is written, and
// a piece is still in the core's own cache when its checksum is taken. A sleeping consumer is woken
// once for several.
constexpr std::uint64_t kFragment = 32 << 10;
constexpr std::uint64_t kFlush = 128 << 10;

Error writing_fault(int status, aether_ring_producer const& core, std::uint64_t size) {
  switch (status) {
    case AETHER_RING_TIMEOUT:
      return Error(ErrorCode::Timeout,
                   fmt::format("no room for {} bytes in a ring came free in time: its consumer is "
                               "slow, stopped, or does not read",
                               size));
    case AETHER_RING_PEER_GONE:
      return Error(ErrorCode::RingPeerGone, "writing into a ring: its consumer has gone");
    case AETHER_RING_TOO_LARGE:
      return Error(ErrorCode::LimitReached,
                   fmt::format("a record of {} bytes does not fit this ring; {} is the most", size,
                               aether_ring_payload_max(&core.ring)));
    case AETHER_RING_BUSY:
      return Error(ErrorCode::Conflict, "a claim in a ring is open already: commit or abort it");
    case AETHER_RING_INVALID:
      return Error(ErrorCode::RequestInvalid, "65535 is the type of padding, not of a message");
    default:
      return Error(ErrorCode::RingPoisoned,
                   fmt::format("writing into a ring: {}", reason_name(core.reason)));
  }
}

std::uint64_t in_nanoseconds(std::chrono::nanoseconds limit) {
  return limit.count() > 0 ? static_cast<std::uint64_t>(limit.count()) : 0;
}

}  // namespace

std::string_view reason_name(std::uint32_t reason) {
  switch (reason) {
    case AETHER_RING_SOUND:
      return "sound";
    case AETHER_RING_BAD_LENGTH:
      return "length of a record";
    case AETHER_RING_BAD_PADDING:
      return "padding";
    case AETHER_RING_BAD_PRODUCER:
      return "producer of a record";
    case AETHER_RING_BAD_HEAD:
      return "head";
    case AETHER_RING_BAD_TAIL:
      return "tail";
    case AETHER_RING_BAD_CLAIM:
      return "claim that nobody makes";
    case AETHER_RING_PEER_SAID:
      return "found by the peer";
    default:
      return "unknown";
  }
}

Result<Producer> Producer::attach(aether_ring const& ring) {
  aether_ring_producer core;
  int const status = aether_ring_attach_producer(&core, &ring);
  if (status == AETHER_RING_BUSY)
    return fail(ErrorCode::Conflict, "a living process writes into this ring already");
  if (status != AETHER_RING_OK) return fail(writing_fault(status, core, 0));
  return Producer(core);
}

Producer::Producer(Producer&& other) noexcept
    : core_(other.core_), attached_(std::exchange(other.attached_, false)) {}

Producer::~Producer() {
  if (attached_) aether_ring_close_producer(&core_);
}

Result<std::optional<std::span<std::byte>>> Producer::claim(std::uint16_t type, std::uint16_t flags,
                                                            std::uint64_t size) {
  void* payload = nullptr;
  int const status = aether_ring_claim(&core_, type, flags, size, &payload);
  if (status == AETHER_RING_FULL) return std::nullopt;
  if (status != AETHER_RING_OK) return fail(writing_fault(status, core_, size));
  return std::span(static_cast<std::byte*>(payload), size);
}

void Producer::commit(std::uint64_t size) {
  int const status = aether_ring_commit(&core_, size);
  AETHER_CHECK(status == AETHER_RING_OK, "commit of {} bytes: status {}", size, status);
}

void Producer::abort() {
  aether_ring_abort(&core_);
}

Status Producer::wait_room(std::uint64_t size, std::chrono::nanoseconds limit) {
  int const status = aether_ring_wait_room(&core_, size, in_nanoseconds(limit));
  if (status != AETHER_RING_OK) return fail(writing_fault(status, core_, size));
  return {};
}

Result<bool> Producer::ask_for_room(std::uint64_t size) {
  int const status = aether_ring_ask_for_room(&core_, size, AETHER_RING_ON_DOORBELL);
  if (status == AETHER_RING_FULL) return false;
  if (status != AETHER_RING_OK) return fail(writing_fault(status, core_, size));
  return true;
}

Status Producer::send(std::uint16_t type, std::span<std::byte const> bytes,
                      std::chrono::nanoseconds limit) {
  std::uint64_t const begin = aether_ring_now();
  std::uint64_t const most = std::min(payload_max(), kFragment);
  std::uint16_t flags = AETHER_RING_FIRST;
  for (;;) {
    std::uint64_t const size = std::min<std::uint64_t>(bytes.size(), most);
    if (size == bytes.size()) flags |= AETHER_RING_LAST;
    TRY_ASSIGN(auto room, claim(type, flags, size));
    if (!room) {
      std::uint64_t const spent = aether_ring_now() - begin;
      std::uint64_t const whole = in_nanoseconds(limit);
      flush();
      TRY(wait_room(size, std::chrono::nanoseconds(spent < whole ? whole - spent : 0)));
      continue;
    }
    if (size != 0) std::memcpy(room->data(), bytes.data(), size);
    commit(size);
    bytes = bytes.subspan(size);
    if (bytes.size() % kFlush < most || bytes.empty()) flush();
    if ((flags & AETHER_RING_LAST) != 0) return {};
    flags = 0;
  }
}

}  // namespace aether::ring
