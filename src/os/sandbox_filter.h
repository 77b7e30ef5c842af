// SPDX-License-Identifier: Apache-2.0
// The system calls that a sandbox refuses, and the filter that refuses them. Pure, private to the
// room.
#pragma once
#include <linux/filter.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "os/sandbox.h"

namespace aether::os {

struct RefusedCall {
  std::string_view name;
  int number = 0;
};
/// Refused with EPERM at every level but None.
[[nodiscard]] std::span<RefusedCall const> refused_calls();

/// A program for SECCOMP_SET_MODE_FILTER (kernel: userspace-api/seccomp_filter.rst). Empty for
/// None.
[[nodiscard]] std::vector<sock_filter> seccomp_filter(SandboxLevel level);

}  // namespace aether::os
