// SPDX-License-Identifier: Apache-2.0
// The control groups of an Aether that is gone: a process that is killed with SIGKILL removes none.
#pragma once
#include <cstddef>
#include <string_view>

namespace aether::supervise {

struct LeftGroups {
  std::size_t removed = 0;
  std::size_t kept = 0;  ///< Something lives in them still, or they may not be removed.
};

/// Removes the groups whose names begin with "aether-TAG-" (own_tag() of the Aether that made them)
/// in each tree of groups that we write to. Call it only when that Aether is gone.
LeftGroups remove_left_groups(std::string_view tag);

}  // namespace aether::supervise
