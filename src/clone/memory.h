// SPDX-License-Identifier: Apache-2.0
// The memory of a held process, read and written from outside (man 2 process_vm_readv). Addresses
// are those of that process.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace aether::clone {

/// All of `into`, or a fault: memory that is only partly there is none.
Status read_memory(pid_t pid, std::uint64_t address, std::span<std::byte> into);
/// Into memory that the program itself may write.
Status write_memory(pid_t pid, std::uint64_t address, std::span<std::byte const> from);

}  // namespace aether::clone
