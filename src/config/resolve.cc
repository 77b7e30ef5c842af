// SPDX-License-Identifier: Apache-2.0
#include "config/resolve.h"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

namespace aether::config {
namespace {

constexpr Duration kSoakDefault = std::chrono::seconds(30);

std::optional<Place> find_place(std::map<std::string, Place, std::less<>> const& places,
                                std::string_view key) {
  auto const found = places.find(key);
  return found == places.end() ? std::nullopt : std::optional(found->second);
}

// ---- orchestration

void resolve_mode(Reader& reader, OrchestrationDraft const& draft, Orchestration& value) {
  if (draft.mode && draft.strategy && *draft.mode != *draft.strategy) {
    reader.mistake(
        find_place(draft.places, "strategy").value_or(draft.place),
        "orchestration: mode and strategy contradict each other; they are one setting, keep one");
  }
  value.mode = draft.mode.value_or(draft.strategy.value_or(Mode::HotRelay));
  value.canary.enabled = draft.canary_enabled.value_or(value.mode == Mode::Canary);
  if (value.mode == Mode::Canary && !value.canary.enabled) {
    reader.mistake(find_place(draft.places, "canary").value_or(draft.place),
                   "orchestration: mode canary contradicts canary.enabled: false");
  }
}

void resolve_soak(Reader& reader, OrchestrationDraft const& draft, Orchestration& value) {
  Place const place = find_place(draft.places, "canary").value_or(draft.place);
  if (draft.soak_time && draft.canary_soak_time && *draft.soak_time != *draft.canary_soak_time) {
    reader.mistake(place, fmt::format("orchestration: soak_time is {} and canary.soak_time is {}; "
                                      "they are one setting, keep one",
                                      format_duration(*draft.soak_time),
                                      format_duration(*draft.canary_soak_time)));
  }
  bool const soaks = value.mode == Mode::HotRelay || value.mode == Mode::Canary;
  if (!soaks) {
    bool const asked = draft.soak_time || draft.canary_soak_time || value.canary.enabled;
    if (asked)
      reader.warn(
          draft.place,
          "orchestration: there is no soak in this mode; soak_time and canary have no effect");
    value.canary.enabled = false;
    value.soak_time = Duration::zero();
    return;
  }
  bool const canary_off = draft.canary_enabled && !*draft.canary_enabled;
  if (canary_off && draft.canary_soak_time && !draft.soak_time) {
    reader.warn(place,
                "orchestration: canary.soak_time has no effect while canary.enabled is false");
  }
  bool const named = draft.mode || draft.strategy;
  Duration const otherwise =
      !canary_off && (named || value.canary.enabled) ? kSoakDefault : Duration::zero();
  value.soak_time = draft.soak_time.value_or(
      canary_off ? Duration::zero() : draft.canary_soak_time.value_or(otherwise));
}

void resolve_handoff(Reader& reader, OrchestrationDraft const* draft, HandoffDraft const* handoff,
                     Service& service) {
  std::optional<bool> const said = draft ? draft->handoff_enabled : std::nullopt;
  StateHandoff& state = service.orchestration.state_handoff;
  state.enabled = said.value_or(handoff != nullptr);
  if (handoff && said && !*said) {
    reader.warn(handoff->place,
                "handoff: has no effect while orchestration.state_handoff is false");
  }
  std::optional<Duration> const inner = draft ? draft->handoff_timeout : std::nullopt;
  std::optional<Duration> const outer = handoff ? handoff->timeout : std::nullopt;
  if (inner && outer && *inner != *outer) {
    reader.mistake(handoff->place,
                   fmt::format("handoff: timeout is {} and orchestration.state_handoff.timeout is "
                               "{}; they are one setting, keep one",
                               format_duration(*outer), format_duration(*inner)));
  }
  if (handoff) service.handoff = handoff->value;
  service.handoff.timeout = inner.value_or(outer.value_or(service.handoff.timeout));
  state.timeout = service.handoff.timeout;
}

void resolve_orchestration(Reader& reader, RootDraft const& root, ServiceDraft const& draft,
                           Service& service) {
  OrchestrationDraft const* orchestration = draft.orchestration  ? &*draft.orchestration
                                            : root.orchestration ? &*root.orchestration
                                                                 : nullptr;
  HandoffDraft const* handoff = draft.handoff  ? &*draft.handoff
                                : root.handoff ? &*root.handoff
                                               : nullptr;
  if (orchestration) {
    // Copied into each service, so it weighs in each.
    if (!reader.charge(orchestration->place, orchestration->weight)) return;
    service.orchestration = orchestration->value;
    resolve_mode(reader, *orchestration, service.orchestration);
    resolve_soak(reader, *orchestration, service.orchestration);
  }
  resolve_handoff(reader, orchestration, handoff, service);
}

// ---- rules within a service

bool has_tcp_listener(std::vector<Listen> const& listeners) {
  return std::ranges::any_of(listeners, [](Listen const& listen) {
    auto const address = parse_address(listen.address);
    return address && address->transport == Transport::Tcp;
  });
}

void check_probes(Reader& reader, RootDraft const& root, ServiceDraft const& draft,
                  Service const& service, std::vector<Listen> const& listeners) {
  constexpr std::string_view message =
      "a path alone asks the service's first TCP listener, and it has none; write "
      "http://HOST:PORT/PATH";
  if (has_tcp_listener(listeners)) return;
  auto const* ready = std::get_if<ReadyHttp>(&service.ready);
  if (ready && ready->url.starts_with('/')) {
    reader.mistake(find_place(draft.places, "ready").value_or(draft.place),
                   fmt::format("service.ready.http: {}", message));
  }
  auto const& health = service.orchestration.canary.health_check;
  auto const* probe = health ? std::get_if<ProbeHttp>(&health->probe) : nullptr;
  if (!probe || !probe->url.starts_with('/')) return;
  auto const& orchestration = draft.orchestration ? draft.orchestration : root.orchestration;
  reader.mistake(find_place(orchestration->places, "canary").value_or(draft.place),
                 fmt::format("orchestration.canary.health_check.http_get: service \"{}\": {}",
                             service.name, message));
}

// Every {fd:NAME} in the command names a listener.
void check_fd_names(Reader& reader, ServiceDraft const& draft, Service const& service,
                    std::vector<Listen> const& listeners) {
  constexpr std::string_view opening = "{fd:";
  std::vector<std::string_view> known;
  for (Listen const& listen : listeners)
    if (listen.mode != ListenMode::Bpf) known.push_back(listen.name);
  Place const place = find_place(draft.places, "command").value_or(draft.place);
  for (std::string const& argument : service.command) {
    for (std::size_t at = argument.find(opening); at != std::string::npos;
         at = argument.find(opening, at + 1)) {
      std::size_t const end = argument.find('}', at);
      if (end == std::string::npos) continue;
      std::string_view const name =
          std::string_view(argument).substr(at + opening.size(), end - at - opening.size());
      if (std::ranges::find(known, name) != known.end()) continue;
      reader.mistake(
          place,
          known.empty()
              ? fmt::format("service.command: {{fd:{}}} needs a listener, and the service "
                            "has none; add listen:",
                            name)
              : fmt::format("service.command: no listener has the name of {{fd:{}}}; there is {} "
                            "(without a name: of its own, a listener is called by its port)",
                            name, fmt::join(known, ", ")));
    }
  }
}

void check_port_variable(Reader& reader, ServiceDraft const& draft, Service const& service,
                         std::vector<Listen> const& listeners) {
  if (service.listen || !listeners.empty()) return;
  auto const port =
      std::ranges::find(service.env, "PORT", &std::pair<std::string, std::string>::first);
  if (port == service.env.end()) return;
  reader.warn(
      find_place(draft.places, "env").value_or(draft.place),
      fmt::format("service.env: PORT is \"{}\", which is no port, so no listener is made from it",
                  port->second));
}

void check_exclusive_mix(Reader& reader, ServiceDraft const& draft, Service const& service) {
  if (!service.listen) return;
  auto const is_exclusive = [](Listen const& listen) {
    return listen.mode == ListenMode::Exclusive;
  };
  auto const count = std::ranges::count_if(*service.listen, is_exclusive);
  bool const mixed = count != 0 && count != static_cast<std::ptrdiff_t>(service.listen->size());
  if (!mixed) return;
  reader.mistake(find_place(draft.places, "listen").value_or(draft.place),
                 "service.listen: exclusive stops the old revision first, which holds for the "
                 "whole service; give "
                 "every listener of it mode: exclusive");
}

void check_ready_fd(Reader& reader, ServiceDraft const& draft, Service const& service,
                    std::vector<Listen> const& listeners) {
  constexpr std::size_t kFirstListenerFd = 3;
  auto const* ready = std::get_if<ReadyFd>(&service.ready);
  auto const is_passed = [](Listen const& one) { return one.mode != ListenMode::Bpf; };
  auto const passed = static_cast<std::size_t>(std::ranges::count_if(listeners, is_passed));
  std::size_t const end = kFirstListenerFd + passed;
  if (ready == nullptr || static_cast<std::size_t>(ready->fd) >= end) return;
  reader.mistake(find_place(draft.places, "ready").value_or(draft.place),
                 fmt::format("service.ready.fd: {} is the number of a listener (they are 3 to {}); "
                             "choose {} or a higher one",
                             ready->fd, end - 1, end));
}

Service resolve_service(Reader& reader, RootDraft const& root, ServiceDraft& draft) {
  Service service = std::move(draft.value);
  Place const name_place = find_place(draft.places, "name").value_or(draft.place);
  if (!draft.has_command)
    reader.mistake(draft.place, "service: has no command; name the program to run");
  service.name = draft.name.value_or(default_service_name(service.command));
  if (!is_service_name(service.name)) {
    reader.mistake(
        name_place,
        fmt::format("service.name: \"{}\" is not a name: 1 to 64 of A-Z a-z 0-9 - _ . beginning "
                    "with a letter or digit",
                    service.name));
  }
  resolve_orchestration(reader, root, draft, service);
  std::vector<Listen> const listeners = effective_listeners(service);
  check_port_variable(reader, draft, service, listeners);
  check_fd_names(reader, draft, service, listeners);
  check_probes(reader, root, draft, service, listeners);
  check_exclusive_mix(reader, draft, service);
  check_bind_steering(reader, draft, service);
  check_canary(reader, root, draft, service);
  check_ready_fd(reader, draft, service, listeners);
  return service;
}

// ---- rules between services, between functions

void check_service_names(Reader& reader, RootDraft const& root, Config const& config) {
  std::set<std::string_view> names;
  std::set<std::string_view> sockets;
  for (std::size_t i = 0; i < config.services.size(); ++i) {
    Service const& service = config.services[i];
    ServiceDraft const& draft = root.services[i];
    // Without name and command nothing is known that could be the same.
    bool const is_known = draft.name || !service.command.empty();
    if (is_known && !names.insert(service.name).second) {
      bool const said = draft.name.has_value();
      reader.mistake(
          find_place(draft.places, "name").value_or(draft.place),
          fmt::format("another service has the name \"{}\"{}", service.name,
                      said ? "" : ", which is taken from its command; give each a name"));
    }
    StateHandoff const& state = service.orchestration.state_handoff;
    if (state.enabled && state.socket_path && !sockets.insert(*state.socket_path).second) {
      reader.mistake(
          draft.place,
          fmt::format(
              "service \"{}\": another service has the same state_handoff.socket_path; leave it "
              "out, or give each service its own orchestration",
              service.name));
    }
  }
}

/// Aether does not see the requests of a direct route, and cannot count or time them. Connections
/// it counts, and can give to several instances where each binds the port itself.
void check_direct(Reader& reader, FunctionDraft const& draft) {
  if (draft.value.route != Route::Direct) return;
  bool const shares = draft.value.bind == Bind::Documented;
  for (auto const& [key, instead] :
       {std::pair("timeout_ms", "set one in the handler"),
        std::pair("concurrency", "an instance takes as many as it accepts; say bind: documented"),
        std::pair("max_instances",
                  "one instance runs, or min_instances of them; say bind: documented")}) {
    auto const place = find_place(draft.places, key);
    bool const may = shares && std::string_view(key) != "timeout_ms";
    if (!place || may) continue;
    reader.mistake(*place, fmt::format("functions: {} has no meaning with route: direct, where "
                                       "Aether does not see requests; {}, or use route: gateway",
                                       key, instead));
  }
}

void check_ring(Reader& reader, FunctionDraft const& draft) {
  Function const& it = draft.value;
  for (auto const& [unfit, key] : {std::pair(it.route == Route::Direct, "route: direct"),
                                   std::pair(it.bind == Bind::Documented, "bind: documented"),
                                   std::pair(it.launch == Launch::Image, "launch: image")}) {
    if (!unfit || it.ipc != Ipc::Ring) continue;
    reader.mistake(find_place(draft.places, "ipc").value_or(draft.place),
                   fmt::format("functions: {} does not go with ipc: ring; use ipc: http", key));
  }
}

void check_image(Reader& reader, FunctionDraft const& draft) {
  Function const& it = draft.value;
  if (it.launch != Launch::Image) return;
  struct Unfit {
    bool is;
    char const* key;
    char const* why;
  };
  for (Unfit const& unfit :
       {Unfit{it.route == Route::Direct, "route: direct",
              "a listener of Aether's cannot be put into an image; use route: gateway"},
        Unfit{it.bind == Bind::Documented, "bind: documented",
              "a restored handler binds nothing; leave it out"},
        Unfit{it.sandbox == Sandbox::Strict, "sandbox: strict",
              "CRIU cannot restore rules of landlock; use sandbox: basic"},
        Unfit{it.pid_namespace, "pid_namespace: true",
              "each restored instance has a process number of its own; leave it out"}}) {
    if (!unfit.is) continue;
    reader.mistake(
        find_place(draft.places, "launch").value_or(draft.place),
        fmt::format("functions: launch: image does not go with {}: {}", unfit.key, unfit.why));
  }
}

void resolve_functions(Reader& reader, RootDraft& root, Config& config) {
  std::set<std::string> ids;
  for (FunctionDraft& draft : root.functions) {
    Function& function = draft.value;
    if (!function.id.empty() && !ids.insert(function.id).second) {
      reader.mistake(find_place(draft.places, "id").value_or(draft.place),
                     fmt::format("functions: another function has the id \"{}\"", function.id));
    }
    check_direct(reader, draft);
    check_ring(reader, draft);
    check_image(reader, draft);
    if (function.route == Route::Direct && function.bind != Bind::Documented)
      function.max_instances = std::max(1, function.min_instances);
    if (function.min_instances > function.max_instances) {
      auto const place = find_place(draft.places, "min_instances");
      reader.mistake(place.value_or(draft.place),
                     fmt::format("functions: min_instances is {}, above max_instances, {}",
                                 function.min_instances, function.max_instances));
    }
    config.functions.push_back(std::move(function));
  }
}

/// Agents may name the tools of the file, and those that are there anyway.
void resolve_jobs(Reader& reader, RootDraft const& root, Config const& config) {
  std::vector<std::string_view> known{"http", "llm", "function"};
  for (Tool const& tool : config.tools) known.push_back(tool.name);
  Place const place = find_place(root.places, "agents").value_or(Place{});
  for (Agent const& agent : config.agents) {
    for (std::string const& tool : agent.tools) {
      if (std::ranges::find(known, tool) != known.end()) continue;
      reader.mistake(place, fmt::format("agents: {} names the tool \"{}\", which is not in "
                                        "tools:{}",
                                        agent.name, tool, did_you_mean(tool, known)));
    }
  }
}

}  // namespace

Config resolve(Reader& reader, RootDraft root) {
  Config config = std::move(root.value);
  if (config.version.empty()) config.version = "1.0";
  auto const services_place = find_place(root.places, "services");
  bool const is_mixed = services_place && root.places.contains("service");
  if (is_mixed) {
    reader.mistake(*services_place,
                   "services: there is a service: as well; put all of them under services:");
  }
  // A misspelt section has been told already.
  bool const is_empty = root.services.empty() && root.functions.empty();
  if (is_empty && root.places.contains("api")) config.jobs.enabled = true;
  if (is_empty && !config.jobs.enabled && !reader.has_mistakes()) {
    reader.mistake({}, "there is nothing to run; add a service: or functions:");
  }
  resolve_jobs(reader, root, config);
  for (ServiceDraft& draft : root.services)
    config.services.push_back(resolve_service(reader, root, draft));
  if (!is_mixed) check_service_names(reader, root, config);
  resolve_functions(reader, root, config);
  // Places of listeners and names are in the drafts, whose values have moved on.
  check_addresses(reader, root, config);
  add_kernel_needs(root, config);
  for (std::size_t i = 0; i < root.services.size(); ++i) {
    root.services[i].name = config.services[i].name;
    root.services[i].value.after = config.services[i].after;
  }
  check_order(reader, root.services);
  add_worker_services(reader, root, config);
  return config;
}

}  // namespace aether::config
