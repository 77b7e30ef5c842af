// SPDX-License-Identifier: Apache-2.0
// Obstacles: why a process cannot be copied, all reasons at once. Pure: a table of what is seen in,
// sentences out.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "clone/descriptors.h"
#include "clone/mappings.h"

namespace aether::clone {

/// Memory that a process shares with others, and that a copy gets for itself, at most.
inline constexpr std::uint64_t kSharedBytesMax = std::uint64_t{16} * 1024 * 1024;

struct Sight {
  std::vector<Descriptor> descriptors;
  std::vector<Mapping> mappings;
  /// Names of child processes.
  std::vector<std::string> children;
  bool has_posix_timers = false;
  bool has_interval_timer = false;
  bool has_shadow_stack = false;
  /// Paths of unix sockets to which a copy connects anew.
  std::vector<std::string> reconnects;
};

/// Empty: it can be copied.
[[nodiscard]] std::vector<std::string> obstacles(Sight const& sight);

/// Shared and writable memory, of which a copy gets its own.
[[nodiscard]] bool needs_private_copy(Mapping const& mapping);

}  // namespace aether::clone
