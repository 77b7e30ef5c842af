// SPDX-License-Identifier: Apache-2.0
// Drafts: what the file says, before defaults that depend on other keys are filled in. Between the
// tables (*_schema.cc), which fill them, and resolve.h, which judges them.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/schema.h"

namespace aether::config {

struct OrchestrationDraft {
  Orchestration value;
  std::optional<Mode> mode;
  std::optional<Mode> strategy;
  std::optional<Duration> soak_time;         ///< orchestration.soak_time
  std::optional<Duration> canary_soak_time;  ///< orchestration.canary.soak_time
  std::optional<bool> canary_enabled;
  std::optional<bool> handoff_enabled;
  std::optional<Duration> handoff_timeout;
  std::map<std::string, Place, std::less<>> places;  ///< Of the keys that rules speak of.
  Place place;
  std::size_t weight = 0;  ///< What it was charged (Reader::charge); again for each further user.
};

struct HandoffDraft {
  Handoff value;
  std::optional<Duration> timeout;
  Place place;
};

struct ServiceDraft {
  Service value;
  std::optional<std::string> name;
  std::optional<OrchestrationDraft> orchestration;
  std::optional<HandoffDraft> handoff;
  bool has_command = false;          ///< Even a mistaken one.
  std::vector<Place> listen_places;  ///< One for each of value.listen.
  std::vector<Place> after_places;
  std::map<std::string, Place, std::less<>> places;
  Place place;
};

struct FunctionDraft {
  Function value;
  int ready_ways = 0;  ///< Keys of `ready` that say how; one is allowed.
  std::map<std::string, Place, std::less<>> places;  ///< Every key that is there.
  Place place;
};

struct RootDraft {
  Config value;
  std::vector<ServiceDraft> services;
  std::vector<FunctionDraft> functions;
  std::optional<OrchestrationDraft> orchestration;
  std::optional<HandoffDraft> handoff;
  std::map<std::string, Place, std::less<>> places;
};

/// As read_map, and notes where each known key stands in target.places.
template <class T>
void read_map_with_places(Reader& reader, Node const& node, T& target,
                          std::span<Field<T> const> fields) {
  if (node.kind == Node::Kind::Map) {
    for (Node::Entry const& entry : node.entries) target.places[entry.key] = entry.value->place;
  }
  read_map(reader, node, target, fields);
}

void read_services(Reader& reader, Node const& node, RootDraft& root);
void read_service(Reader& reader, Node const& node, ServiceDraft& service);
void read_orchestration(Reader& reader, Node const& node, std::optional<OrchestrationDraft>& draft);
void read_handoff(Reader& reader, Node const& node, std::optional<HandoffDraft>& draft);
void read_listen(Reader& reader, Node const& node, ServiceDraft& service);
void read_ready(Reader& reader, Node const& node, ServiceDraft& service);
void read_functions(Reader& reader, Node const& node, RootDraft& root);
void read_orchestrator(Reader& reader, Node const& node, RootDraft& root);
void read_store(Reader& reader, Node const& node, RootDraft& root);
void read_jobs(Reader& reader, Node const& node, RootDraft& root);
void read_agents(Reader& reader, Node const& node, RootDraft& root);
/// The workers that Aether keeps running itself: each a service of its agent's name. No soak: two
/// revisions that both claim would do each other's jobs.
void add_worker_services(Reader& reader, RootDraft const& root, Config& config);
void read_tools(Reader& reader, Node const& node, RootDraft& root);
void read_schedules(Reader& reader, Node const& node, RootDraft& root);
void read_root(Reader& reader, Node const& node, RootDraft& root);

// The tables, for the reference.
[[nodiscard]] std::vector<Section> service_sections();
[[nodiscard]] Section ready_section();
[[nodiscard]] std::vector<Section> listen_sections();
[[nodiscard]] std::vector<Section> orchestration_sections();
[[nodiscard]] std::vector<Section> function_sections();
[[nodiscard]] std::vector<Section> jobs_sections();
[[nodiscard]] std::vector<Section> root_sections();

}  // namespace aether::config
