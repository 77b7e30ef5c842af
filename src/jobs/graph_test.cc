// SPDX-License-Identifier: Apache-2.0
#include "jobs/graph.h"

#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "jobs/condition.h"
#include "jobs/driver.h"
#include "jobs/expand.h"
#include "jobs/graph_text.h"
#include "jobs/json_form.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

std::string mistakes_of(std::string_view text) {
  auto const loaded = load_graph_text(text, "g");
  return loaded ? std::string() : loaded.error().message();
}

json::value value_in(std::string_view text) {
  return or_throw(parse_json(text, "test"));
}

TEST(GraphText, TellsEveryMistakeAtOnceWithItsPlace) {
  EXPECT_EQ(mistakes_of(R"(nodes:
  - id: a
    type: tol
  - id: b
    tool: http
    afer: [a]
    after: [aa]
    with: {url: "${c.x}"}
  - id: b
    type: wait
    with: {for: 5}
)"),
            R"(g:3:11: "tol" is not one of tool, llm, wait, approval, condition, workflow, agent, )"
            R"(function, value; did you mean "tool"?
g:6:5: a node has no member "afer"; did you mean "after"?
g:7:13: there is no node "aa"; did you mean "a"?
g:8:17: there is no node "c"; did you mean "a"?
g:9:9: the id "b" is given twice; first to /nodes/1
g:11:17: for must be a duration with its unit: 500ms, 30s, 1h)");
}

TEST(GraphText, TellsPlacesInJson) {
  EXPECT_EQ(
      mistakes_of("{\"nodes\": [\n  {\"id\": \"a\", \"type\": \"value\",\n   \"retry\": 1}]}"),
      "g:3:4: a node of type value takes no \"retry\"\ng:3:13: retry must be an object with "
      "members");
  EXPECT_EQ(mistakes_of("{\"nodes\": [],\n \"nodes\": []}"),
            "g:2:2: the key \"nodes\" is given twice");
  EXPECT_EQ(mistakes_of("{\"nodes\": [}"), mistakes_of("{\"nodes\": [}"));
}

TEST(GraphText, ReadsScalarsOfYamlAsValues) {
  auto const read = read_graph_text("a: 1\nb: '1'\nc: true\nd: 1.5\ne: 007\nf: ~\ng: yes\n", "g");
  ASSERT_TRUE(read);
  EXPECT_EQ(canonical_json(read->value),
            R"({"a":1,"b":"1","c":true,"d":1.5,"e":"007","f":null,"g":"yes"})");
}

TEST(GraphText, WritesOutNoAliasBomb) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 8; ++i) {
    std::string const before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 8; ++j) text += (j == 0 ? "" : ", ") + before;
    text += "]\n";
  }
  EXPECT_EQ(mistakes_of(text), "g: more than 100000 values; the graph is too large");
}

TEST(Graph, NamesTheNodesOfACircle) {
  EXPECT_EQ(mistakes_of(R"(nodes:
  - {id: a, type: value, after: [c]}
  - {id: b, type: value, after: [a]}
  - {id: c, type: value, after: [b]}
)"),
            "g:2:5: these nodes wait for each other in a circle: a -> b -> c -> a");
  EXPECT_EQ(mistakes_of("nodes: [{id: a, type: value, with: \"${a.x}\"}]"),
            "g:1:9: these nodes wait for each other in a circle: a -> a");
}

TEST(Graph, WaitsForWhatItReads) {
  auto const graph = parse_graph(value_in(
      R"({"nodes": [{"id": "b", "type": "value", "with": "${a}"},
                    {"id": "a", "type": "value"}]})"));
  ASSERT_TRUE(graph);
  EXPECT_EQ(graph->order, (std::vector<std::size_t>{1, 0}));
  EXPECT_FALSE(graph->nodes[1].is_leaf);
}

TEST(Graph, ChecksTheGraphsOfWorkflowsToo) {
  auto const graph = parse_graph(value_in(R"({"nodes": [{"id": "w", "type": "workflow",
    "graph": {"nodes": [{"id": "x", "type": "tool"}]}}]})"));
  ASSERT_FALSE(graph);
  EXPECT_EQ(graph.error().message(),
            "/nodes/0/graph/nodes/0/tool: a node of type tool names its tool: http, process, ...");
}

TEST(Graph, WritesOutAgentsThatAreNamed) {
  auto const graph =
      with_agents(value_in(R"({"nodes": [{"id": "a", "type": "agent", "agent": "clerk"}]})"),
                  [](std::string_view name) { return json::object{{"name", json::string(name)}}; });
  EXPECT_EQ(canonical_json(graph),
            R"({"nodes":[{"agent":{"name":"clerk"},"id":"a","type":"agent"}]})");
}

TEST(MakeDriver, RefusesAnAgentThatNobodyKnowsAndJobsWithoutOneThingToDo) {
  RunOpened opening;
  auto const message = [&] {
    auto const driver = make_driver(opening);
    return driver ? std::string() : driver.error().message();
  };
  EXPECT_NE(message().find("a job needs something to do"), std::string::npos);
  opening.spec.graph = value_in(R"({"nodes": [{"id": "a", "type": "agent", "agent": "clerk"}]})");
  EXPECT_EQ(message(), "/nodes/0/agent: there is no agent \"clerk\" in the configuration");
  opening.spec.graph = value_in(R"({"nodes": [{"id": "a", "type": "value"}]})");
  EXPECT_EQ(message(), "");
  opening.spec.goal = "sleep";
  EXPECT_NE(message().find("one of graph, agent and goal"), std::string::npos);
}

TEST(Graph, DelaysGrowUpToTheirMaximum) {
  Retry const retry{9, std::chrono::seconds(1), std::chrono::seconds(5)};
  EXPECT_EQ(retry.delay_after(1), std::chrono::seconds(1));
  EXPECT_EQ(retry.delay_after(3), std::chrono::seconds(4));
  EXPECT_EQ(retry.delay_after(1000), std::chrono::seconds(5));
}

TEST(Graph, ReadsEveryExample) {
  for (std::string_view const name : {"fetch.yaml", "order.yaml", "review.yaml", "plan.json"}) {
    std::ifstream file(std::string(AETHER_EXAMPLES) + "/" + std::string(name));
    ASSERT_TRUE(file) << name;
    std::ostringstream text;
    text << file.rdbuf();
    auto const loaded = load_graph_text(text.str(), name);
    EXPECT_TRUE(loaded) << loaded.error().message();
  }
}

class Expanding : public ::testing::Test {
 protected:
  json::value a = value_in(R"({"n": 1, "list": [{"x": "y"}], "odd name": true, "none": null})");
  Scope scope = [this](std::string_view head) { return head == "a" ? &a : nullptr; };
  std::string result_of(std::string_view text) {
    auto const expanded = expand(json::value(json::string(text)), scope);
    return expanded ? canonical_json(*expanded) : expanded.error().message();
  }
};

TEST_F(Expanding, KeepsTheTypeOfALoneReference) {
  EXPECT_EQ(result_of("${a.n}"), "1");
  EXPECT_EQ(result_of("n=${a.n}"), R"("n=1")");
  EXPECT_EQ(result_of("${a.list.0.x} ${a.list[0]}"), R"x("y {\"x\":\"y\"}")x");
  EXPECT_EQ(result_of("${a[\"odd name\"]}"), "true");
  EXPECT_EQ(result_of("$${a.n} costs $5"), R"("${a.n} costs $5")");
  EXPECT_EQ(result_of("${a.gone:-else}"), R"("else")");
  EXPECT_EQ(result_of("${a.none.of.it}"), "null");
}

TEST_F(Expanding, SaysWhatIsWrongWithAReference) {
  EXPECT_EQ(result_of("${a.m}"), "${a.m}: a has no member \"m\" (it has list, n, none, odd name)");
  EXPECT_NE(result_of("${a.n").find("it does not end with }"), std::string::npos);
  EXPECT_NE(result_of("${}").find("a name is missing"), std::string::npos);
  EXPECT_NE(result_of("${b}").find("there is nothing called \"b\""), std::string::npos);
}

TEST_F(Expanding, EndsBeforeItIsTooLarge) {
  a = json::string(std::string(600'000, 'x'));
  EXPECT_NE(result_of("${a} ${a}").find("larger than 1048576 bytes"), std::string::npos);
}

TEST_F(Expanding, AsLiteralExpandsToItself) {
  for (std::string_view const text : {"${a.n}", "$${", "$$${x", "plain", "${"})
    EXPECT_EQ(result_of(as_literal(text)), canonical_json(json::value(json::string(text)))) << text;
}

TEST_F(Expanding, ConditionsCompareOrderAndCombine) {
  auto const holds = [&](std::string_view text) {
    auto const condition = Condition::parse(text);
    EXPECT_TRUE(condition) << condition.error().message();
    return condition && condition->holds(scope);
  };
  EXPECT_TRUE(holds("${a.n} == 1 && !(${a.n} > 1)"));
  EXPECT_TRUE(holds("${a.gone} == null or false"));
  EXPECT_TRUE(holds("${a.list.0.x} in 'xyz' and not ${a.none}"));
  EXPECT_TRUE(holds("${a} contains 'n'"));
  EXPECT_TRUE(holds("(${a.n})"));
  EXPECT_TRUE(holds("1 <= ${a.n}"));
  EXPECT_FALSE(holds("${a.n} < 'text'"));
  EXPECT_FALSE(holds("false || ${a.n} != 1"));
}

TEST(Condition, NamesTheColumnOfAMistake) {
  auto const message = [](std::string_view text) {
    auto const condition = Condition::parse(text);
    return condition ? std::string() : condition.error().message();
  };
  EXPECT_NE(message("${a} == ").find("column 9: a value is missing"), std::string::npos);
  EXPECT_NE(message("1 1").find("column 3: nothing belongs here"), std::string::npos);
  EXPECT_NE(message("(1").find("a ) is missing"), std::string::npos);
  EXPECT_NE(message(std::string(1000, '(')).find("nested too deep"), std::string::npos);
  EXPECT_NE(message(std::string(1000, '!')).find("nested too deep"), std::string::npos);
}

TEST(JsonForm, TellsWhatDoesNotFit) {
  auto const schema = value_in(R"({"type": "object", "required": ["mail"], "properties": {
    "mail": {"type": "string", "format": "email", "maxLength": 9},
    "age": {"type": "integer", "minimum": 18}, "size": {"enum": ["s", "m"]},
    "on": {"type": "string", "format": "date"}}, "additionalProperties": false})");
  auto const first = [&](std::string_view value) {
    auto const mistakes = form_mistakes(schema, value_in(value));
    return mistakes.empty() ? std::string() : mistakes[0];
  };
  EXPECT_EQ(first(R"({"mail": "a@b", "age": 18.0, "size": "m", "on": "2026-11-21"})"), "");
  EXPECT_EQ(first("[]"), "/: must be of type object");
  EXPECT_EQ(first("{}"), "/: \"mail\" is missing");
  EXPECT_EQ(first(R"({"mail": "ab"})"), "/mail: must be of format email");
  EXPECT_EQ(first(R"({"mail": "a@b", "age": 17})"), "/age: must be at least 18");
  EXPECT_EQ(first(R"({"mail": "a@b", "size": "l"})"), "/size: must be one of \"s\", \"m\"");
  EXPECT_EQ(first(R"({"mail": "a@b", "x": 1})"), "/x: is not known here");
  EXPECT_EQ(first(R"({"mail": "a@b", "on": "2026-13-21"})"), "/on: must be of format date");
}

TEST(JsonForm, TakesOnlyWhatCanBeShownAsAForm) {
  EXPECT_TRUE(
      check_form(value_in(R"({"type": "object", "properties": {"a": {"type": "boolean"}}})")));
  EXPECT_FALSE(
      check_form(value_in(R"({"type": "object", "properties": {"a": {"type": "object"}}})")));
  EXPECT_FALSE(check_form(value_in("[]")));
  EXPECT_EQ(canonical_json(with_defaults(
                value_in(R"({"properties": {"a": {"default": 1}, "b": {"default": 2}}})"),
                value_in(R"({"b": 3})"))),
            R"({"a":1,"b":3})");
}

}  // namespace
}  // namespace aether::jobs
