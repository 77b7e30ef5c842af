// SPDX-License-Identifier: Apache-2.0
#include "steer/bpf_support.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <optional>

#include <fmt/format.h>

#include "os/cgroup.h"
#include "steer/bind_rewriter.h"
#include "steer/bpf_kernel.h"
#include "steer/lookup_router.h"

namespace aether::steer {
namespace {

constexpr std::array kUdpRelease = {6, 1};
constexpr std::array kXdpRelease = {5, 18};

/// The kernel's own number: `major`.`minor`.
bool is_release_at_least(std::array<int, 2> wanted, std::string& release) {
  utsname name{};
  ::uname(&name);
  release = name.release;
  std::array<int, 2> found{};
  // NOLINTNEXTLINE(cert-err34-c): what is no number counts as 0
  (void)std::sscanf(name.release, "%d.%d", &found[0], &found[1]);
  return found >= wanted;
}

Status check_release(std::array<int, 2> wanted, std::string_view what) {
  std::string release;
  if (is_release_at_least(wanted, release)) return {};
  return fail(ErrorCode::BpfUnavailable, fmt::format("{} needs Linux {}.{}, and this is {}", what,
                                                     wanted[0], wanted[1], release));
}

Result<os::Cgroup> probe_cgroup() {
  auto cgroup = os::Cgroup::create(fmt::format("aether-bpf-probe-{}", ::getpid()));
  if (cgroup) return cgroup;
  return fail(ErrorCode::BpfUnavailable,
              fmt::format("binds are rewritten in a cgroup v2 folder of the instance's own, and "
                          "none could be made: {}",
                          cgroup.error().message()));
}

Status probe_binds(LookupRouter const& router) {
  TRY_ASSIGN(auto const cgroup, probe_cgroup());
  std::array const claim{Address{.host = {}, .port = 1, .path = {}}};
  TRY_ASSIGN(auto const rewriter, BindRewriter::attach(router, cgroup.fd(), claim));
  return {};
}

BpfFinding finding(std::string what, Status const& status, std::string remark = {}) {
  return {.what = std::move(what),
          .works = status.has_value(),
          .reason = status ? std::move(remark) : status.error().message()};
}

std::string neighbours(LookupRouter const& router) {
  auto const others = router.foreign_programs();
  if (!others || *others == 0) return "no other program is in place";
  return fmt::format(
      "{} other program(s) in place: they are left alone, and the one attached last "
      "decides where two choose",
      *others);
}

}  // namespace

std::vector<BpfFinding> probe_bpf() {
  std::vector<BpfFinding> findings;
  auto const router = LookupRouter::open();
  findings.push_back(finding("BPF: routing of connections (sk_lookup)",
                             router ? Status{} : fail(router.error()),
                             router ? neighbours(*router) : ""));
  if (router) {
    Status const binds = probe_binds(*router);
    findings.push_back(finding("BPF: programs that bind a documented port (cgroup/bind)", binds,
                               "rewritten, TCP"));
    if (binds)
      findings.push_back(finding("BPF: the same for UDP",
                                 check_release(kUdpRelease, "sharing a UDP port"),
                                 "shared (Linux 6.1 or newer)"));
  }
  findings.push_back(finding("BPF: counting of packets (XDP)", check_bpf_xdp(), "can be loaded"));
  return findings;
}

Status check_bpf_steering() {
  TRY_ASSIGN(auto const router, LookupRouter::open());
  return probe_binds(router);
}

Status check_bpf_steering_udp() {
  TRY(check_release(kUdpRelease, "steer: bpf for a UDP address"));
  return check_bpf_steering();
}

Status check_bpf_xdp() {
  TRY(check_release(kXdpRelease, "orchestrator.ebpf (XDP)"));
  TRY_ASSIGN(auto const programs, BpfPrograms::load(BpfObject::XdpPorts));
  return {};
}

}  // namespace aether::steer
