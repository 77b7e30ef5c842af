// SPDX-License-Identifier: Apache-2.0
// The several forms in which one thing may be written, and the defaults of what is not.
#include <gtest/gtest.h>

#include "config/testing.h"

namespace aether::config {
namespace {

using namespace std::chrono_literals;
using testing::good;
using testing::mistakes;
using testing::service_with;

std::vector<Listen> listeners(std::string const& lines) {
  return service_with(lines).services.at(0).listen.value();
}

Orchestration orchestration(std::string const& text) {
  return good("service: {command: [\"true\"]}\norchestration: " + text)
      .services.at(0)
      .orchestration;
}

TEST(Forms, ASmallServiceHasTheDefaults) {
  Service expected;
  expected.name = "true";
  expected.command = {"true"};
  EXPECT_EQ(service_with("").services.at(0), expected);
}

TEST(Forms, VersionMayBeTextOrANumber) {
  for (std::string const version : {"\"1.0\"", "v1", "1.0", "1", "\"v1\""}) {
    EXPECT_EQ(mistakes("version: " + version + "\nservice: {command: [\"true\"]}"), "") << version;
  }
}

TEST(Forms, EnvMayBeAListOrAMap) {
  Variables const expected{{"B", "x=y"}, {"A", "1"}, {"C", ""}};
  EXPECT_EQ(service_with("  env: [\"B=x=y\", A=1, C=]\n").services.at(0).env, expected);
  EXPECT_EQ(service_with("  env: {B: x=y, A: 1, C: \"\"}\n").services.at(0).env, expected);
}

TEST(Forms, ListenMayBeAnAddressAMapOrAListOfBoth) {
  Listen const plain{.name = "8080", .address = ":8080"};
  EXPECT_EQ(listeners("  listen: \":8080\"\n"), std::vector{plain});
  EXPECT_EQ(listeners("  listen: 8080\n"),
            (std::vector{Listen{.name = "8080", .address = "8080"}}));
  EXPECT_EQ(listeners("  listen: {address: \":8080\"}\n"), std::vector{plain});
  EXPECT_EQ(listeners("  listen: [\":8080\"]\n"), std::vector{plain});
  std::vector<Listen> const expected{
      {.name = "http", .address = "127.0.0.1:80", .mode = ListenMode::Shared, .backlog = 16},
      plain,
      {.name = "app.sock", .address = "unix:/run/app.sock", .unix_mode = 0660},
      {.name = "bus", .address = "unix:@bus", .mode = ListenMode::Shared},
      {.name = "53", .address = "udp://:53"},
      {.name = "listener-6", .address = "127.0.0.1:0"},
      {.name = "listener-7", .address = "udp://127.0.0.1:8080"},
  };
  EXPECT_EQ(listeners("  listen:\n"
                      "    - {name: http, address: \"127.0.0.1:80\", mode: shared, backlog: 16}\n"
                      "    - \":8080\"\n"
                      "    - {address: \"unix:/run/app.sock\", unix_mode: 0660}\n"
                      "    - unix:@bus\n"
                      "    - udp://:53\n"
                      "    - 127.0.0.1:0\n"
                      "    - udp://127.0.0.1:8080\n"),
            expected);
}

TEST(Forms, SteerBpfIsAMode) {
  EXPECT_EQ(listeners("  listen: {address: \"0.0.0.0:8080\", steer: bpf}\n")[0].mode,
            ListenMode::Bpf);
}

TEST(Forms, ListenNoneIsNotTheSameAsNoListen) {
  Service const none = service_with("  env: [PORT=80]\n  listen: none\n").services.at(0);
  EXPECT_TRUE(none.listen_none());
  EXPECT_TRUE(effective_listeners(none).empty());
  EXPECT_FALSE(service_with("").services.at(0).listen_none());
}

TEST(Forms, APortThatIsNoneIsTold) {
  Config const config = service_with("  env: [PORT=http]\n");
  EXPECT_TRUE(effective_listeners(config.services[0]).empty());
  ASSERT_EQ(config.warnings.size(), 1U);
  EXPECT_EQ(config.warnings[0].line, 3);
}

TEST(Forms, ServicesMayBeSeveralAndHaveAnOrder) {
  Config const config = good(R"(
services:
  - {name: database, command: [db], listen: {address: "unix:/run/db", mode: exclusive}}
  - {name: web, command: [web], after: [database], orchestration: {mode: immediate}}
orchestration: {soak_time: 7s, state_handoff: true}
handoff: {mechanism: shm}
)");
  ASSERT_EQ(config.services.size(), 2U);
  EXPECT_EQ(config.services[0].orchestration.soak_time, 7s);
  EXPECT_TRUE(config.services[0].orchestration.state_handoff.enabled);
  EXPECT_EQ(config.services[1].after, std::vector<std::string>{"database"});
  EXPECT_EQ(config.services[1].orchestration.mode, Mode::Immediate);
  EXPECT_EQ(config.services[1].handoff.mechanism, Mechanism::Shm);
}

TEST(Forms, ServicesOwnHandoffTakesThePlaceOfTheFiles) {
  Config const config =
      good("service: {command: [a], handoff: {timeout: 1s}}\nhandoff: {mechanism: shm}\n");
  EXPECT_EQ(config.services.at(0).handoff, (Handoff{Mechanism::Pipe, 1s}));
}

TEST(Forms, RestartMayBeAWordOrAMap) {
  EXPECT_EQ(service_with("  restart: always\n").services[0].restart.policy, RestartPolicy::Always);
  EXPECT_EQ(service_with("  restart: \"no\"\n").services[0].restart.policy, RestartPolicy::Never);
  Restart const expected{RestartPolicy::Never, 1s, 2s, 7, 3min};
  EXPECT_EQ(service_with("  restart: {policy: never, backoff: {min: 1s, max: 2s}, "
                         "crash_loop: {count: 7, window: 3m}}\n")
                .services[0]
                .restart,
            expected);
}

TEST(Forms, ReadyMayBeAWordOrAMap) {
  auto const ready = [](std::string const& text) {
    return service_with("  listen: \":80\"\n  ready: " + text).services.at(0).ready;
  };
  EXPECT_EQ(ready("auto"), Ready(ReadyAuto{}));
  EXPECT_EQ(ready("notify"), Ready(ReadyNotify{}));
  EXPECT_EQ(ready("port"), Ready(ReadyListening{}));
  EXPECT_EQ(ready("{when: listening}"), Ready(ReadyListening{}));
  EXPECT_EQ(ready("{http: /health}"), Ready(ReadyHttp{"/health"}));
  EXPECT_EQ(ready("{http: \"http://[::1]:80/x\"}"), Ready(ReadyHttp{"http://[::1]:80/x"}));
  EXPECT_EQ(ready("{tcp: \"127.0.0.1:80\"}"), Ready(ReadyTcp{"127.0.0.1:80"}));
  EXPECT_EQ(ready("{command: [a, b]}"), Ready(ReadyCommand{{"a", "b"}}));
  EXPECT_EQ(ready("{delay: 2s}"), Ready(ReadyDelay{2s}));
  EXPECT_EQ(ready("{unix: /run/x.sock}"), Ready(ReadyTcp{"unix:/run/x.sock"}));
  EXPECT_EQ(ready("{fd: 7}"), Ready(ReadyFd{7}));
  EXPECT_EQ(ready("{log: \"(ready|up)$\"}"), Ready(ReadyLog{"(ready|up)$"}));
  Service const patient = service_with("  ready: {timeout: 5m}\n").services.at(0);
  EXPECT_EQ(patient.ready, Ready(ReadyAuto{}));
  EXPECT_EQ(patient.ready_timeout, 5min);
}

TEST(Forms, TheOtherKeysOfAService) {
  Service const service = service_with(R"(  workdir: /srv
  user: "www:1000"
  limits: {memory: 512MB, cpu: 0.5, processes: 64, open_files: 1024, core_size: 0}
  stop_signal: INT
  stop_timeout: 1m
  compat: [nginx]
  watchdog: 2s
  notify_access: main
  fd_store: 0
  pid_file: /run/x.pid
)")
                              .services.at(0);
  EXPECT_EQ(service.workdir, "/srv");
  EXPECT_EQ(service.user, "www:1000");
  EXPECT_EQ(service.limits, (Limits{512'000'000, 0.5, 64, 1024, 0}));
  EXPECT_EQ(service.stop_signal, 2);
  EXPECT_EQ(service.stop_timeout, 1min);
  EXPECT_EQ(service.compat, std::vector{Compat::Nginx});
  EXPECT_EQ(service.watchdog, 2s);
  EXPECT_EQ(service.notify_access, NotifyAccess::Main);
  EXPECT_EQ(service.fd_store, 0);
  EXPECT_EQ(service.pid_file, "/run/x.pid");
  EXPECT_EQ(service_with("  stop_signal: 34\n").services[0].stop_signal, 34);
  EXPECT_EQ(service_with("  stop_signal: SIGQUIT\n").services[0].stop_signal, 3);
}

TEST(Forms, StateHandoffMayBeABoolOrAMap) {
  EXPECT_TRUE(orchestration("{state_handoff: true}").state_handoff.enabled);
  EXPECT_FALSE(orchestration("{state_handoff: false}").state_handoff.enabled);
  EXPECT_FALSE(orchestration("{state_handoff: {enabled: false}}").state_handoff.enabled);
  StateHandoff const expected{.enabled = true,
                              .timeout = 2s,
                              .connections = true,
                              .on_handoff_failure = OnHandoffFailure::Continue,
                              .check = true};
  EXPECT_EQ(orchestration(
                "{state_handoff: {timeout: 2s, connections: true, on_handoff_failure: continue, "
                "check: true}}")
                .state_handoff,
            expected);
}

TEST(Forms, AHandoffSectionTurnsTheStateHandoffOnUnlessItIsOff) {
  EXPECT_FALSE(service_with("").services[0].orchestration.state_handoff.enabled);
  EXPECT_TRUE(
      service_with("handoff: {mechanism: shm}\n").services[0].orchestration.state_handoff.enabled);
  Config const off =
      service_with("handoff: {mechanism: shm}\norchestration: {state_handoff: false}\n");
  EXPECT_FALSE(off.services[0].orchestration.state_handoff.enabled);
  EXPECT_EQ(off.warnings.size(), 1U);
}

TEST(Forms, SoakTimeIsThirtySecondsOnceTheFileAsksForASwapThatSoaks) {
  EXPECT_EQ(orchestration("{drain: {timeout: 1s}}").soak_time, 0s);
  EXPECT_EQ(orchestration("{mode: hot-relay}").soak_time, 30s);
  EXPECT_EQ(orchestration("{strategy: canary}").soak_time, 30s);
  EXPECT_EQ(orchestration("{canary: {enabled: true}}").soak_time, 30s);
  EXPECT_EQ(orchestration("{canary: {soak_time: 5s}}").soak_time, 5s);
  EXPECT_EQ(orchestration("{mode: canary, soak_time: 0s}").soak_time, 0s);
  EXPECT_EQ(orchestration("{mode: canary, soak_time: 0}").soak_time, 0s);
  EXPECT_EQ(orchestration("{soak_time: 5s, canary: {soak_time: 5s}}").soak_time, 5s);
  EXPECT_EQ(orchestration("{mode: hot-relay, canary: {enabled: false}}").soak_time, 0s);
  EXPECT_EQ(orchestration("{canary: {enabled: false, soak_time: 5s}}").soak_time, 0s);
  EXPECT_EQ(orchestration("{soak_time: 5s, canary: {enabled: false}}").soak_time, 5s);
  EXPECT_EQ(orchestration("{mode: immediate, soak_time: 5s}").soak_time, 0s);
  EXPECT_EQ(orchestration("{mode: run}").soak_time, 0s);
}

TEST(Forms, ACanaryHasAWeightThatMayGrowInSteps) {
  auto const canary = [](std::string const& text) {
    return good("service: {command: [a], listen: \":80\"}\norchestration: {canary: " + text + "}")
        .services.at(0)
        .orchestration.canary;
  };
  EXPECT_EQ(canary("{weight: 10}").weight, 10);
  EXPECT_EQ(canary("{weight: 10}").stick, Stick::None);
  Canary const grown = canary(
      "{weight: 5, steps: [{after: 5s, weight: 25}, {after: 10s, weight: 50}], "
      "stick: source}");
  EXPECT_EQ(grown.weight, 5);
  EXPECT_EQ(grown.steps, (std::vector<CanaryStep>{{5s, 25}, {10s, 50}}));
  EXPECT_EQ(grown.stick, Stick::Source);
  EXPECT_EQ(canary("{enabled: false, weight: 10}").weight, 100);
}

TEST(Forms, WhatIsNeededOfTheKernelIsListedWithItsPlace) {
  Config const config = service_with("  listen: [\":80\", {address: \":81\", steer: bpf}]\n");
  ASSERT_EQ(config.kernel_needs.size(), 1U);
  EXPECT_EQ(config.kernel_needs[0].kind, KernelNeed::Kind::BindSteering);
  EXPECT_EQ(config.kernel_needs[0].line, 3);
  EXPECT_EQ(config.kernel_needs[0].column, 19);
  EXPECT_NE(config.kernel_needs[0].what.find("steer: bpf on :81"), std::string::npos);
  EXPECT_TRUE(service_with("  listen: \":80\"\n").kernel_needs.empty());
}

TEST(Forms, HealthChecksHaveThreeWays) {
  auto const probe = [](std::string const& text) {
    return good(
               "service: {command: [a], listen: \":80\"}\norchestration: {canary: {health_check: "
               "{" +
               text + "}}}")
        .services.at(0)
        .orchestration.canary.health_check.value();
  };
  EXPECT_EQ(std::get<ProbeHttp>(probe("http_get: /x").probe).url, "/x");
  EXPECT_EQ(std::get<ProbeTcp>(probe("tcp: \"unix:/x\"").probe).address, "unix:/x");
  HealthCheck const whole{ProbeCommand{{"c"}}, 2s, 3s, 4};
  EXPECT_EQ(probe("command: [c], interval: 2s, timeout: 3s, threshold: 4"), whole);
}

TEST(Forms, MetricsPortMayBeAnAddressANumberOrNone) {
  auto const metrics = [](std::string const& text) {
    return good("service: {command: [a]}\nobservability: {metrics_port: " + text + "}")
        .observability;
  };
  EXPECT_EQ(metrics("\":9091\"").metrics_address, ":9091");
  EXPECT_EQ(metrics("9091").metrics_address, ":9091");
  EXPECT_EQ(metrics("\"127.0.0.1:9091\"").metrics_address, "127.0.0.1:9091");
  EXPECT_EQ(metrics("none").metrics_address, std::nullopt);
  EXPECT_TRUE(metrics("none").metrics_given);
}

TEST(Forms, DefaultMetricsGiveWayToAService) {
  Config const config = service_with("  listen: \":9090\"\n");
  EXPECT_EQ(config.observability.metrics_address, std::nullopt);
  ASSERT_EQ(config.warnings.size(), 1U);
  EXPECT_NE(config.warnings[0].message.find("observability.metrics_port"), std::string::npos);
}

TEST(Forms, AddressesOfTwoFamiliesDoNotCollide) {
  EXPECT_EQ(mistakes("service: {command: [a], listen: [\"127.0.0.1:80\", \"[::1]:80\"]}"), "");
  EXPECT_EQ(mistakes("service: {command: [a], listen: [\":80\", \"udp://:80\"]}"), "");
  EXPECT_EQ(mistakes("service: {command: [a], listen: [\"127.0.0.1:0\", \"127.0.0.1:0\"]}"), "");
  EXPECT_EQ(mistakes("service: {command: [a], listen: [\"0.0.0.0:80\", {address: \"[::]:80\", "
                     "v6_only: true}]}"),
            "");
  EXPECT_NE(mistakes("service: {command: [a], listen: [\"0.0.0.0:80\", \"[::]:80\"]}"), "");
  EXPECT_NE(mistakes("service: {command: [a], listen: [\"unix:@x\", \"unix:@x\"]}"), "");
}

TEST(Forms, ApiStoreAndJobs) {
  Config const config = service_with(
      "api: {host: \"::1\", port: 7000}\nstore: {type: postgres, path: \"postgres://db\"}\n"
      "jobs: {concurrency: 5, lease: 1m}\n");
  EXPECT_EQ(config.api, (Api{"::1", 7000}));
  EXPECT_EQ(config.store, (Store{StoreType::Postgres, "postgres://db"}));
  EXPECT_EQ(config.jobs, (Jobs{.enabled = true, .concurrency = 5, .lease = 1min}));
  EXPECT_TRUE(config.warnings.empty());
  EXPECT_EQ(service_with("api: {host: localhost}\n").api, (Api{"127.0.0.1", std::nullopt}));
}

TEST(Forms, FunctionsTakeOurKeysAndBothFormsOfTheirEnvironment) {
  Function const function = good(R"(
functions:
  - id: a
    memory_limit_mb: 16384
    cpu: 0.5
    processes: 64
    trigger_port: 65535
    handler_path: handlers/a.py
    timeout_ms: 900000
    environment: [A=b]
    concurrency: 80
    min_instances: 1
    max_instances: 2
    parked: 0
    idle_timeout: 5m
    warmup: [/, /x]
    launch: clone
    sandbox: strict
    pid_namespace: true
    ipc: ring
orchestrator:
  shm_buffer_size: 64KiB
  ebpf: {enabled: true, interface: eth0, mode: native, xdp_program: x}
  port: 1
)")
                                .functions.at(0);
  EXPECT_EQ(function.cpu, 0.5);
  EXPECT_EQ(function.processes, 64U);
  EXPECT_EQ(function.environment, (Variables{{"A", "b"}}));
  EXPECT_EQ(function.route, Route::Gateway);
  EXPECT_EQ(function.concurrency, 80);
  EXPECT_EQ(function.parked, 0);
  EXPECT_EQ(function.idle_timeout, 5min);
  EXPECT_EQ(function.warmup, (std::vector<std::string>{"/", "/x"}));
  EXPECT_EQ(function.launch, Launch::Clone);
  EXPECT_EQ(function.sandbox, Sandbox::Strict);
  EXPECT_TRUE(function.pid_namespace);
  EXPECT_EQ(function.ipc, Ipc::Ring);
}

TEST(Forms, AnchorsAliasesAndMergeKeysWork) {
  Config const config = good(R"(
services:
  - &base
    name: a
    command: &run ["x", "y"]
    env: &env {A: "1", B: "2"}
    restart: always
  - <<: *base
    name: b
    env: {<<: *env, B: "3"}
  - {name: c, command: *run, <<: [{restart: never}, *base]}
)");
  ASSERT_EQ(config.services.size(), 3U);
  EXPECT_EQ(config.services[1].command, (Command{"x", "y"}));
  EXPECT_EQ(config.services[1].env, (Variables{{"B", "3"}, {"A", "1"}}));
  EXPECT_EQ(config.services[1].restart.policy, RestartPolicy::Always);
  EXPECT_EQ(config.services[2].restart.policy, RestartPolicy::Never);
}

TEST(Forms, VariablesExpandInValues) {
  Config const config = good(R"(
service:
  name: s${A}
  command: ["sh", "-c", "echo $HOME $$ $${HOME} ${A}${A} ${NOBODY:-no body} ${EMPTY:-default} 5$"]
  listen: "${HOST}:80${A}"
  env: ["X=${EMPTY}"]
)");
  Service const& service = config.services.at(0);
  EXPECT_EQ(service.name, "s1");
  EXPECT_EQ(service.command[2], "echo $HOME $ ${HOME} 11 no body default 5$");
  EXPECT_EQ(service.listen.value()[0].address, "127.0.0.1:801");
  EXPECT_EQ(service.env, (Variables{{"X", ""}}));
}

TEST(Forms, ANameIsTakenFromTheProgramOrItsScript) {
  auto const name = [](std::string const& command) {
    return good("service: {command: [" + command + "]}").services.at(0).name;
  };
  EXPECT_EQ(name("python3, my_agent.py"), "my_agent");
  EXPECT_EQ(name("/venv/bin/python3.11, -u, src/agent.v2.py, --port"), "agent.v2");
  EXPECT_EQ(name("python, -m, http.server"), "http");
  EXPECT_EQ(name("./bin/server, --x"), "server");
  EXPECT_EQ(name("env, A=1, node, --inspect, app.js"), "app");
  EXPECT_EQ(name("sh, -c, \"exec ./x\""), "sh");
  EXPECT_EQ(name("uv, run, main.py"), "main");
  EXPECT_EQ(name("\"./my app\""), "my-app");
  EXPECT_EQ(name("/opt/.hidden"), "hidden");
  EXPECT_EQ(name("\"é\""), "service");
}

TEST(Forms, RelativePathsAreTakenFromTheFilesFolder) {
  auto const config = parse("service: {command: [a], workdir: ../app}\n", "/etc/aether/x.yaml", {});
  EXPECT_EQ(config.value().services[0].workdir, "/etc/app");
  auto const bare = parse("service: {command: [a], workdir: app}\n", "x.yaml", {});
  EXPECT_EQ(bare.value().services[0].workdir, "app");
}

}  // namespace
}  // namespace aether::config
