// SPDX-License-Identifier: Apache-2.0
// The tables of a swap: orchestration with all its parts, and handoff.
#include <array>

#include <fmt/format.h>

#include "config/draft.h"
#include "config/limits.h"

namespace aether::config {
namespace {

// ---- hooks

constexpr std::array kHookFields{
    Field<Hook>{{"name", "text", "the program's name", "For messages and logs."},
                store<&Hook::name, read_word>},
    Field<Hook>{{"command", "list", "(required)",
                 "Run with the new revision's environment. Success is ending with 0."},
                store<&Hook::command, read_command>},
    Field<Hook>{{"timeout", "duration", "30s", "After this it is killed and has failed."},
                store<&Hook::timeout, read_timeout>},
    Field<Hook>{
        {"block_on_fail", "bool", "true", "A failure stops the swap; `false`: it is only told."},
        store<&Hook::block_on_fail, read_bool>},
};

template <auto Member>
void read_hooks(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  auto const items =
      reader.items(node, kHooksMax, "a list of hooks, each {name, command, timeout}");
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    Hook hook;
    read_map<Hook>(reader, *items[i], hook, kHookFields);
    bool const is_map = items[i]->kind == Node::Kind::Map;
    if (is_map && !items[i]->find("command")) reader.mistake(items[i]->place, "has no command");
    if (hook.command.empty()) continue;
    if (hook.name.empty()) hook.name = hook.command[0].substr(hook.command[0].rfind('/') + 1);
    (draft.value.*Member).push_back(std::move(hook));
  }
}

// ---- health check

struct HealthDraft {
  HealthCheck value;
  int probes = 0;  ///< Exactly one is wanted.
};

template <class Probe, auto Member, auto Read>
void read_probe(Reader& reader, Node const& node, HealthDraft& draft) {
  ++draft.probes;
  Probe probe;
  store<Member, Read>(reader, node, probe);
  draft.value.probe = std::move(probe);
}

template <auto Member, auto Read>
void store_health(Reader& reader, Node const& node, HealthDraft& draft) {
  store<Member, Read>(reader, node, draft.value);
}

constexpr std::array kHealthFields{
    Field<HealthDraft>{
        {"http_get", "URL or path", "",
         "Good is a status from 200 to 399. `/path` asks the service's first TCP listener."},
        read_probe<ProbeHttp, &ProbeHttp::url, read_url>},
    Field<HealthDraft>{{"tcp", "address", "", "Good is an accepted connection."},
                       read_probe<ProbeTcp, &ProbeTcp::address, read_target>},
    Field<HealthDraft>{{"command", "list", "", "Good is ending with 0."},
                       read_probe<ProbeCommand, &ProbeCommand::command, read_command>},
    Field<HealthDraft>{{"interval", "duration", "1s", "From one answer to the next question."},
                       store_health<&HealthCheck::interval, read_timeout>},
    Field<HealthDraft>{{"timeout", "duration", "1s", "No answer by then is a bad one."},
                       store_health<&HealthCheck::timeout, read_timeout>},
    Field<HealthDraft>{{"threshold", "number", "3",
                        "This many bad answers in a row, 1 to 1000, roll the swap back."},
                       store_health<&HealthCheck::threshold, read_number<1, 1000>>},
};

void read_health_check(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  HealthDraft health;
  read_map<HealthDraft>(reader, node, health, kHealthFields);
  if (node.kind == Node::Kind::Map && health.probes != 1) {
    reader.mistake(node.place, "needs exactly one of http_get, tcp, command");
  }
  draft.value.canary.health_check = std::move(health.value);
}

// ---- canary, state handoff and the small ones

template <auto Member, auto Read>
void store_canary(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  store<Member, Read>(reader, node, draft.value.canary);
}
template <auto Member, auto Read>
void store_state(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  store<Member, Read>(reader, node, draft.value.state_handoff);
}
template <auto Member, auto Read>
void store_drain(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  store<Member, Read>(reader, node, draft.value.drain);
}
template <auto Member, auto Read>
void store_orchestration(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  store<Member, Read>(reader, node, draft.value);
}

constexpr std::array kSticks{
    Choice{"none", Stick::None},
    Choice{"source", Stick::Source},
};

constexpr std::array kCanaryStepFields{
    Field<CanaryStep>{{"after", "duration", "(required)",
                       "Since the step before; of the first one, since the cutover."},
                      store<&CanaryStep::after, read_timeout>},
    Field<CanaryStep>{{"weight", "percent", "(required)",
                       "Of new connections for the new revision, 1 to 100; more than before."},
                      store<&CanaryStep::weight, read_number<1, 100>>},
};

void read_canary_steps(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  draft.places["canary.steps"] = node.place;
  auto const items = reader.items(node, kCanaryStepsMax, "a list of steps, each {after, weight}");
  for (std::size_t i = 0; i < items.size(); ++i) {
    Reader::Scope const scope(reader, fmt::format("[{}]", i));
    CanaryStep step;
    read_map<CanaryStep>(reader, *items[i], step, kCanaryStepFields);
    bool const is_map = items[i]->kind == Node::Kind::Map;
    if (is_map && !items[i]->find("after")) reader.mistake(items[i]->place, "has no after");
    if (is_map && !items[i]->find("weight")) reader.mistake(items[i]->place, "has no weight");
    draft.value.canary.steps.push_back(step);
  }
}

void read_canary_weight(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  draft.places["canary.weight"] = node.place;
  store_canary<&Canary::weight, read_number<1, 100>>(reader, node, draft);
}

using SwapField = Field<OrchestrationDraft>;
constexpr std::array kCanaryFields{
    SwapField{{"enabled", "bool", "true",
               "`false`: no soak, unless `orchestration.soak_time` asks for one."},
              store<&OrchestrationDraft::canary_enabled, read_bool>},
    SwapField{{"soak_time", "duration", "30s", "The same as `orchestration.soak_time`."},
              store<&OrchestrationDraft::canary_soak_time, read_duration>},
    SwapField{
        {"weight", "percent", "100",
         "Of new connections for the new revision from the cutover on, 1 to 100; the old one gets "
         "the others until the soak has ended well. Not with `state_handoff`."},
        read_canary_weight},
    SwapField{{"steps", "list of steps", "",
               "How the weight grows while the judge finds nothing; see "
               "`orchestration.canary.steps[]`."},
              read_canary_steps},
    SwapField{{"stick", "`none`, `source`", "none",
               "`none`: chance decides for each connection. `source`: the client's address does; "
               "what went to the new revision once goes there again."},
              store_canary<&Canary::stick, read_choice<kSticks>>},
    SwapField{{"health_check", "map", "", "See `orchestration.canary.health_check`."},
              read_health_check},
};

constexpr std::array kOnHandoffFailure{
    Choice{"abort", OnHandoffFailure::Abort},
    Choice{"continue", OnHandoffFailure::Continue},
};

// The kernel's limit, kUnixPathMax, which an address has too.
std::optional<std::string> read_socket_path(Reader& reader, Node const& node) {
  auto path = read_absolute_path(reader, node);
  if (!path || path->size() <= kUnixPathMax) return path;
  reader.mistake(node.place, fmt::format("has {} bytes; a socket's path has at most {}",
                                         path->size(), kUnixPathMax));
  return std::nullopt;
}

constexpr std::array kStateFields{
    SwapField{{"enabled", "bool", "true", "Whether memory is handed over at all."},
              store<&OrchestrationDraft::handoff_enabled, read_bool>},
    SwapField{{"socket_path", "absolute path", "chosen by Aether",
               "Where `AETERNA_STATE_SOCK` points. One service only."},
              store_state<&StateHandoff::socket_path, read_socket_path>},
    SwapField{{"timeout", "duration", "5s", "The same as `handoff.timeout`."},
              store<&OrchestrationDraft::handoff_timeout, read_timeout>},
    SwapField{
        {"connections", "bool", "false",
         "Hand over open connections as well. Not in this release: `aether up` refuses `true`."},
        store_state<&StateHandoff::connections, read_bool>},
    SwapField{{"on_handoff_failure", "`abort`, `continue`", "abort",
               "`abort`: roll back, nothing is forgotten. `continue`: go on with a revision that "
               "remembers "
               "nothing."},
              store_state<&StateHandoff::on_handoff_failure, read_choice<kOnHandoffFailure>>},
    SwapField{{"check", "bool", "false",
               "Preflight of each swap: a throwaway process of the new revision is given a copy of "
               "the real memory, and must read (and migrate) it before anything moves. As `aether "
               "reload --check-state`."},
              store_state<&StateHandoff::check, read_bool>},
};

void read_state_handoff(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  if (node.kind == Node::Kind::Scalar) {
    draft.handoff_enabled = read_bool(reader, node);
    return;
  }
  draft.handoff_enabled = true;
  read_map<OrchestrationDraft>(reader, node, draft, kStateFields);
}

constexpr std::array kStartupPriorities{
    Choice{"low", StartupPriority::Low},
    Choice{"normal", StartupPriority::Normal},
};
constexpr std::array kStartupFields{
    SwapField{{"warmup_delay", "duration", "0s",
               "From ready to the handoff; the old revision serves meanwhile."},
              store_orchestration<&Orchestration::warmup_delay, read_duration>},
    SwapField{
        {"priority", "`low`, `normal`", "low",
         "`low`: a revision that starts or ends beside a serving one gives way to it on the "
         "processor; at most until it has waited 200ms longer than it ran, or half of "
         "`ready_timeout` or `stop_timeout` is over."},
        store_orchestration<&Orchestration::startup_priority, read_choice<kStartupPriorities>>},
};

constexpr std::array kDrainStops{
    Choice{"after_queue", DrainStop::AfterQueue},
    Choice{"when_idle", DrainStop::WhenIdle},
    Choice{"at_deadline", DrainStop::AtDeadline},
};
constexpr std::array kDrainFields{
    SwapField{{"timeout", "duration", "30s",
               "How long an old revision may take, from the verdict on, to finish what it has."},
              store_drain<&Drain::timeout, read_duration>},
    SwapField{{"stop", "`after_queue`, `when_idle`, `at_deadline`", "after_queue",
               "When an old revision gets its stop signal. `after_queue`: at once, when it has "
               "accepted what waited for it; its tree is killed at the timeout. `when_idle`: when "
               "none of its connections is open any more, at the latest at the timeout; "
               "`at_deadline`: at the timeout. In these two its tree is killed `stop_timeout` "
               "after the signal."},
              store_drain<&Drain::stop, read_choice<kDrainStops>>},
    SwapField{{"spread", "duration", "half of `timeout`",
               "The SDK keeps idle connections until the end of `timeout`, because a request that "
               "meets a closed socket is lost. The last ones are closed at random moments within "
               "this time before it, so that their clients do not all come back at once."},
              store_drain<&Drain::spread, read_duration>},
};
constexpr std::array kPostFields{
    SwapField{{"on_success", "list of hooks", "",
               "When the verdict is out; the old revision may still drain."},
              read_hooks<&Orchestration::on_success>},
    SwapField{{"on_failure", "list of hooks", "", "After a rollback."},
              read_hooks<&Orchestration::on_failure>},
};

// ---- the section

constexpr std::array kSwapModes{
    Choice{"hot-relay", Mode::HotRelay},
    Choice{"immediate", Mode::Immediate},
    Choice{"canary", Mode::Canary},
    Choice{"run", Mode::Run},
};

// Several keys of a part go into the same draft.
template <auto const& Fields>
void read_part(Reader& reader, Node const& node, OrchestrationDraft& draft) {
  read_map<OrchestrationDraft>(reader, node, draft, Fields);
}

constexpr std::array kOrchestrationFields{
    SwapField{{"mode", "`hot-relay`, `immediate`, `canary`, `run`", "hot-relay",
               "`hot-relay`: the new revision is made ready beside the old one, takes over, soaks. "
               "`canary`: the same, with `canary.enabled`. `immediate`: no soak. `run`: the old "
               "one stops "
               "before the new one starts."},
              store<&OrchestrationDraft::mode, read_choice<kSwapModes>>},
    SwapField{{"strategy", "as `mode`", "", "Another name of `mode`."},
              store<&OrchestrationDraft::strategy, read_choice<kSwapModes>>},
    SwapField{
        {"soak_time", "duration", "30s, or 0s",
         "How long the old revision stands by after the cutover, ready to take back. 30s when the "
         "file names a `mode`, a `strategy` or an enabled `canary`; else 0s."},
        store<&OrchestrationDraft::soak_time, read_duration>},
    SwapField{{"canary", "map", "", "See `orchestration.canary`."},
              [](Reader& reader, Node const& node, OrchestrationDraft& draft) {
                draft.canary_enabled = true;
                read_map<OrchestrationDraft>(reader, node, draft, kCanaryFields);
              }},
    SwapField{
        {"state_handoff", "bool, or map", "false",
         "Memory goes from the old revision to the new one; see `orchestration.state_handoff`. A "
         "`handoff` section turns it on, too."},
        read_state_handoff},
    SwapField{
        {"pre_flight", "list of hooks", "",
         "Before a swap begins; see `orchestration.pre_flight[]`. The first failure stops it."},
        read_hooks<&Orchestration::pre_flight>},
    SwapField{{"startup", "map", "", "See `orchestration.startup`."}, read_part<kStartupFields>},
    SwapField{{"drain", "map", "", "See `orchestration.drain`."}, read_part<kDrainFields>},
    SwapField{{"max_revisions", "number", "4",
               "2 to 64 revisions of a service live at a time, at most. A swap that would need one "
               "more ends the oldest draining one first."},
              store_orchestration<&Orchestration::max_revisions, read_number<2, 64>>},
    SwapField{{"post_process", "map", "", "See `orchestration.post_process`."},
              read_part<kPostFields>},
};

constexpr std::array kMechanisms{
    Choice{"pipe", Mechanism::Pipe},
    Choice{"shm", Mechanism::Shm},
    Choice{"vault", Mechanism::Vault},
};

constexpr std::array kHandoffFields{
    Field<HandoffDraft>{
        {"mechanism", "`pipe`, `shm`, `vault`", "pipe",
         "`pipe`: bytes over a socket, for less than 1 MB. `shm`: a sealed memfd, mapped without a "
         "copy. `vault`: not in this release, `aether up` refuses it."},
        [](Reader& reader, Node const& node, HandoffDraft& draft) {
          store<&Handoff::mechanism, read_choice<kMechanisms>>(reader, node, draft.value);
        }},
    Field<HandoffDraft>{
        {"timeout", "duration", "5s", "For the whole handoff; over it, the swap is rolled back."},
        store<&HandoffDraft::timeout, read_timeout>},
};

}  // namespace

void read_orchestration(Reader& reader, Node const& node,
                        std::optional<OrchestrationDraft>& draft) {
  draft.emplace();
  draft->place = node.place;
  std::size_t const before = reader.charged();
  read_map_with_places<OrchestrationDraft>(reader, node, *draft, kOrchestrationFields);
  draft->weight = reader.charged() - before;
}

void read_handoff(Reader& reader, Node const& node, std::optional<HandoffDraft>& draft) {
  draft.emplace();
  draft->place = node.place;
  read_map<HandoffDraft>(reader, node, *draft, kHandoffFields);
}

std::vector<Section> orchestration_sections() {
  return {
      describe<OrchestrationDraft>("orchestration",
                                   "How one revision takes the place of another. Holds for every "
                                   "service that has no `orchestration` of its own.",
                                   kOrchestrationFields),
      describe<OrchestrationDraft>("orchestration.canary", "", kCanaryFields),
      describe<CanaryStep>("orchestration.canary.steps[]",
                           "All within the soak; after it the new revision gets everything.",
                           kCanaryStepFields),
      describe<HealthDraft>(
          "orchestration.canary.health_check",
          "Asked while a new revision soaks. One of `http_get`, `tcp`, `command`:", kHealthFields),
      describe<OrchestrationDraft>("orchestration.state_handoff",
                                   "`true`, `false`, or a map:", kStateFields),
      describe<Hook>(
          "orchestration.pre_flight[]",
          "A hook; `post_process.on_success[]` and `post_process.on_failure[]` have the same keys.",
          kHookFields),
      describe<OrchestrationDraft>("orchestration.startup", "", kStartupFields),
      describe<OrchestrationDraft>("orchestration.drain", "", kDrainFields),
      describe<OrchestrationDraft>("orchestration.post_process", "", kPostFields),
      describe<HandoffDraft>(
          "handoff",
          "How memory moves. Its presence turns `orchestration.state_handoff` on, unless that says "
          "otherwise. Holds for every service that has no `handoff` of its own.",
          kHandoffFields),
  };
}

}  // namespace aether::config
