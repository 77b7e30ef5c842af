// SPDX-License-Identifier: Apache-2.0
#include "clone/memory.h"

#include <sys/uio.h>

#include <fmt/format.h>

namespace aether::clone {
namespace {

void* at(std::uint64_t address) {
  return reinterpret_cast<void*>(address);
}

Failure not_all(std::string_view call, pid_t pid, std::uint64_t address, std::size_t size) {
  return fail(
      system_error(call, fmt::format("{} bytes at {:#x} of process {}", size, address, pid)));
}

}  // namespace

Status read_memory(pid_t pid, std::uint64_t address, std::span<std::byte> into) {
  iovec const local{into.data(), into.size()};
  iovec const remote{at(address), into.size()};
  auto const size = process_vm_readv(pid, &local, 1, &remote, 1, 0);
  if (size == static_cast<ssize_t>(into.size())) return {};
  return not_all("process_vm_readv", pid, address, into.size());
}

Status write_memory(pid_t pid, std::uint64_t address, std::span<std::byte const> from) {
  iovec const local{const_cast<std::byte*>(from.data()), from.size()};
  iovec const remote{at(address), from.size()};
  auto const size = process_vm_writev(pid, &local, 1, &remote, 1, 0);
  if (size == static_cast<ssize_t>(from.size())) return {};
  return not_all("process_vm_writev", pid, address, from.size());
}

}  // namespace aether::clone
