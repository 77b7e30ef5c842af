// SPDX-License-Identifier: Apache-2.0
#include "daemon/release.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/loader.h"
#include "functions/image_launcher.h"
#include "steer/bpf_support.h"

namespace aether::daemon {
namespace {

/// With one owner at a time the old process is gone before the new one could ask for its memory.
bool forgets(config::Service const& service) {
  if (!service.orchestration.state_handoff.enabled) return false;
  if (service.orchestration.mode == config::Mode::Run) return true;
  for (config::Listen const& listen : config::effective_listeners(service)) {
    if (listen.mode == config::ListenMode::Exclusive) return true;
  }
  return false;
}

/// Each kind of thing is tried once.
class KernelProbe {
 public:
  Status const& of(config::KernelNeed const& need) {
    if (need.kind == config::KernelNeed::Kind::Xdp) return once(xdp_, steer::check_bpf_xdp);
    // Datagrams need a newer kernel; the address is in the words of the need.
    bool const udp = need.what.contains("udp://");
    return udp ? once(udp_, steer::check_bpf_steering_udp) : once(tcp_, steer::check_bpf_steering);
  }

 private:
  static Status const& once(std::optional<Status>& known, Status (*probe)()) {
    if (!known) known = probe();
    return *known;
  }
  std::optional<Status> tcp_;
  std::optional<Status> udp_;
  std::optional<Status> xdp_;
};

Status check_images(config::Config const& config) {
  auto const asks =
      std::ranges::find(config.functions, config::Launch::Image, &config::Function::launch);
  if (asks == config.functions.end()) return {};
  auto const tried = functions::try_images(config.orchestrator.snapshot_dir);
  if (tried) return {};
  return fail(ErrorCode::ImageUnavailable,
              fmt::format("{}: function \"{}\": launch: image: {}", config.path, asks->id,
                          tried.error().message()));
}

}  // namespace

Status check_kernel(config::Config const& config) {
  KernelProbe probe;
  std::string lacking;
  for (config::KernelNeed const& need : config.kernel_needs) {
    Status const& given = probe.of(need);
    if (given) continue;
    lacking += fmt::format("{}{}:{}:{}: {}: {}", lacking.empty() ? "" : "\n", config.path,
                           need.line, need.column, need.what, given.error().message());
  }
  if (!lacking.empty()) return fail(ErrorCode::BpfUnavailable, std::move(lacking));
  return check_images(config);
}

Status check_release(config::Config const& config) {
  std::vector<std::string> lacking = config::not_in_this_release(config);
  for (config::Service const& service : config.services) {
    if (!forgets(service)) continue;
    lacking.push_back(
        fmt::format("service {}: state_handoff while only one revision may run at a "
                    "time (mode run, or an exclusive listener)",
                    service.name));
  }
  if (lacking.empty()) return {};
  return fail(ErrorCode::Unsupported,
              fmt::format("{} asks for what this release does not do yet:\n  {}", config.path,
                          fmt::join(lacking, "\n  ")));
}

}  // namespace aether::daemon
