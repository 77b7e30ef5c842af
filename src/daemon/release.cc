// SPDX-License-Identifier: Apache-2.0
#include "daemon/release.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/loader.h"

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

}  // namespace

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
