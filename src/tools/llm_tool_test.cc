// SPDX-License-Identifier: Apache-2.0
#include "tools/llm_tool.h"

#include "async/task_group.h"
#include "base/fault.h"
#include "tools/testing.h"

namespace aether::tools {
namespace {

using namespace testing;
using std::chrono::milliseconds;

constexpr std::string_view kKey = "sk-very-secret";

std::unique_ptr<Tool> tool_for(Counterpart const& server) {
  ModelSpec const model{.name = "big",
                        .base_url = server.url("/v1/"),
                        .model = "big-1",
                        .api_key = std::string(kKey),
                        .input_price = 2,
                        .output_price = 10};
  return make_llm_tool({.models = {model}, .default_model = "big"}).value();
}

boost::json::object prompt(std::string_view text) {
  return {{"prompt", text}};
}

constexpr std::string_view kWhole =
    R"({"model":"big-1","choices":[{"message":{"content":"Hello you","tool_calls":[{"id":"c1",
    "type":"function","function":{"name":"http","arguments":"{\"url\":\"x\"}"}}]},
    "finish_reason":"tool_calls"}],"usage":{"prompt_tokens":100,"completion_tokens":20}})";

std::vector<std::string> const kEvents{
    R"({"model":"big-1","choices":[{"delta":{"role":"assistant","content":"Hello"}}]})",
    R"({"choices":[{"delta":{"content":" you"}}]})",
    R"({"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"http","arguments":"{\"url\":"}}]}}]})",
    R"({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"x\"}"}}]}}]})",
    R"({"choices":[{"delta":{},"finish_reason":"tool_calls"}]})",
    R"({"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":20}})",
    "[DONE]"};

// A fake of OpenAI's server: streams byte by byte to who asks for a stream.
void play_openai(int client, std::string const& request) {
  if (request.find("\"stream\":true") == std::string::npos)
    return say(client, answer("200 OK", kWhole, "Content-Type: application/json\r\n"));
  say(client,
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (std::string const& event : kEvents) {
    for (char const c : "data: " + event + "\n\n") say(client, std::string("1\r\n") + c + "\r\n");
  }
  say(client, "0\r\n\r\n");
}

CORO_TEST(LlmTool, StreamsToTheSameResultAsAWholeAnswer) {
  Counterpart server(play_openai);
  auto const tool = tool_for(server);
  CallResult const whole = co_await tool->call(call_with(prompt("hi")));
  CO_ASSERT_EQ(whole.outcome, EffectOutcome::Ok) << whole.error;
  std::string heard;
  Call call = call_with(prompt("hi"));
  call.progress = [&heard](std::string_view text) { heard += text; };
  CallResult const streamed = co_await tool->call(std::move(call));
  CO_ASSERT_EQ(streamed.outcome, EffectOutcome::Ok) << streamed.error;
  EXPECT_EQ(canonical_json(streamed.result), canonical_json(whole.result));
  EXPECT_EQ(heard, "Hello you");
  EXPECT_EQ(whole.result.at("content"), "Hello you");
  EXPECT_EQ(whole.result.at("tool_calls").at(0).at("arguments").at("url"), "x");
  EXPECT_EQ(whole.tokens, 120U);
  EXPECT_DOUBLE_EQ(whole.cost, (100 * 2 + 20 * 10) / 1e6);
  EXPECT_DOUBLE_EQ(streamed.cost, whole.cost);
  std::string const first = server.requests()[0];
  EXPECT_TRUE(first.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
  EXPECT_NE(first.find("Authorization: Bearer sk-very-secret\r\n"), std::string::npos);
  EXPECT_NE(first.find("\"model\":\"big-1\""), std::string::npos);
}

CORO_TEST(LlmTool, NeverTellsItsKey) {
  std::string const body =
      R"({"error":{"message":"wrong key )" + std::string(kKey) + R"( given"}})";
  Counterpart server(always(answer("401 Unauthorized", body)));
  auto const tool = tool_for(server);
  CallResult const result = co_await tool->call(call_with(prompt("hi")));
  EXPECT_EQ(result.outcome, EffectOutcome::Error);
  EXPECT_FALSE(result.retryable);
  EXPECT_NE(result.error.find("wrong key *** given"), std::string::npos);
  EXPECT_EQ(canonical_json(result.result).find(kKey), std::string::npos);
}

CORO_TEST(LlmTool, TellsFailuresAsHttpDoes) {
  Counterpart busy(always(answer("429 Too Many Requests", "", "Retry-After: 2\r\n")));
  CallResult const later = co_await tool_for(busy)->call(call_with(prompt("hi")));
  EXPECT_EQ(later.outcome, EffectOutcome::Error);
  EXPECT_TRUE(later.retryable);
  EXPECT_EQ(later.result.at("retry_after_ms"), 2000);
  Counterpart dead([](int client, std::string const&) { reset(client); });
  CallResult const lost = co_await tool_for(dead)->call(call_with(prompt("hi")));
  EXPECT_EQ(lost.outcome, EffectOutcome::Unknown);
  Counterpart cut(
      always("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
             "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n"));
  CallResult const half = co_await tool_for(cut)->call(call_with(prompt("hi")));
  EXPECT_EQ(half.outcome, EffectOutcome::Unknown);
  EXPECT_NE(half.error.find("cut off"), std::string::npos);
  Counterpart odd(always(answer("200 OK", "data: nonsense\n\n")));
  CallResult const no = co_await tool_for(odd)->call(call_with(prompt("hi")));
  EXPECT_EQ(no.outcome, EffectOutcome::Error) << no.error;
}

CORO_TEST(LlmTool, ClosesTheStreamWhenItIsCancelled) {
  Counterpart* self = nullptr;
  Counterpart server([&self](int client, std::string const&) {
    say(client,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        "data: {\"choices\":[{\"delta\":{\"content\":\"first\"}}]}\n\n");
    self->wait_until_left(client);
  });
  self = &server;
  auto const tool = tool_for(server);
  async::Event heard;
  Call call = call_with(prompt("hi"));
  call.progress = [&heard](std::string_view) { heard.set(); };
  async::TaskGroup group(loop.executor(), "calls");
  Outcome outcome;
  group.spawn("call", call_into(tool.get(), std::move(call), &outcome));
  co_await heard.wait();
  group.cancel();
  co_await outcome.ended.wait();
  EXPECT_EQ(outcome.result.outcome, EffectOutcome::Unknown);
  co_await group.stop(kPatience);
}

CORO_TEST(LlmTool, HasABuiltinModelThatNeedsNobody) {
  auto const tool = make_llm_tool({}).value();
  std::string heard;
  Call call = call_with(prompt("say one two"));
  call.progress = [&heard](std::string_view text) { heard += text; };
  CallResult const first = co_await tool->call(std::move(call));
  EXPECT_EQ(first.outcome, EffectOutcome::Ok) << first.error;
  EXPECT_EQ(heard, "one two");
  EXPECT_EQ(first.result.at("content"), "one two");
  EXPECT_GT(first.tokens, 0U);
  CallResult const second = co_await tool->call(call_with(prompt("say one two")));
  EXPECT_EQ(canonical_json(first.result), canonical_json(second.result));
}

TEST(LlmToolCheck, NamesTheMemberThatIsWrong) {
  auto const tool = make_llm_tool({}).value();
  auto const refused = [&](std::string_view args) {
    Status const status = tool->check(value_of(args));
    return status ? std::string() : status.error().message();
  };
  EXPECT_EQ(refused(R"({"prompt":"x","temperature":0.5,"model":""})"), "");
  EXPECT_NE(refused(R"({"prompt":"x","model":"gpt"})").find("there are builtin"),
            std::string::npos);
  EXPECT_NE(refused(R"({"prompt":"x","temperature":7})").find("temperature"), std::string::npos);
  EXPECT_NE(refused(R"({"promt":"x"})").find("promt is no argument"), std::string::npos);
}

CORO_TEST(LlmTool, KnowsTheBuiltinModelByOtherNames) {
  LlmOptions options;
  options.models.push_back({.name = "small"});
  options.default_model = "small";
  auto const tool = make_llm_tool(std::move(options)).value();
  CallResult const result = co_await tool->call(call_with(prompt("say hello")));
  EXPECT_EQ(result.outcome, EffectOutcome::Ok) << result.error;
  EXPECT_EQ(result.result.at("content"), "hello");
  EXPECT_EQ(result.cost, 0);
}

TEST(LlmToolConfig, NamesTheModelThatIsWrong) {
  auto const refused = [](ModelSpec model) {
    auto const tool = make_llm_tool({.models = {std::move(model)}});
    return tool ? std::string() : tool.error().message();
  };
  EXPECT_EQ(refused({.name = "a", .base_url = "http://h/v1", .model = "m"}), "");
  EXPECT_NE(refused({.name = "a", .base_url = "h", .model = "m"}).find("model a"),
            std::string::npos);
  EXPECT_NE(refused({.name = "builtin", .base_url = "http://h", .model = "m"}).find("another one"),
            std::string::npos);
  ModelSpec const bad_key{.name = "a", .base_url = "http://h", .model = "m", .api_key = "a\nb"};
  EXPECT_NE(refused(bad_key).find("key has characters"), std::string::npos);
  EXPECT_FALSE(make_llm_tool({.default_model = "none"}).has_value());
}

}  // namespace
}  // namespace aether::tools
