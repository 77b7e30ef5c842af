// SPDX-License-Identifier: Apache-2.0
// The files that users of the three ancestors have, letter by letter, and what they say.
#include <gtest/gtest.h>

#include "config/testing.h"

namespace aether::config {
namespace {

using namespace std::chrono_literals;

Config load_seed(std::string const& name) {
  auto config = load(std::string(AETHER_TESTDATA) + "/" + name, testing::kEnvironment);
  AETHER_CHECK(config.has_value(), "{}", config ? std::string() : config.error().message());
  return std::move(*config);
}

TEST(Seeds, TheFirstFormOfAeternaHasFlatKeys) {
  Config const config = load_seed("seed-000.yaml");
  ASSERT_EQ(config.services.size(), 1U);
  Service const& service = config.services[0];
  EXPECT_EQ(service.name, "agent-core");
  EXPECT_EQ(service.command, (Command{"python", "agent.py"}));
  EXPECT_EQ(service.orchestration.mode, Mode::HotRelay);
  EXPECT_EQ(service.orchestration.soak_time, 30s);
  EXPECT_TRUE(service.orchestration.state_handoff.enabled);
  EXPECT_EQ(service.handoff, Handoff());
  EXPECT_FALSE(service.listen.has_value());
  EXPECT_TRUE(effective_listeners(service).empty());
  EXPECT_EQ(config.observability.metrics_address, ":9090");
  EXPECT_FALSE(config.observability.metrics_given);
  EXPECT_TRUE(config.warnings.empty());
}

TEST(Seeds, TheSecondFormOfAeternaHasNestedKeys) {
  Config const config = load_seed("seed-001.yaml");
  ASSERT_EQ(config.services.size(), 1U);
  Service const& service = config.services[0];
  EXPECT_EQ(config.version, "1.0");
  EXPECT_EQ(service.name, "agent-core");
  EXPECT_EQ(service.env, (Variables{{"PYTHONUNBUFFERED", "1"}}));
  EXPECT_EQ(service.orchestration.mode, Mode::HotRelay);
  EXPECT_TRUE(service.orchestration.canary.enabled);
  EXPECT_EQ(service.orchestration.canary.weight, 100);
  EXPECT_EQ(service.orchestration.soak_time, 30s);
  EXPECT_TRUE(service.orchestration.state_handoff.enabled);
  EXPECT_EQ(service.orchestration.state_handoff.socket_path, "/tmp/aeterna_srp.sock");
  EXPECT_EQ(config.observability.metrics_address, ":9090");
  EXPECT_TRUE(config.observability.metrics_given);
  EXPECT_EQ(config.observability.log_level, log::Level::Info);
  EXPECT_TRUE(config.warnings.empty());
}

TEST(Seeds, TheThirdFormOfAeternaHasAHandoffAndAPort) {
  Config const config = load_seed("seed-002.yaml");
  ASSERT_EQ(config.services.size(), 1U);
  Service const& service = config.services[0];
  EXPECT_EQ(service.name, "my_agent");
  EXPECT_EQ(service.handoff, (Handoff{Mechanism::Pipe, 5s}));
  EXPECT_TRUE(service.orchestration.state_handoff.enabled);
  EXPECT_EQ(service.orchestration.state_handoff.timeout, 5s);
  EXPECT_EQ(service.orchestration.soak_time, 0s);
  EXPECT_FALSE(service.listen.has_value());
  std::vector<Listen> const listeners = effective_listeners(service);
  ASSERT_EQ(listeners.size(), 1U);
  EXPECT_EQ(listeners[0].address, ":8080");
  EXPECT_EQ(listeners[0].mode, ListenMode::Steered);
  EXPECT_TRUE(config.warnings.empty());
}

TEST(Seeds, AetherlessPrintsItsSummaryAsTheSeedShowsIt) {
  EXPECT_EQ(validation_summary(load_seed("seed-004-hello.yaml")),
            "✓ Configuration is valid\n"
            "\n"
            "Orchestrator Settings:\n"
            "  SHM Buffer Size:    4194304 bytes\n"
            "  Warm Pool Size:     10\n"
            "  Restore Timeout:    15ms\n"
            "\n"
            "Functions (1):\n"
            "  - hello-api (port: 8080, memory: 128MB, timeout: 30000ms)\n");
}

TEST(Seeds, AetherlessFunctionsSayWhatTheySay) {
  Config const hello = load_seed("seed-004-hello.yaml");
  ASSERT_EQ(hello.functions.size(), 1U);
  EXPECT_TRUE(hello.services.empty());
  EXPECT_EQ(hello.functions[0].handler_path, "/opt/handlers/hello.py");
  EXPECT_EQ(hello.functions[0].environment, (Variables{{"PYTHONUNBUFFERED", "1"}}));

  Config const schema = load_seed("seed-004-schema.yaml");
  EXPECT_EQ(schema.orchestrator, Orchestrator());
  EXPECT_EQ(schema.functions.at(0).id, "my-function");

  EXPECT_EQ(load_seed("seed-004-api.yaml").functions.at(0).environment[0].second,
            "postgres://localhost/mydb");
  EXPECT_EQ(load_seed("seed-004-image-processor.yaml").functions.at(0).memory_limit_mb, 1024);
  EXPECT_EQ(load_seed("seed-004-rust-handler.yaml").functions.at(0).timeout_ms, 10000);

  Config const many = load_seed("seed-004-microservices.yaml");
  EXPECT_EQ(many.orchestrator.warm_pool_size, 20);
  EXPECT_EQ(many.orchestrator.restore_timeout_ms, 10);
  ASSERT_EQ(many.functions.size(), 3U);
  EXPECT_EQ(many.functions[2].id, "notification-service");
  EXPECT_EQ(many.functions[2].trigger_port, 9002);
  EXPECT_EQ(many.functions[2].timeout_ms, 30000);
}

// Every key that Aeterna's own documentation has, in its nesting.
TEST(Seeds, EveryDocumentedKeyOfAeternaIsRead) {
  Config const config = testing::good(R"(
version: "v1"
service:
  name: inference
  command:
    - "/venv/bin/python"
    - "main.py"
  env:
    - "PORT=8080"
  binary_path: /venv/bin/python
orchestration:
  strategy: "canary"
  pre_flight:
    - name: "Dry run"
      command: ["/venv/bin/python", "main.py", "--check"]
      timeout: "5s"
      block_on_fail: false
    - command: [/scripts/check.sh]
  startup: {warmup_delay: "10s"}
  canary:
    enabled: true
    soak_time: "60s"
    health_check:
      http_get: "http://localhost:8080/health"
      interval: "5s"
  drain: {timeout: "45s"}
  post_process:
    on_success:
      - {name: tell, command: ["curl", "x"]}
    on_failure:
      - {name: alarm, command: ["page"]}
  state_handoff: {enabled: true, socket_path: "/run/srp.sock", timeout: "15s"}
observability: {metrics_port: ":9091", log_level: "debug"}
)");
  Orchestration const& orchestration = config.services.at(0).orchestration;
  EXPECT_EQ(orchestration.mode, Mode::Canary);
  EXPECT_EQ(orchestration.soak_time, 60s);
  ASSERT_EQ(orchestration.pre_flight.size(), 2U);
  EXPECT_EQ(orchestration.pre_flight[0].timeout, 5s);
  EXPECT_FALSE(orchestration.pre_flight[0].block_on_fail);
  EXPECT_EQ(orchestration.pre_flight[1], (Hook{"check.sh", {"/scripts/check.sh"}, 30s, true}));
  EXPECT_EQ(orchestration.warmup_delay, 10s);
  EXPECT_EQ(orchestration.drain.timeout, 45s);
  EXPECT_EQ(orchestration.on_success.at(0).name, "tell");
  EXPECT_EQ(orchestration.on_failure.at(0).name, "alarm");
  EXPECT_EQ(orchestration.state_handoff.timeout, 15s);
  EXPECT_EQ(config.services[0].handoff.timeout, 15s);
  ASSERT_TRUE(orchestration.canary.health_check.has_value());
  HealthCheck const& health = *orchestration.canary.health_check;
  EXPECT_EQ(std::get<ProbeHttp>(health.probe).url, "http://localhost:8080/health");
  EXPECT_EQ(health.interval, 5s);
  ASSERT_EQ(config.warnings.size(), 1U);
  EXPECT_EQ(config.warnings[0].line, 10);
  EXPECT_EQ(config.warnings[0].column, 16);
  EXPECT_EQ(config.warnings[0].message,
            "service.binary_path: has no effect; the program is what command names");
}

}  // namespace
}  // namespace aether::config
