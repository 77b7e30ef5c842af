// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>

#include <fmt/format.h>

#include "base/checksum.h"
#include "base/fault.h"
#include "ring/ring.h"

namespace aether::ring {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr std::size_t kRingsMax =
    16;  // In one memory: two are a pair, more are a mistake or worse.

std::uint32_t fast_crc32(std::uint32_t crc, void const* data, std::size_t size) {
  return crc32(std::span(static_cast<std::byte const*>(data), size), crc);
}

std::uint32_t fast_crc32c(std::uint32_t crc, void const* data, std::size_t size) {
  return crc32c(std::span(static_cast<std::byte const*>(data), size), crc);
}

Result<std::span<std::byte>> map_shared(int fd, std::uint64_t size) {
  TRY(fault::pass(fault::Point::RingMap));
  void* const address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED)
    return fail(system_error("mmap", fmt::format("{} bytes of rings", size)));
  return std::span(static_cast<std::byte*>(address), size);
}

Result<std::uint64_t> total_size(std::span<RingSpec const> specs) {
  std::uint64_t size = 0;
  for (RingSpec const& spec : specs) {
    std::uint64_t const one =
        aether_ring_size(static_cast<std::uint32_t>(spec.kind), spec.capacity);
    if (one == 0)
      return fail(ErrorCode::LimitReached,
                  fmt::format("a ring of {} bytes cannot be made: its capacity must be a power of "
                              "two from 4 KiB to 1 GiB",
                              spec.capacity));
    size += one;
  }
  return size;
}

}  // namespace

RingMemory::RingMemory(os::Memfd memfd, std::span<std::byte> bytes)
    : memfd_(std::move(memfd)), bytes_(bytes) {
  std::size_t offset = 0;
  aether_ring ring;
  while (offset < bytes.size() && rings_.size() < kRingsMax &&
         aether_ring_open(&ring, bytes.data() + offset, bytes.size() - offset) == AETHER_RING_OK) {
    ring.crc = ring.checksum == AETHER_RING_CRC32C ? fast_crc32c : fast_crc32;
    rings_.push_back(ring);
    offset += ring.total;
  }
}

RingMemory::RingMemory(RingMemory&& other) noexcept
    : memfd_(std::move(other.memfd_)),
      bytes_(std::exchange(other.bytes_, {})),
      rings_(std::move(other.rings_)) {}

RingMemory& RingMemory::operator=(RingMemory&& other) noexcept {
  std::swap(memfd_, other.memfd_);
  std::swap(bytes_, other.bytes_);
  std::swap(rings_, other.rings_);
  return *this;
}

RingMemory::~RingMemory() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Result<RingMemory> RingMemory::create(std::span<RingSpec const> specs) {
  TRY_ASSIGN(std::uint64_t const size, total_size(specs));
  if (specs.empty() || specs.size() > kRingsMax)
    return fail(ErrorCode::LimitReached, fmt::format("{} rings in one memory; 1 to {} are allowed",
                                                     specs.size(), kRingsMax));
  TRY(fault::pass(fault::Point::RingMake));
  TRY_ASSIGN(os::Memfd memfd, os::Memfd::create("aether-ring", size));
  if (::fcntl(memfd.fd(), F_ADD_SEALS, kSeals) != 0) return fail(system_error("sealing a ring"));
  TRY_ASSIGN(std::span<std::byte> const bytes, map_shared(memfd.fd(), size));
  std::size_t offset = 0;
  for (RingSpec const& spec : specs) {
    auto const kind = static_cast<std::uint32_t>(spec.kind);
    aether_ring_format(bytes.data() + offset, kind, spec.capacity,
                       static_cast<std::uint32_t>(spec.checksum), spec.generation);
    offset += aether_ring_size(kind, spec.capacity);
  }
  return RingMemory(std::move(memfd), bytes);
}

Result<RingMemory> RingMemory::adopt(os::UniqueFd fd) {
  TRY_ASSIGN(os::Memfd memfd, os::Memfd::adopt(std::move(fd)));
  int const seals = ::fcntl(memfd.fd(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals)
    return fail(ErrorCode::ProtocolViolation,
                "a ring was passed in memory that its sender can still shorten: seal it with "
                "F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL");
  if (memfd.size() < AETHER_RING_AT_SLOTS)
    return fail(ErrorCode::ProtocolViolation,
                fmt::format("a memfd of {} bytes was passed as a ring", memfd.size()));
  TRY_ASSIGN(std::span<std::byte> const bytes, map_shared(memfd.fd(), memfd.size()));
  RingMemory memory(std::move(memfd), bytes);
  if (memory.rings_.empty())
    return fail(ErrorCode::ProtocolViolation,
                "a memfd was passed that begins with no ring of ABI 1: see docs/ring.md");
  return memory;
}

}  // namespace aether::ring
