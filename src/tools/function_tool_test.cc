// SPDX-License-Identifier: Apache-2.0
#include "tools/function_tool.h"

#include <map>

#include "tools/testing.h"

namespace aether::tools {
namespace {

using namespace testing;

class FixedPorts final : public FunctionPorts {
 public:
  explicit FixedPorts(std::map<std::string, std::uint16_t, std::less<>> ports)
      : ports_(std::move(ports)) {}
  [[nodiscard]] Result<std::uint16_t> port_of(std::string_view function) const override {
    auto const found = ports_.find(function);
    if (found == ports_.end()) return fail(ErrorCode::FunctionUnknown, "there is no such function");
    return found->second;
  }

 private:
  std::map<std::string, std::uint16_t, std::less<>> ports_;
};

std::string by_gateway(std::string_view status, std::string_view code) {
  return answer(status, R"({"code":")" + std::string(code) +
                            R"(","message":"told","function":"f","call_id":"1"})");
}

CORO_TEST(FunctionTool, AsksTheFunctionAtItsPort) {
  Counterpart server(always(
      answer("200 OK", "[1]", "Content-Type: application/json\r\nX-Aether-Start: warm\r\n")));
  FixedPorts const ports({{"f", server.port()}});
  auto const tool = make_function_tool(ports);
  CallResult const result =
      co_await tool->call(call_with(value_of(R"({"function":"f","path":"/x?y=1","body":{}})")));
  EXPECT_EQ(result.outcome, EffectOutcome::Ok) << result.error;
  EXPECT_EQ(result.result.at("body").at(0), 1);
  EXPECT_TRUE(server.requests()[0].starts_with("POST /x?y=1 HTTP/1.1\r\n"));
  EXPECT_NE(server.requests()[0].find("Idempotency-Key: key-1"), std::string::npos);
}

CORO_TEST(FunctionTool, SaysThatNothingWasDoneOnlyIfNoHandlerWasReached) {
  std::string bytes;
  Counterpart server([&bytes](int client, std::string const&) { say(client, bytes); });
  FixedPorts const ports({{"f", server.port()}});
  auto const tool = make_function_tool(ports);
  struct Row {
    std::string bytes;
    EffectOutcome outcome;
    bool retryable;
  };
  std::string const own = "X-Aether-Start: warm\r\n";
  std::vector<Row> const rows{
      {by_gateway("503 Service Unavailable", "unavailable"), EffectOutcome::NotExecuted, true},
      {by_gateway("503 Service Unavailable", "queue_timeout"), EffectOutcome::NotExecuted, true},
      {by_gateway("429 Too Many Requests", "too_many"), EffectOutcome::NotExecuted, true},
      {by_gateway("502 Bad Gateway", "handler_died"), EffectOutcome::Unknown, false},
      {by_gateway("502 Bad Gateway", "no_answer"), EffectOutcome::Unknown, false},
      {by_gateway("504 Gateway Timeout", "timeout"), EffectOutcome::Unknown, false},
      {answer("503 Service Unavailable", "mine", own), EffectOutcome::Error, true},
      {answer("400 Bad Request", "mine", own), EffectOutcome::Error, false},
      // What only looks like the gateway's word is the handler's.
      {answer("503 Service Unavailable", R"({"code":"unavailable","function":"f","call_id":"1"})",
              own),
       EffectOutcome::Error, true},
  };
  for (Row const& row : rows) {
    bytes = row.bytes;
    CallResult const result = co_await tool->call(call_with(value_of(R"({"function":"f"})")));
    EXPECT_EQ(result.outcome, row.outcome) << row.bytes;
    EXPECT_EQ(result.retryable, row.retryable) << row.bytes;
  }
}

CORO_TEST(FunctionTool, ProvesThatAFunctionThatIsNotThereDidNothing) {
  FixedPorts const ports({{"gone", deserted_port()}});
  auto const tool = make_function_tool(ports);
  for (std::string_view const args : {R"({"function":"none"})", R"({"function":"gone"})"}) {
    CallResult const result = co_await tool->call(call_with(value_of(args)));
    EXPECT_EQ(result.outcome, EffectOutcome::NotExecuted) << args;
    EXPECT_TRUE(result.retryable);
  }
}

TEST(FunctionToolCheck, NamesTheMemberThatIsWrong) {
  FixedPorts const ports({});
  auto const tool = make_function_tool(ports);
  EXPECT_TRUE(tool->check(value_of(R"({"function":"f"})")).has_value());
  EXPECT_FALSE(tool->check(value_of("{}")).has_value());
  EXPECT_FALSE(tool->check(value_of(R"({"function":"f","path":"x"})")).has_value());
  EXPECT_FALSE(tool->check(value_of(R"({"function":"f","method":"get"})")).has_value());
}

CORO_TEST(ToolSet, HasEachNameOnce) {
  FixedPorts const ports({});
  ToolSet tools;
  EXPECT_TRUE(tools.add(make_function_tool(ports)).has_value());
  EXPECT_FALSE(tools.add(make_function_tool(ports)).has_value());
  EXPECT_EQ(tools.names(), std::vector<std::string_view>{"function"});
  EXPECT_EQ(tools.find("none"), nullptr);
  Tool* const tool = tools.find("function");
  CO_ASSERT_NE(tool, nullptr);
  EXPECT_FALSE(tool->can_look_up({}));
  CallResult const unknown = co_await tool->look_up(call_with({}));
  EXPECT_EQ(unknown.outcome, EffectOutcome::Unknown);
}

}  // namespace
}  // namespace aether::tools
