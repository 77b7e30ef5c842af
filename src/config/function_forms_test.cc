// SPDX-License-Identifier: Apache-2.0
// How functions[] may be written: routes, readiness, starts that fail.
#include <gtest/gtest.h>

#include "config/testing.h"

namespace aether::config {
namespace {

using namespace std::chrono_literals;
using testing::good;

std::string function_with(std::string const& keys) {
  return "functions: [{id: f, memory_limit_mb: 1, trigger_port: 81, handler_path: /h, " + keys +
         "}]";
}

TEST(FunctionForms, AHandlerShowsThatItIsReadyInOneOfThreeWays) {
  auto const ready = [](std::string const& keys) {
    return good(function_with(keys)).functions.at(0).ready;
  };
  EXPECT_EQ(ready("cpu: 1"), FunctionReady(ReadyNotify{}));
  EXPECT_EQ(ready("ready: notify"), FunctionReady(ReadyNotify{}));
  EXPECT_EQ(ready("ready: port"), FunctionReady(ReadyListening{}));
  EXPECT_EQ(ready("ready: {when: listening}"), FunctionReady(ReadyListening{}));
  EXPECT_EQ(ready("ready: {http: /up}"), FunctionReady(ReadyHttp{"/up"}));
}

TEST(FunctionForms, ADirectRouteHasOneInstanceOrAsManyAsAreAlwaysThere) {
  Function const one = good(function_with("route: direct")).functions.at(0);
  EXPECT_EQ(one.route, Route::Direct);
  EXPECT_EQ(one.max_instances, 1);
  EXPECT_EQ(good(function_with("route: direct, min_instances: 3")).functions.at(0).max_instances,
            3);
}

TEST(FunctionForms, ADirectRouteToInstancesThatBindThePortHasAsManyAsIsSaid) {
  Function const one = good(function_with("route: direct, bind: documented")).functions.at(0);
  EXPECT_EQ(one.bind, Bind::Documented);
  EXPECT_EQ(one.max_instances, 10);
  Function const other =
      good(function_with("route: direct, bind: documented, max_instances: 3")).functions.at(0);
  EXPECT_EQ(other.max_instances, 3);
}

TEST(FunctionForms, WhatTheKernelMustDoIsAskedForWithItsPlaceInTheFile) {
  EXPECT_TRUE(good(function_with("bind: auto, route: direct")).kernel_needs.empty());
  Config const config = good(function_with("bind: documented") +
                             "\norchestrator:\n  ebpf: {interface: lo, enabled: true}\n");
  std::vector<KernelNeed> const expected{
      {.kind = KernelNeed::Kind::BindSteering,
       .line = 1,
       .column = 83,
       .what = "function \"f\": bind: documented"},
      {.kind = KernelNeed::Kind::Xdp, .line = 3, .column = 34, .what = "orchestrator.ebpf"}};
  EXPECT_EQ(config.kernel_needs, expected);
}

TEST(FunctionForms, ABurstOfPacketsIsTheRateUnlessItIsSaid) {
  auto const ebpf = [](std::string const& rest) {
    return good(function_with("cpu: 1") + "\norchestrator: {ebpf: {" + rest + "}}\n")
        .orchestrator.ebpf;
  };
  EXPECT_EQ(ebpf("enabled: true, interface: lo").rate, 0U);
  EXPECT_EQ(ebpf("enabled: true, interface: lo, rate: 100").burst, 100U);
  EXPECT_EQ(ebpf("enabled: true, interface: lo, rate: 100, burst: 7").burst, 7U);
}

TEST(FunctionForms, StartsThatFailFollowTheRulesOfTheFile) {
  Function const function = good(function_with("ready: {http: /up, timeout: 5s}, "
                                               "restart: {backoff: {min: 1s, max: 2s}, "
                                               "crash_loop: {count: 3, window: 10s}}"))
                                .functions.at(0);
  EXPECT_EQ(function.ready_timeout, 5s);
  EXPECT_EQ(
      function.restart,
      (FunctionRestart{
          .backoff_min = 1s, .backoff_max = 2s, .crash_loop_count = 3, .crash_loop_window = 10s}));
  EXPECT_EQ(good(function_with("on_restore_failure: fail")).functions.at(0).on_restore_failure,
            RestoreFailure::Fail);
}

}  // namespace
}  // namespace aether::config
