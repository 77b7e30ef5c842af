// SPDX-License-Identifier: Apache-2.0
// Configurations for people: what `aether validate` prints, and the reference page.
#include <fmt/format.h>

#include "config/loader.h"
#include "config/schema.h"

namespace aether::config {
namespace {

std::string_view mode_text(Mode mode) {
  switch (mode) {
    case Mode::HotRelay:
      return "hot-relay";
    case Mode::Immediate:
      return "immediate";
    case Mode::Canary:
      return "canary";
    case Mode::Run:
      return "run";
  }
  return "";
}

std::string_view mechanism_text(Mechanism mechanism) {
  switch (mechanism) {
    case Mechanism::Pipe:
      return "pipe";
    case Mechanism::Shm:
      return "shm";
    case Mechanism::Vault:
      return "vault";
  }
  return "";
}

std::string listeners_text(Service const& service) {
  std::string text;
  for (Listen const& listen : effective_listeners(service)) {
    text += (text.empty() ? "" : " ") + listen.address;
  }
  if (!text.empty()) return text;
  return service.listen ? "none" : "asked for at run time";
}

std::string service_line(Service const& service) {
  bool const remembers = service.orchestration.state_handoff.enabled;
  return fmt::format("  - {} (listen: {}, mode: {}, soak: {}, handoff: {})\n", service.name,
                     listeners_text(service), mode_text(service.orchestration.mode),
                     format_duration(service.orchestration.soak_time),
                     remembers ? mechanism_text(service.handoff.mechanism) : "none");
}

// A "|" would end a table's cell.
std::string cell(std::string_view text) {
  std::string result;
  for (char const c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
  return result;
}

std::string section_markdown(Section const& section) {
  std::string text;
  if (!section.path.empty()) text += fmt::format("\n## {}\n", section.path);
  if (!section.intro.empty()) text += fmt::format("\n{}\n", section.intro);
  text += "\n| key | type | default | meaning |\n|---|---|---|---|\n";
  for (Row const& row : section.rows) {
    bool const is_value = !row.fallback.empty() &&
                          row.fallback.find(' ') == std::string_view::npos &&
                          row.fallback != "none" && !row.fallback.starts_with('(');
    text += fmt::format("| `{}` | {} | {} | {} |\n", row.key, cell(row.type),
                        is_value ? fmt::format("`{}`", row.fallback) : std::string(row.fallback),
                        cell(row.meaning));
  }
  return text;
}

constexpr std::string_view kIntroduction = R"(# Configuration

<!-- Made from the schema in src/config by `scripts/generate-docs`. Do not edit. -->

One YAML file. `aether validate FILE` reads it as `aether up` does, and tells every mistake at once,
each as `file:line:column: message`. A key that is not below is a mistake; so is a key given twice.

A small one:

```yaml
service:
  command: ["python3", "my_agent.py"]
  env:
    - PORT=8080

handoff:
  mechanism: pipe
  timeout: 5s
```

- **Durations** have a unit: `500ms`, `30s`, `1h30m`; at most 30 days.
- **Sizes**: `4096`, `64KiB`, `128MB`, `1.5GiB`.
- **Variables** of Aether's own environment stand in values: `${NAME}`, or `${NAME:-default}` when
  it is unset or empty. A `$` that is not followed by `{` is left alone; `$$` is one `$`, so
  `$${NAME}` reaches the program as `${NAME}`.
- **Anchors, aliases and merge keys** (`<<`) work. Tags and a second document do not.
- **Limits**: a file of 1 MiB, 256 services, 64 listeners a service and 1024 in all, 1024 functions,
  values of 64 KiB.
- Variables that Aether sets for its children (`LISTEN_FDS`, `NOTIFY_SOCKET`, `AETERNA_STATE_SOCK`,
  `AETHER_SERVICE`, ...) cannot be given in `env`.

## The file
)";

}  // namespace

std::string probe_url(std::string const& url, std::uint16_t port) {
  return url.starts_with('/') ? fmt::format("http://127.0.0.1:{}{}", port, url) : url;
}

std::string validation_summary(Config const& config) {
  std::string text = "✓ Configuration is valid\n";
  if (!config.functions.empty()) {
    text += fmt::format(
        "\nOrchestrator Settings:\n  SHM Buffer Size:    {} bytes\n  Warm Pool Size:     {}\n"
        "  Restore Timeout:    {}ms\n\nFunctions ({}):\n",
        config.orchestrator.shm_buffer_size, config.orchestrator.warm_pool_size,
        config.orchestrator.restore_timeout_ms, config.functions.size());
  }
  for (Function const& function : config.functions) {
    text += fmt::format("  - {} (port: {}, memory: {}MB, timeout: {}ms)\n", function.id,
                        function.trigger_port, function.memory_limit_mb, function.timeout_ms);
  }
  if (!config.services.empty()) text += fmt::format("\nServices ({}):\n", config.services.size());
  for (Service const& service : config.services) text += service_line(service);
  if (!config.jobs.enabled) return text;
  text += fmt::format("\nJobs: {} agents, {} tools, {} schedules\n", config.agents.size(),
                      config.tools.size(), config.schedules.size());
  return text;
}

std::vector<std::string> not_in_this_release(Config const& config) {
  std::vector<std::string> wishes;
  auto const wish = [&](Service const& service, std::string_view key) {
    wishes.push_back(fmt::format("service \"{}\": {}", service.name, key));
  };
  for (Service const& service : config.services) {
    Orchestration const& orchestration = service.orchestration;
    if (service.handoff.mechanism == Mechanism::Vault) wish(service, "handoff.mechanism: vault");
    if (orchestration.state_handoff.connections) wish(service, "state_handoff.connections: true");
  }
  return wishes;
}

std::string reference_markdown() {
  std::string text(kIntroduction);
  for (Section const& section : all_sections()) text += section_markdown(section);
  return text;
}

}  // namespace aether::config
