// SPDX-License-Identifier: Apache-2.0
#include "jobs/agent_driver.h"

#include <gtest/gtest.h>

#include "jobs/graph_world.h"
#include "jobs/plan_rules.h"
#include "jobs/planner.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;
using testing::GraphWorld;
using testing::parsed;
using testing::says_no;
using testing::says_ok;

constexpr std::string_view kAgent = R"({"name": "clerk", "model": "m", "instructions": "Be short.",
  "max_iterations": 3, "tools": ["clock", {"name": "order", "tool": "http", "policy": "read",
  "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
  "with": {"url": "http://shop/${args.id}"}}]})";

RunSpec agent_spec() {
  RunSpec spec;
  spec.agent = parsed(kAgent);
  spec.input = "Where is order 7?";
  return spec;
}

/// The model asks for `calls` first, and then answers with what the tools said.
EffectSettled ask_then_tell(EffectIntended const& intent, std::string_view calls) {
  if (intent.tool != "llm") return says_ok(intent.args);
  json::array const& messages = intent.args.as_object().at("messages").as_array();
  json::object const& last = messages.back().as_object();
  if (last.at("role") == "user")
    return says_ok(json::object{{"content", ""}, {"tool_calls", parsed(calls)}});
  std::string all;
  for (json::value const& message : messages)
    if (message.at("role") == "tool") all += std::string(message.at("content").as_string()) + "|";
  return says_ok(json::object{{"message", json::object{{"content", all}}}});
}

TEST(AgentDriver, RecordsEachCallOfTheLoopAndEndsWithWords) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    GraphWorld world(agent_spec(), seed);
    world.restart_one_in = 2;
    world.answer = [](EffectIntended const& intent) {
      return ask_then_tell(intent, R"([
        {"id": "1", "type": "function", "function": {"name": "order", "arguments": "{\"id\": 7}"}},
        {"id": "2", "name": "clock", "arguments": {}}])");
    };
    world.run();
    ASSERT_TRUE(world.state.closing.has_value());
    EXPECT_EQ(canonical_json(world.state.closing->output),
              R"({"iterations":2,"text":"{\"url\":\"http://shop/7\"}|{}|"})");
    EXPECT_EQ(world.state.steps.size(), 4U);
    EXPECT_TRUE(world.state.steps.contains("tool.1.2"));
    world.check_replay();
  }
}

TEST(AgentDriver, TellsTheModelOfUnknownToolsWrongArgumentsAndFailures) {
  GraphWorld world(agent_spec());
  world.answer = [](EffectIntended const& intent) {
    if (intent.tool == "clock") return says_no("it stands still");
    return ask_then_tell(intent, R"([{"id": "1", "name": "rm", "arguments": {}},
      {"id": "2", "name": "order", "arguments": {"id": "x"}},
      {"id": "3", "name": "clock", "arguments": {}}])");
  };
  world.run();
  ASSERT_TRUE(world.state.closing.has_value());
  std::string const text = canonical_json(world.state.closing->output);
  EXPECT_NE(text.find("there is no tool"), std::string::npos) << text;
  EXPECT_NE(text.find("/id: must be of type integer"), std::string::npos) << text;
  EXPECT_NE(text.find("it stands still"), std::string::npos) << text;
}

TEST(AgentDriver, FailsAtItsLastIterationAndSaysWhatToDo) {
  GraphWorld world(agent_spec());
  world.answer = [](EffectIntended const& intent) {
    if (intent.tool != "llm") return says_ok("tick");
    return says_ok(parsed(R"({"tool_calls": [{"id": "1", "name": "clock", "arguments": {}}]})"));
  };
  world.run();
  ASSERT_TRUE(world.state.closing.has_value());
  EXPECT_EQ(world.state.closing->outcome, RunOutcome::Failed);
  EXPECT_NE(world.state.closing->error.find("max_iterations"), std::string::npos);
  EXPECT_FALSE(world.state.steps.contains("tool.3.1"));
}

TEST(AgentDriver, RunsAsANodeOfAGraph) {
  RunSpec spec;
  spec.graph = json::object{
      {"nodes",
       json::array{json::object{
           {"id", "ask"}, {"type", "agent"}, {"agent", parsed(kAgent)}, {"with", "${input}"}}}}};
  spec.input = "hello";
  GraphWorld world(spec);
  world.restart_one_in = 2;
  world.answer = [](EffectIntended const& intent) {
    return ask_then_tell(intent, R"([{"id": "1", "name": "clock", "arguments": {}}])");
  };
  world.run();
  ASSERT_TRUE(world.state.closing.has_value()) << world.state.stuck;
  EXPECT_TRUE(world.state.steps.contains("ask/tool.1.1"));
  EXPECT_EQ(canonical_json(world.state.closing->output),
            R"({"ask":{"iterations":2,"text":"{}|"}})");
  world.check_replay();
}

TEST(Planner, PlansByRulesAndRunsThePlan) {
  RunSpec spec;
  spec.goal = "Fetch http://a.example/x, then wait 5 seconds; summarize it";
  GraphWorld world(spec);
  world.restart_one_in = 2;
  world.run();
  ASSERT_TRUE(world.state.closing.has_value()) << world.state.stuck;
  EXPECT_EQ(world.state.closing->outcome, RunOutcome::Succeeded);
  EXPECT_EQ(world.calls, (std::vector<std::string>{"plan/step1", "plan/step3"}));
  EXPECT_TRUE(world.state.waits.contains("plan/step2"));
  world.check_replay();
}

TEST(Planner, AsksTheModelOnceMoreWithTheMistakes) {
  RunSpec spec;
  spec.goal = "Do it";
  spec.agent = parsed(R"({"model": "m"})");
  GraphWorld world(spec);
  world.answer = [](EffectIntended const& intent) {
    auto const& messages = intent.args.as_object().at("messages").as_array();
    if (messages.size() == 2) return says_ok(json::object{{"content", "{\"nodes\": [{}]}"}});
    EXPECT_NE(canonical_json(messages.back()).find("a node needs an id"), std::string::npos);
    return says_ok(json::object{
        {"content", "```json\n{\"nodes\": [{\"id\": \"v\", \"type\": \"value\"}]}\n```"}});
  };
  world.run();
  ASSERT_TRUE(world.state.closing.has_value());
  EXPECT_EQ(world.state.steps.at("plan").result.at("by"), "model");
  EXPECT_TRUE(world.state.steps.contains("plan/v"));
  world.check_replay();
}

TEST(Planner, FallsBackToRulesWhenTheModelGivesNoGraph) {
  RunSpec spec;
  spec.goal = "Approve the trip";
  spec.agent = parsed(R"({"model": "m"})");
  GraphWorld world(spec);
  world.answer = [](EffectIntended const&) { return says_ok(json::object{{"content", "no"}}); };
  world.run();
  ASSERT_TRUE(world.state.closing.has_value());
  EXPECT_EQ(world.state.steps.at("plan").result.at("by"), "rules");
  EXPECT_EQ(world.calls.size(), 2U);
}

TEST(PlanRules, GivesAGraphForAnyWords) {
  for (std::string_view const goal :
       {"", ";;;", "then then then", "${x} $${", "wait", "call function",
        "post http://a/${b} then approve; run the function f\nx"}) {
    auto const graph = parse_graph(plan_by_rules(goal, ""));
    EXPECT_TRUE(graph) << goal << ": " << graph.error().message();
  }
}

}  // namespace
}  // namespace aether::jobs
