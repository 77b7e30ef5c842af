// SPDX-License-Identifier: Apache-2.0
#include "tools/chat.h"

#include <string>

#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <gtest/gtest.h>

#include "base/json.h"
#include "tools/builtin_model.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

json::value read(std::string_view text) {
  auto value = parse_json(text, "test");
  EXPECT_TRUE(value.has_value()) << text;
  return value ? std::move(*value) : json::value();
}

Result<ChatAnswer> assemble(std::string_view bytes, std::size_t cut) {
  ChatAssembler assembler;
  for (std::string_view const part : {bytes.substr(0, cut), bytes.substr(cut)}) {
    if (auto const added = assembler.feed(part); !added) return fail(added.error());
  }
  return std::move(assembler).finish();
}

constexpr std::string_view kStream =
    "\xEF\xBB\xBF: hello\r\n\r\n"
    "data: "
    "{\"model\":\"m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"Gr\"}}]}"
    "\r\n\r\n"
    "event: message\ndata: {\"choices\":[{\"delta\":{\"content\":\"\xC3\xBC\xC3\x9F\"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":"
    "{\"name\":\"http\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"function\":"
    "{\"name\":\"llm\",\"arguments\":\"\"}}]}}]}\r\r"
    "data:{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":"
    "{\"arguments\":\":1}\"}}]},\n"
    "data: \"finish_reason\":\"tool_calls\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\n\n"
    "data: [DONE]\n\n";

TEST(ChatAssembler, ComesToTheSameAnswerWhereverTheStreamIsCut) {
  ChatAnswer const expected{.model = "m",
                            .content = "Gr\xC3\xBC\xC3\x9F",
                            .tool_calls = {{"c1", "http", "{\"a\":1}"}, {"c2", "llm", ""}},
                            .finish_reason = "tool_calls",
                            .usage = ChatUsage{.prompt = 5, .completion = 7}};
  for (std::size_t cut = 0; cut <= kStream.size(); ++cut) {
    auto const answer = assemble(kStream, cut);
    ASSERT_TRUE(answer.has_value()) << cut << answer.error().message();
    EXPECT_EQ(*answer, expected) << cut;
  }
}

TEST(ChatAssembler, TakesAWholeAnswerFromAServerThatDoesNotStream) {
  std::string_view const body =
      R"( {"model":"m","choices":[{"message":{"content":null,"tool_calls":[{"id":"c1","function":
      {"name":"http","arguments":"{}"}}]},"finish_reason":"tool_calls"}]})";
  for (std::size_t cut = 0; cut <= body.size(); ++cut) {
    auto const answer = assemble(body, cut);
    ASSERT_TRUE(answer.has_value()) << answer.error().message();
    EXPECT_EQ(answer->tool_calls.size(), 1U);
    EXPECT_FALSE(answer->usage);
  }
}

TEST(ChatAssembler, DoesNotTakeAStreamThatWasCutOffForAnAnswer) {
  std::string_view const half = kStream.substr(0, kStream.find("finish_reason") - 8);
  auto const answer = assemble(half, 0);
  ASSERT_FALSE(answer.has_value());
  EXPECT_NE(answer.error().message().find("cut off"), std::string::npos);
  EXPECT_FALSE(assemble("", 0).has_value());
}

TEST(ChatAssembler, TellsTheErrorOfTheServerAndRefusesWhatIsNoChat) {
  auto const told = assemble("data: {\"error\":{\"message\":\"overloaded\"}}\n\n", 0);
  ASSERT_FALSE(told.has_value());
  EXPECT_NE(told.error().message().find("overloaded"), std::string::npos);
  EXPECT_FALSE(assemble("data: nonsense\n\n", 0).has_value());
  EXPECT_FALSE(assemble("data: [1]\n\n", 0).has_value());
  EXPECT_FALSE(assemble("{\"choices\":[]}", 0).has_value());
  // A gap would be filled with calls that nobody asked for.
  EXPECT_FALSE(assemble("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":9}]}}]}\n\n", 0)
                   .has_value());
}

TEST(ChatAssembler, HoldsNoMoreThanItsLimits) {
  ChatAssembler lines;
  std::string const line = "data: " + std::string(kSseEventBytesMax, 'x');
  EXPECT_EQ(lines.feed(line).error().code(), ErrorCode::LimitReached);
  ChatAssembler texts;
  std::string const event = "data: {\"choices\":[{\"delta\":{\"content\":\"" +
                            std::string(kSseEventBytesMax / 2, 'x') + "\"}}]}\n\n";
  std::size_t fed = 0;
  while (texts.feed(event)) ASSERT_LT(++fed, 100U);
  EXPECT_EQ(fed, 16U);
}

TEST(ChatWire, TakesTheResultOfACallBackAsItCame) {
  auto const messages = wire_messages(read(
      R"({"system":"be kind","messages":[{"role":"user","content":"hi"},
      {"role":"assistant","content":"","tool_calls":[{"id":"c1","name":"http","arguments":{"b":1}}]},
      {"role":"tool","tool_call_id":"c1","content":{"status":200}},
      {"role":"assistant","content":"done","tool_calls":[]}]})"));
  ASSERT_TRUE(messages.has_value()) << messages.error().message();
  json::array const& list = messages->get_array();
  ASSERT_EQ(list.size(), 5U);
  EXPECT_EQ(list[0].at("role"), "system");
  EXPECT_EQ(list[2].at("tool_calls").at(0).at("type"), "function");
  EXPECT_EQ(list[2].at("tool_calls").at(0).at("function").at("arguments"), "{\"b\":1}");
  EXPECT_EQ(list[3].at("content"), "{\"status\":200}");
  EXPECT_FALSE(list[4].get_object().contains("tool_calls"));
}

TEST(ChatWire, NamesTheMessageThatIsWrong) {
  auto const refused = [](std::string_view args) {
    return wire_messages(read(args)).error().message();
  };
  EXPECT_NE(refused("{}").find("prompt is missing"), std::string::npos);
  EXPECT_NE(refused(R"({"prompt":"a","messages":[]})").find("not both"), std::string::npos);
  EXPECT_NE(refused(R"({"messages":[{"role":"robot"}]})").find("messages[0].role"),
            std::string::npos);
  EXPECT_NE(refused(R"({"messages":[{"role":"assistant","tool_calls":[{"id":"x"}]}]})")
                .find("messages[0].tool_calls[0].name"),
            std::string::npos);
  EXPECT_FALSE(wire_tools(read(R"({"tools":[{"description":"nameless"}]})")).has_value());
}

ChatAnswer ask(std::string_view args) {
  json::value const value = read(args);
  return ask_builtin_model(wire_messages(value).value(), wire_tools(value).value());
}

TEST(BuiltinModel, EchoesAndSays) {
  EXPECT_EQ(ask(R"({"prompt":" hello \n"})").content, "hello");
  EXPECT_EQ(ask(R"({"prompt":"call me later"})").content, "call me later");
  EXPECT_EQ(ask(R"({"prompt":"please\nsay one\nsay two"})").content, "one\ntwo");
  EXPECT_EQ(ask(R"({"prompt":"x","system":"say from the system"})").content, "from the system");
}

TEST(BuiltinModel, CallsToolAfterToolAndEndsWithWhatTheySaid) {
  std::string const tools = R"("tools":[{"name":"add"},{"name":"mail"}])";
  std::string const script = R"({"role":"user","content":"call add {\"a\":1}\n)"
                             R"(call mail {\"text\":\"{1}\"}\nsay sum {1}"})";
  auto const first = ask(R"({"messages":[)" + script + "]," + tools + "}");
  ASSERT_EQ(first.tool_calls.size(), 1U);
  EXPECT_EQ(first.tool_calls[0].id, "call_1");
  EXPECT_EQ(first.tool_calls[0].name, "add");
  EXPECT_EQ(first.finish_reason, "tool_calls");
  std::string const one = R"(,{"role":"tool","tool_call_id":"call_1","content":"3"})";
  auto const second = ask(R"({"messages":[)" + script + one + "]," + tools + "}");
  ASSERT_EQ(second.tool_calls.size(), 1U);
  EXPECT_EQ(second.tool_calls[0].arguments, R"({"text":"3"})");
  std::string const two = R"(,{"role":"tool","tool_call_id":"call_2","content":"sent"})";
  auto const third = ask(R"({"messages":[)" + script + one + two + "]," + tools + "}");
  EXPECT_TRUE(third.tool_calls.empty());
  EXPECT_EQ(third.content, "sum 3");
  EXPECT_EQ(third.finish_reason, "stop");
}

TEST(BuiltinModel, CallsNoToolThatItWasNotGivenAndLoopsWhenTold) {
  EXPECT_NE(ask(R"({"prompt":"call rm {}"})").content.find("not given the tool rm"),
            std::string::npos);
  std::string const messages = R"({"messages":[{"role":"user","content":"loop add {}"},
      {"role":"tool","content":"1"},{"role":"tool","content":"2"}],"tools":[{"name":"add"}]})";
  EXPECT_EQ(ask(messages).tool_calls.size(), 1U);
}

TEST(BuiltinModel, GivesEqualBytesForEqualInputAndPiecesThatAddUp) {
  EXPECT_EQ(ask(R"({"prompt":"a b\nc"})"), ask(R"({"prompt":"a b\nc"})"));
  std::string text;
  for (std::string_view const piece : pieces_of("  one two\nthree ")) text += piece;
  EXPECT_EQ(text, "  one two\nthree ");
  EXPECT_EQ(pieces_of("one two three").size(), 3U);
}

}  // namespace
}  // namespace aether::tools
