// SPDX-License-Identifier: Apache-2.0
#include "daemon/release.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace aether::daemon {
namespace {

void check_service(config::Service const& service, std::vector<std::string>& lacking) {
  auto const add = [&](std::string_view what) {
    lacking.push_back(fmt::format("service {}: {}", service.name, what));
  };
  config::Orchestration const& orchestration = service.orchestration;
  if (service.handoff.mechanism == config::Mechanism::Vault) {
    add("handoff.mechanism: vault (pipe and shm work)");
  }
  if (orchestration.state_handoff.connections) add("state_handoff.connections: true");
  if (orchestration.canary.weight != 100) {
    add("canary.weight other than 100 (all new connections go to the new revision)");
  }
  for (config::Listen const& listen : config::effective_listeners(service)) {
    if (listen.mode == config::ListenMode::Bpf) add("listen with steer: bpf");
    bool const exclusive = listen.mode == config::ListenMode::Exclusive;
    if (exclusive && orchestration.state_handoff.enabled) {
      add("state_handoff together with an exclusive listener");
    }
  }
  if (orchestration.mode == config::Mode::Run && orchestration.state_handoff.enabled) {
    add("state_handoff together with orchestration mode run");
  }
}

}  // namespace

Status check_release(config::Config const& config) {
  std::vector<std::string> lacking;
  for (config::Service const& service : config.services) check_service(service, lacking);
  if (!config.functions.empty()) {
    lacking.emplace_back("functions: (aether validate checks them already)");
  }
  if (lacking.empty()) return {};
  return fail(ErrorCode::Unsupported,
              fmt::format("{} asks for what this release does not do yet:\n  {}", config.path,
                          fmt::join(lacking, "\n  ")));
}

}  // namespace aether::daemon
