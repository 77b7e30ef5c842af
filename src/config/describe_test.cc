// SPDX-License-Identifier: Apache-2.0
#include <set>

#include <gtest/gtest.h>

#include "config/schema.h"
#include "config/suggest.h"
#include "config/testing.h"

namespace aether::config {
namespace {

TEST(Suggest, FindsTheWordThatWasMeant) {
  constexpr std::array<std::string_view, 6> known{"command",   "env",         "listen",
                                                  "soak_time", "stop_signal", "stop_timeout"};
  EXPECT_EQ(nearest("comand", known), "command");
  EXPECT_EQ(nearest("commnad", known), "command");
  EXPECT_EQ(nearest("Command", known), "command");
  EXPECT_EQ(nearest("commands", known), "command");
  EXPECT_EQ(nearest("soakTime", known), "soak_time");
  EXPECT_EQ(nearest("soak-time", known), "soak_time");
  EXPECT_EQ(nearest("stop_timout", known), "stop_timeout");
  EXPECT_EQ(nearest("environment", known), "env");
  EXPECT_EQ(nearest("listener", known), "listen");
  EXPECT_EQ(nearest("colour", known), std::nullopt);
  EXPECT_EQ(nearest("", known), std::nullopt);
  EXPECT_EQ(nearest(std::string(100000, 'x'), known), std::nullopt);
  EXPECT_EQ(nearest("x", {}), std::nullopt);
}

TEST(Summary, ListsServices) {
  Config const config = testing::good(R"(
services:
  - {name: web, command: [a], listen: [":80", "unix:/run/web"]}
  - {name: worker, command: [b], listen: none, orchestration: {mode: canary, state_handoff: true}}
  - {name: sdk, command: [c], orchestration: {mode: run}}
handoff: {mechanism: shm}
)");
  EXPECT_EQ(validation_summary(config),
            "✓ Configuration is valid\n"
            "\n"
            "Services (3):\n"
            "  - web (listen: :80 unix:/run/web, mode: hot-relay, soak: 0s, handoff: shm)\n"
            "  - worker (listen: none, mode: canary, soak: 30s, handoff: shm)\n"
            "  - sdk (listen: asked for at run time, mode: run, soak: 0s, handoff: shm)\n");
}

TEST(Summary, ListsFunctionsBeforeServices) {
  std::string const text =
      validation_summary(testing::good(testing::read_testdata("seed-004-hello.yaml") +
                                       "service: {command: [a], listen: \":80\"}\n"));
  EXPECT_LT(text.find("Functions (1):"), text.find("\n\nServices (1):"));
}

TEST(NotInThisRelease, NamesWhatIsReadButCannotBeDone) {
  Config const config = testing::good(R"(
service:
  name: web
  command: [a]
  orchestration: {state_handoff: {connections: true}}
  handoff: {mechanism: vault}
functions: [{id: f, memory_limit_mb: 1, trigger_port: 81, handler_path: /h, launch: image}]
orchestrator: {ebpf: {enabled: true, interface: lo}}
)");
  std::vector<std::string> const expected{"service \"web\": handoff.mechanism: vault",
                                          "service \"web\": state_handoff.connections: true"};
  EXPECT_EQ(not_in_this_release(config), expected);
  EXPECT_TRUE(not_in_this_release(testing::service_with("handoff: {mechanism: shm}\n")).empty());
}

TEST(Reference, HasEveryKeyOfTheSchemaOnceInItsSection) {
  std::string const text = reference_markdown();
  std::set<std::string_view> paths;
  for (Section const& section : all_sections()) {
    EXPECT_TRUE(paths.insert(section.path).second) << section.path;
    std::set<std::string_view> keys;
    for (Row const& row : section.rows) {
      EXPECT_TRUE(keys.insert(row.key).second) << section.path << "." << row.key;
      EXPECT_NE(text.find(std::string("| `") + std::string(row.key) + "` |"), std::string::npos)
          << row.key;
    }
  }
  // Those that the contracts name.
  for (std::string_view const key :
       {"service", "services", "orchestration", "handoff", "observability", "orchestrator",
        "functions", "mechanism", "metrics_port", "shm_buffer_size", "trigger_port"}) {
    EXPECT_NE(text.find("`" + std::string(key) + "`"), std::string::npos) << key;
  }
}

TEST(Reference, HasTablesOfFourColumns) {
  std::istringstream lines(reference_markdown());
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with('|')) continue;
    std::size_t bars = 0;
    for (std::size_t i = 0; i < line.size(); ++i)
      bars += line[i] == '|' && (i == 0 || line[i - 1] != '\\');
    EXPECT_EQ(bars, 5U) << line;
  }
}

TEST(Reference, ItsExampleIsValid) {
  std::string const text = reference_markdown();
  std::size_t const begin = text.find("```yaml\n") + 8;
  EXPECT_EQ(testing::mistakes(text.substr(begin, text.find("```", begin) - begin)), "");
}

TEST(ProbeUrl, PutsAPathOnThePortOfThisMachine) {
  EXPECT_EQ(probe_url("/health", 8080), "http://127.0.0.1:8080/health");
  EXPECT_EQ(probe_url("http://x:1/y", 8080), "http://x:1/y");
}

TEST(ProcessEnvironment, HasTheVariablesOfThisProcess) {
  ::setenv("AETHER_CONFIG_TEST", "a=b", 1);
  EXPECT_EQ(process_environment().at("AETHER_CONFIG_TEST"), "a=b");
  ::unsetenv("AETHER_CONFIG_TEST");
}

}  // namespace
}  // namespace aether::config
