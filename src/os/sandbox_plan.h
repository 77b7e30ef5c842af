// SPDX-License-Identifier: Apache-2.0
// A sandbox made ready by the parent, for the child to take on. Private to spawn().
#pragma once
#include <linux/filter.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/sandbox.h"
#include "os/unique_fd.h"

namespace aether::os {

/// What the new process needs to confine itself: no pointer in it is its own.
struct SandboxPlan {
  bool drop_bounding = false;           ///< We may, so it may.
  std::uint64_t kept_capabilities = 0;  ///< One bit each, as the kernel numbers them.
  int landlock = -1;                    ///< A ruleset; -1: none.
  sock_filter const* filter = nullptr;
  unsigned short filter_length = 0;
};

/// A sandbox that is ready to be taken on, by any number of processes.
class Sandbox {
 public:
  /// `program` and `workdir` may be read. Unsupported if the kernel lacks what the level needs.
  [[nodiscard]] static Result<Sandbox> prepare(SandboxSpec const& spec, std::string const& program,
                                               std::string const& workdir);
  /// Borrowed: valid as long as this object, wherever it is moved.
  [[nodiscard]] SandboxPlan plan() const;

 private:
  Sandbox() = default;
  std::uint64_t kept_ = 0;
  UniqueFd landlock_;
  std::vector<sock_filter> filter_;
};

}  // namespace aether::os
