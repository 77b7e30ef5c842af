// SPDX-License-Identifier: Apache-2.0
#include <sched.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "ring/ring.h"

namespace aether::ring {
namespace {

// About two microseconds of looking: longer than a peer that answers at once takes, shorter than
// a sleep and a wake-up cost.
constexpr std::uint32_t kSpins = 200;

std::uint32_t spins_here() {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) return kSpins;
  return CPU_COUNT(&allowed) > 1 ? kSpins : 0;
}

}  // namespace

Consumer::Consumer(aether_ring_consumer const& core, Peer peer)
    : core_(core), spins_(spins_here()) {
  if (peer == Peer::Hostile)
    copy_ = std::make_unique_for_overwrite<std::byte[]>(aether_ring_payload_max(&core.ring));
}

Result<Consumer> Consumer::attach(aether_ring const& ring, Peer peer) {
  aether_ring_consumer core;
  int const status = aether_ring_attach_consumer(&core, &ring);
  if (status == AETHER_RING_BUSY)
    return fail(ErrorCode::Conflict, "a living process reads from this ring already");
  if (status != AETHER_RING_OK)
    return fail(ErrorCode::RingPoisoned,
                fmt::format("coming to a ring in use: {}", reason_name(core.reason)));
  return Consumer(core, peer);
}

Consumer::Consumer(Consumer&& other) noexcept
    : core_(other.core_),
      copy_(std::move(other.copy_)),
      spins_(other.spins_),
      attached_(std::exchange(other.attached_, false)) {}

Consumer::~Consumer() {
  if (attached_) aether_ring_close_consumer(&core_);
}

Error Consumer::fault(int status, aether_ring_message const& message) const {
  switch (status) {
    case AETHER_RING_GAP:
      return Error(
          ErrorCode::RingGap,
          fmt::format("reading from a ring: message {} of producer {} came where {} was due",
                      message.sequence, message.producer, message.expected));
    case AETHER_RING_MISMATCH:
      return Error(ErrorCode::ChecksumMismatch,
                   fmt::format("reading from a ring: message {} of producer {}, {} bytes, arrived "
                               "changed; it was passed over",
                               message.sequence, message.producer, message.size));
    case AETHER_RING_PEER_GONE:
      return Error(ErrorCode::RingPeerGone, "reading from a ring: its producer has gone");
    default:
      return Error(ErrorCode::RingPoisoned, fmt::format("reading from a ring at {}: {}", core_.next,
                                                        reason_name(core_.reason)));
  }
}

Result<Consumer::Waited> Consumer::waited(int status) const {
  switch (status) {
    case AETHER_RING_OK:
      return Waited::Ready;
    case AETHER_RING_EMPTY:
    case AETHER_RING_TIMEOUT:
      return Waited::TimedOut;
    case AETHER_RING_CLOSED:
      return Waited::Closed;
    default:
      return fail(fault(status, {}));
  }
}

Result<Consumer::Waited> Consumer::wait(std::chrono::nanoseconds limit) {
  auto const most = limit.count() > 0 ? static_cast<std::uint64_t>(limit.count()) : 0;
  return waited(aether_ring_wait(&core_, most, spins_));
}

Result<Consumer::Waited> Consumer::look_around() {
  return waited(aether_ring_look_around(&core_));
}

Counters Consumer::counters() const {
  return {.messages = core_.messages,
          .gaps = core_.gaps,
          .mismatches = core_.mismatches,
          .unblocked = core_.unblocked,
          .reason = core_.reason};
}

Result<std::optional<Message>> Assembler::add(Message const& fragment) {
  auto part = std::ranges::find(parts_, fragment.producer, &Part::producer);
  if (fragment.first() && part != parts_.end())
    parts_.erase(part);  // Never finished: its end died.
  if (fragment.payload.size() > size_max_)
    return fail(ErrorCode::LimitReached,
                fmt::format("a message is larger than {} bytes", size_max_));
  if (fragment.first() && fragment.last()) return fragment;
  part = std::ranges::find(parts_, fragment.producer, &Part::producer);
  if (fragment.first()) part = parts_.insert(parts_.end(), {fragment.producer, fragment.type, {}});
  if (part == parts_.end() || part->type != fragment.type)
    return fail(ErrorCode::ProtocolViolation,
                fmt::format("a fragment of type {} came without the beginning of its message",
                            fragment.type));
  if (fragment.payload.size() > size_max_ - part->bytes.size()) {
    parts_.erase(part);
    return fail(ErrorCode::LimitReached, fmt::format("a message grew beyond {} bytes", size_max_));
  }
  part->bytes.insert(part->bytes.end(), fragment.payload.begin(), fragment.payload.end());
  if (!fragment.last()) return std::nullopt;
  whole_ = std::move(part->bytes);
  parts_.erase(part);
  Message whole = fragment;
  whole.payload = whole_;
  whole.flags |= AETHER_RING_FIRST;
  return whole;
}

}  // namespace aether::ring
