// SPDX-License-Identifier: Apache-2.0
#include "daemon/known_tools.h"

#include <memory>
#include <string>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "tools/http_tool.h"
#include "tools/llm_tool.h"

namespace aether::daemon {
namespace {

namespace json = boost::json;

std::string mistakes_of(std::string_view graph) {
  tools::ToolSet tools;
  (void)tools.add(tools::make_http_tool({.hosts = {}, .ca_file = {}}));
  (void)tools.add(std::move(*tools::make_llm_tool({})));
  jobs::RunSpec spec;
  spec.graph = json::parse(graph);
  Status const checked = check_tools(spec, tools);
  return checked ? "" : checked.error().message();
}

TEST(KnownTools, OfAGraphAreAllThere) {
  EXPECT_EQ(mistakes_of(R"({"nodes": [
      {"id": "a", "type": "tool", "tool": "http", "with": {"url": "http://x/"}},
      {"id": "b", "type": "llm", "with": {"prompt": "x"}},
      {"id": "c", "type": "value", "with": 1}]})"),
            "");
}

TEST(KnownTools, ThatAreNotThereAreToldWithTheirPlaces) {
  std::string const told = mistakes_of(R"({"nodes": [
      {"id": "a", "type": "tool", "tool": "htttp", "with": {}},
      {"id": "w", "type": "workflow", "graph": {"nodes": [
          {"id": "b", "type": "tool", "tool": "http", "with": {},
           "compensate": {"tool": "nobody", "with": {}}}]}},
      {"id": "c", "type": "agent", "agent": {"name": "x", "tools": ["http", "absent"]}}]})");
  EXPECT_TRUE(told.contains("/nodes/0/tool: there is no tool \"htttp\"; did you mean \"http\"?"))
      << told;
  EXPECT_TRUE(told.contains("/nodes/1/graph/nodes/0/compensate/tool: ")) << told;
  EXPECT_TRUE(told.contains("/nodes/2/agent/tools/1: ")) << told;
}

TEST(KnownTools, OfAGraphThatCannotBeReadAreNotLookedFor) {
  EXPECT_EQ(mistakes_of(R"({"nodes": [{"id": "a", "type": "tool", "tool": "x", "afte": 1}]})"), "");
}

}  // namespace
}  // namespace aether::daemon
