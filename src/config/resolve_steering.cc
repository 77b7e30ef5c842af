// SPDX-License-Identifier: Apache-2.0
// Rules about who gets new connections: programs that bind their own port, and canaries that get a
// part of them.
#include <algorithm>

#include <fmt/format.h>

#include "config/resolve.h"

namespace aether::config {
namespace {

using Places = std::map<std::string, Place, std::less<>>;

Place place_of(Places const& places, std::string_view key, Place otherwise) {
  auto const found = places.find(key);
  return found == places.end() ? otherwise : found->second;
}

/// Why the part that a revision gets cannot be weighed; empty: it can.
std::string_view unweighable(Service const& service, std::vector<Listen> const& listeners) {
  if (service.orchestration.state_handoff.enabled)
    return "its memory has one owner at a time (state_handoff), who must get every connection";
  if (service.orchestration.mode == Mode::Run || service.orchestration.mode == Mode::Immediate)
    return "there is no soak in this mode; use mode: canary";
  if (listeners.empty()) return "it has no listener whose connections could be weighed";
  for (Listen const& listen : listeners) {
    auto const address = parse_address(listen.address);
    if (address && address->is_unix())
      return "a unix socket belongs to one revision at a time; weights are for TCP and UDP";
    if (listen.mode == ListenMode::Shared || listen.mode == ListenMode::Exclusive)
      return "revisions that share a listener cannot be told apart; use mode: steered or "
             "steer: bpf";
  }
  return {};
}

void check_steps(Reader& reader, OrchestrationDraft const& draft, Orchestration const& value) {
  Place const place = place_of(draft.places, "canary.steps", draft.place);
  Duration at{};
  int weight = value.canary.weight;
  for (CanaryStep const& step : value.canary.steps) {
    at += step.after;
    if (step.weight <= weight) {
      reader.mistake(place, fmt::format("orchestration.canary.steps: {}% follows {}%; each step "
                                        "gives the new revision more than the one before (and "
                                        "the first one more than canary.weight)",
                                        step.weight, weight));
      return;
    }
    weight = step.weight;
  }
  if (at < value.soak_time || value.canary.steps.empty()) return;
  reader.mistake(place, fmt::format("orchestration.canary.steps: the last one begins {} after the "
                                    "cutover, but soak_time is {}; the soak must be longer",
                                    format_duration(at), format_duration(value.soak_time)));
}

Place listen_place(ServiceDraft const& draft, std::size_t index) {
  return index < draft.listen_places.size() ? draft.listen_places[index] : draft.place;
}

}  // namespace

void check_canary(Reader& reader, RootDraft const& root, ServiceDraft const& draft,
                  Service& service) {
  auto const& orchestration = draft.orchestration ? draft.orchestration : root.orchestration;
  Canary& canary = service.orchestration.canary;
  if (!orchestration || (canary.weight == 100 && canary.steps.empty())) return;
  bool const off = orchestration->canary_enabled && !*orchestration->canary_enabled;
  if (off) {
    canary.weight = 100;
    canary.steps.clear();
    return;
  }
  Place const at = place_of(orchestration->places, "canary.weight",
                            place_of(orchestration->places, "canary.steps", draft.place));
  std::string_view const why = unweighable(service, effective_listeners(service));
  if (!why.empty()) {
    reader.mistake(
        at, fmt::format("orchestration.canary.weight: service \"{}\": {}", service.name, why));
    return;
  }
  if (service.orchestration.soak_time == Duration::zero()) {
    reader.mistake(at,
                   "orchestration.canary.weight: needs a soak_time, at whose end the new "
                   "revision gets every connection");
    return;
  }
  check_steps(reader, *orchestration, service.orchestration);
}

void check_bind_steering(Reader& reader, ServiceDraft const& draft, Service const& service) {
  if (!service.listen) return;
  for (std::size_t i = 0; i < service.listen->size(); ++i) {
    Listen const& listen = (*service.listen)[i];
    if (listen.mode != ListenMode::Bpf) continue;
    auto const address = parse_address(listen.address);
    if (!address) continue;
    if (address->is_unix()) {
      reader.mistake(listen_place(draft, i),
                     "service.listen: steer: bpf is for TCP and UDP; a unix socket is steered "
                     "without it");
    } else if (address->port == 0) {
      reader.mistake(listen_place(draft, i),
                     "service.listen: steer: bpf needs the port that the program binds, not 0");
    }
  }
}

void add_kernel_needs(RootDraft const& root, Config& config) {
  for (std::size_t i = 0; i < config.services.size(); ++i) {
    Service const& service = config.services[i];
    std::size_t const count = service.listen ? service.listen->size() : 0;
    for (std::size_t k = 0; k < count; ++k) {
      Listen const& listen = (*service.listen)[k];
      if (listen.mode != ListenMode::Bpf) continue;
      Place const place = listen_place(root.services[i], k);
      config.kernel_needs.push_back(
          {.kind = KernelNeed::Kind::BindSteering,
           .line = place.line,
           .column = place.column,
           .what = fmt::format("service \"{}\": steer: bpf on {}", service.name, listen.address)});
    }
  }
  for (std::size_t i = 0; i < config.functions.size(); ++i) {
    Function const& function = config.functions[i];
    if (function.bind != Bind::Documented) continue;
    FunctionDraft const& draft = root.functions[i];
    Place const place = place_of(draft.places, "bind", draft.place);
    config.kernel_needs.push_back(
        {.kind = KernelNeed::Kind::BindSteering,
         .line = place.line,
         .column = place.column,
         .what = fmt::format("function \"{}\": bind: documented", function.id)});
  }
  std::ranges::sort(config.kernel_needs, {},
                    [](KernelNeed const& need) { return std::pair(need.line, need.column); });
}

}  // namespace aether::config
