// SPDX-License-Identifier: Apache-2.0
// What of BPF this machine and this process have. Each thing is tried, in a cgroup of its own and
// for a moment, and not guessed; only what UDP needs is known by the kernel's release.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace aether::steer {

/// One thing that was tried.
struct BpfFinding {
  std::string what;  ///< "sk_lookup in this network namespace"
  bool works = false;
  std::string reason;  ///< If not: what the kernel said, and the cure. Else a remark.
};

/// For `aether doctor`. Some milliseconds; stops at what everything else needs.
[[nodiscard]] std::vector<BpfFinding> probe_bpf();

/// The first of what steering by BPF cannot do without that is missing, as BpfUnavailable.
Status check_bpf_steering();
/// The same for UDP addresses.
Status check_bpf_steering_udp();
/// The same for XDP (orchestrator.ebpf); whether an interface has the mode shows when it is
/// attached.
Status check_bpf_xdp();

}  // namespace aether::steer
