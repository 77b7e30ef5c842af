// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "config/testing.h"

namespace aether::config {
namespace {

using namespace std::chrono_literals;
using testing::good;
using testing::mistakes;

TEST(JobForms, AFileWithJobsAloneIsWhole) {
  Config const config = good(R"(
store: {path: jobs.db}
api: {port: 0}
tools:
  pay: {type: http, base_url: "http://127.0.0.1:9/", policy: lookup, lookup_url: "http://x/{key}"}
  run:
    type: process
    command: [cat]
    timeout: 5s
agents:
  - name: clerk
    instructions: "Answer ${args.name}"
    tools: [pay, {name: ask, tool: http}]
schedules:
  - name: nightly
    every: 1d
    job: {goal: "tidy up", priority: 5, input: {n: 1.5, s: "2", t: true}}
)");
  EXPECT_TRUE(config.jobs.enabled);
  ASSERT_EQ(config.tools.size(), 2U);
  EXPECT_EQ(config.tools[0].policy, ToolPolicy::Lookup);
  EXPECT_EQ(config.tools[1].timeout, 5s);
  ASSERT_EQ(config.agents.size(), 1U);
  EXPECT_EQ(config.agents[0].tools, (std::vector<std::string>{"pay", "http"}));
  EXPECT_EQ(config.agents[0].declaration_json,
            R"({"name":"clerk","instructions":"Answer ${args.name}","tools":["pay",)"
            R"({"name":"ask","tool":"http"}]})");
  ASSERT_EQ(config.schedules.size(), 1U);
  EXPECT_EQ(config.schedules[0].job_json,
            R"({"goal":"tidy up","priority":5,"input":{"n":1.5,"s":"2","t":true}})");
  EXPECT_TRUE(good("api: {port: 0}").jobs.enabled);
  EXPECT_FALSE(good("service: {command: [a]}\napi: {port: 0}").jobs.enabled);
}

TEST(JobForms, AnAgentWithACommandIsAServiceOfItsName) {
  Config const config = good(R"(
agents:
  - {name: coder, command: [python3, agent.py], env: {A: b}}
  - {name: elsewhere, code: true}
)");
  ASSERT_EQ(config.agents.size(), 2U);
  EXPECT_EQ(config.agents[0].declaration_json, R"({"code":true,"name":"coder"})");
  EXPECT_TRUE(config.agents[1].is_code);
  ASSERT_EQ(config.services.size(), 1U);
  EXPECT_EQ(config.services[0].name, "coder");
  EXPECT_TRUE(config.services[0].is_worker);
  EXPECT_TRUE(config.services[0].listen_none());
  EXPECT_EQ(config.services[0].ready, Ready(ReadyNotify{}));
  EXPECT_TRUE(mistakes("agents: [{name: a, command: [x], model: m}]").contains("model"));
  EXPECT_TRUE(mistakes("service: {name: a, command: [x]}\nagents: [{name: a, command: [y]}]")
                  .contains("a service of that name"));
}

}  // namespace
}  // namespace aether::config
