// SPDX-License-Identifier: Apache-2.0
// Agents with a command, as services.
#include <algorithm>

#include <fmt/format.h>

#include "config/draft.h"

namespace aether::config {

void add_worker_services(Reader& reader, RootDraft const& root, Config& config) {
  auto const told = root.places.find("agents");
  Place const place = told == root.places.end() ? Place{} : told->second;
  for (Agent& agent : config.agents) {
    if (agent.command.empty()) continue;
    if (std::ranges::find(config.services, agent.name, &Service::name) != config.services.end()) {
      reader.mistake(place, fmt::format("agents: {} has a command, and there is a service of that "
                                        "name already; give one of them another name",
                                        agent.name));
      continue;
    }
    if (agent.workdir.empty()) agent.workdir = reader.folder();
    Service service;
    service.name = agent.name;
    service.command = agent.command;
    service.env = agent.env;
    service.listen.emplace();
    // Its first claim shows that it is (relay::Service marks it), for not every one says READY=1.
    service.ready = ReadyNotify{};
    if (!agent.workdir.empty()) service.workdir = agent.workdir;
    service.is_worker = true;
    config.services.push_back(std::move(service));
  }
}

}  // namespace aether::config
