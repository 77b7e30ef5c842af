// SPDX-License-Identifier: Apache-2.0
#include "os/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // Linux 6.3; Debian 12's glibc does not know it.
#endif

namespace aether::os {
namespace {

constexpr int kAllSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
constexpr std::size_t kNameMax = 249;  // man 2 memfd_create

int create_descriptor(std::string const& name) {
  unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = ::memfd_create(name.c_str(), flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name.c_str(), flags);  // before Linux 6.3
  return fd;
}

Result<std::uint64_t> file_size(int fd) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return fail(system_error("fstat of a memfd"));
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace

Result<Memfd> Memfd::create(std::string_view name, std::uint64_t size) {
  if (size > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max()))
    return fail(ErrorCode::LimitReached, fmt::format("a memfd of {} bytes is too large", size));
  std::string shown(name.substr(0, kNameMax));
  UniqueFd fd(create_descriptor(shown));
  if (!fd) return fail(system_error("memfd_create", shown));
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0)
    return fail(system_error("ftruncate of memfd", fmt::format("{} to {} bytes", shown, size)));
  return Memfd(std::move(fd), size);
}

Result<Memfd> Memfd::adopt(UniqueFd fd) {
  // Only shared memory knows seals (man 2 fcntl, F_GET_SEALS): files, pipes, sockets say EINVAL.
  if (::fcntl(fd.get(), F_GET_SEALS) < 0)
    return fail(ErrorCode::ProtocolViolation, "a peer passed a descriptor that is not a memfd",
                errno);
  TRY_ASSIGN(std::uint64_t size, file_size(fd.get()));
  return Memfd(std::move(fd), size);
}

Status Memfd::write(std::uint64_t offset, std::span<std::byte const> bytes) {
  if (offset > size_ || bytes.size() > size_ - offset)
    return fail(ErrorCode::LimitReached,
                fmt::format("{} bytes at {} do not fit into a memfd of {} bytes", bytes.size(),
                            offset, size_));
  while (!bytes.empty()) {
    ssize_t written = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail(system_error("write into a memfd"));
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Status Memfd::read(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    ssize_t const got = ::pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(system_error("read from a memfd"));
    if (got == 0)
      return fail(ErrorCode::LimitReached,
                  fmt::format("a memfd of {} bytes has none at {}", size_, offset));
    offset += static_cast<std::uint64_t>(got);
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

Status Memfd::seal() {
  if (sealed()) return {};
  if (::fcntl(fd_.get(), F_ADD_SEALS, kAllSeals) == 0) return {};
  if (errno == EBUSY)
    return fail(ErrorCode::SystemCall,
                "sealing a memfd: somebody still has it mapped writable; unmap it first", EBUSY);
  return fail(system_error("sealing a memfd"));
}

bool Memfd::sealed() const {
  int seals = ::fcntl(fd_.get(), F_GET_SEALS);
  return seals >= 0 && (seals & kAllSeals) == kAllSeals;
}

Result<Mapping> Mapping::map_read(int fd, std::size_t size) {
  int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    return fail(ErrorCode::ProtocolViolation,
                "memory was passed that its sender can still shorten: it must be a memfd with "
                "F_SEAL_SHRINK");
  TRY_ASSIGN(std::uint64_t available, file_size(fd));
  if (size > available)
    return fail(
        ErrorCode::ProtocolViolation,
        fmt::format("{} bytes of memory were announced, the memfd has {}", size, available));
  if (size == 0) return Mapping();
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return fail(system_error("mmap", fmt::format("{} bytes", size)));
  return Mapping(std::span(static_cast<std::byte const*>(address), size));
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace aether::os
