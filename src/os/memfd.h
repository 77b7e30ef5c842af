// SPDX-License-Identifier: Apache-2.0
// Memfd: memory that has a descriptor, so that it can outlive the process that filled it and be
// passed to another without a copy. Mapping: a read-only view of one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "os/unique_fd.h"

namespace aether::os {

/// Anonymous memory of a fixed size in bytes. Owns its descriptor.
class Memfd {
 public:
  /// Zeroed, not executable (MFD_NOEXEC_SEAL where the kernel has it), sealable. `name` shows in
  /// /proc/PID/maps and is cut at 249 bytes (man 2 memfd_create).
  static Result<Memfd> create(std::string_view name, std::uint64_t size);
  /// Takes a descriptor from a peer. ProtocolViolation if it is not a memfd: anything else could
  /// block, or change under the reader.
  static Result<Memfd> adopt(UniqueFd fd);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] UniqueFd take_fd() && { return std::move(fd_); }
  [[nodiscard]] std::uint64_t size() const { return size_; }

  /// Copies bytes in without mapping: a writable mapping would make seal() fail.
  Status write(std::uint64_t offset, std::span<std::byte const> bytes);
  /// Fills `bytes` from `offset` on, without mapping. LimitReached if there are fewer.
  Status read(std::uint64_t offset, std::span<std::byte> bytes) const;
  /// From here on nobody can change, shrink or grow it (SHRINK|GROW|WRITE|SEAL). EBUSY while
  /// anyone, in any process, has it mapped writable. Sealing twice is fine.
  Status seal();
  /// True if all four seals are on: what is read once is what is read for ever.
  [[nodiscard]] bool sealed() const;

 private:
  Memfd(UniqueFd fd, std::uint64_t size) : fd_(std::move(fd)), size_(size) {}
  UniqueFd fd_;
  std::uint64_t size_ = 0;
};

/// A read-only MAP_SHARED view. Move only; unmaps itself. Independent of the descriptor's life.
class Mapping {
 public:
  /// Maps the first `size` bytes of a memfd. Refused (ProtocolViolation) if the memfd could be
  /// shortened under the reader (F_SEAL_SHRINK not set: reading past the end is SIGBUS) or is
  /// shorter than `size`. Size 0 is an empty view. `fd` is borrowed for the call.
  static Result<Mapping> map_read(int fd, std::size_t size);

  Mapping() = default;
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  [[nodiscard]] std::span<std::byte const> bytes() const { return bytes_; }

 private:
  explicit Mapping(std::span<std::byte const> bytes) : bytes_(bytes) {}
  std::span<std::byte const> bytes_;
};

}  // namespace aether::os
