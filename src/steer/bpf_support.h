// SPDX-License-Identifier: Apache-2.0
// BpfSupport: what of BPF this machine and this process have, each thing tried and not guessed.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"

namespace aether::steer {

/// One thing that was tried.
struct BpfFinding {
  std::string what;  ///< "sk_lookup in this network namespace"
  bool works = false;
  std::string reason;  ///< If not: what the kernel said, and what the user can do.
};

/// For `listen: {steer: bpf}` and `route: direct`: built in, capabilities, cgroup v2, sk_lookup,
/// bind rewriting, UDP. Loads and attaches each for a moment, in a cgroup of its own.
[[nodiscard]] std::vector<BpfFinding> probe_bpf();

/// The first of what steering by BPF cannot do without that is missing, as BpfUnavailable.
Status check_bpf_steering();
/// The same for UDP addresses.
Status check_bpf_steering_udp();
/// The same for XDP (orchestrator.ebpf).
Status check_bpf_xdp();

}  // namespace aether::steer
