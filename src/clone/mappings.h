// SPDX-License-Identifier: Apache-2.0
// The memory areas of a process, as far as a copy of it cares (man 5 proc_pid_smaps).
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace aether::clone {

struct Mapping {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;
  /// MADV_DONTFORK: a copy of the process would lack it. V8 has its whole heap so.
  bool absent_after_fork = false;
  bool wiped_by_fork = false;  ///< MADV_WIPEONFORK: a copy finds zeroes there.
  std::uint64_t offset = 0;    ///< In the file.
  std::string file;            ///< "00:05 12": device and inode; empty: there is none.
  std::string name;            ///< A path, "[heap]", or nothing.

  [[nodiscard]] std::uint64_t size() const { return end - begin; }
  bool operator==(Mapping const&) const = default;
};

/// /proc/PID/smaps. Pure.
[[nodiscard]] std::vector<Mapping> parse_mappings(std::string_view smaps);
[[nodiscard]] Result<std::vector<Mapping>> read_mappings(pid_t pid);

}  // namespace aether::clone
