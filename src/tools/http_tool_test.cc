// SPDX-License-Identifier: Apache-2.0
#include "tools/http_tool.h"

#include "async/task_group.h"
#include "base/fault.h"
#include "tools/resolver.h"
#include "tools/testing.h"

namespace aether::tools {
namespace {

using namespace testing;
using std::chrono::milliseconds;

boost::json::object request_to(std::string const& url, std::string_view method = "POST") {
  return {{"method", method}, {"url", url}};
}

TEST(HttpToolCheck, NamesTheMemberThatIsWrong) {
  auto const tool = make_http_tool({.hosts = {"api.example.com"}});
  auto const refused = [&](std::string_view args) {
    Status const status = tool->check(value_of(args));
    return status ? std::string() : status.error().message();
  };
  EXPECT_EQ(refused(R"({"url":"https://api.example.com/x"})"), "");
  EXPECT_NE(refused("[]").find("not an object"), std::string::npos);
  EXPECT_NE(refused("{}").find("url is missing"), std::string::npos);
  EXPECT_NE(refused(R"({"url":"ftp://x"})").find("url cannot be used"), std::string::npos);
  EXPECT_NE(refused(R"({"url":"http://10.0.0.1/"})").find("`hosts` do not allow"),
            std::string::npos);
  std::string const good = R"({"url":"https://api.example.com/x",)";
  EXPECT_NE(refused(good + R"("metod":"GET"})").find("metod is no argument"), std::string::npos);
  EXPECT_NE(refused(good + R"("method":"GET /"})").find("method"), std::string::npos);
  EXPECT_NE(refused(good + R"("expect":[7]})").find("expect"), std::string::npos);
  EXPECT_NE(refused(good + R"("max_bytes":0})").find("max_bytes"), std::string::npos);
  EXPECT_NE(refused(good + R"("headers":{"X":"a\r\nY: b"}})").find("headers.X"), std::string::npos);
  EXPECT_NE(refused(good + R"("headers":{"host":"evil"}})").find("headers.host"),
            std::string::npos);
  EXPECT_NE(refused(good + R"("lookup":{"url":"http://other/{key}"}})").find("lookup"),
            std::string::npos);
  EXPECT_TRUE(tool->schema().is_object());
}

CORO_TEST(HttpTool, SendsTheBodyWithTheKeyAndBringsJsonAsAValue) {
  Counterpart server(
      always(answer("201 Created", R"({"id":7})", "Content-Type: application/json\r\n")));
  auto const tool = make_http_tool({});
  auto args = request_to(server.url("/pay?x=1"));
  args["body"] = {{"amount", 5}};
  args["headers"] = {{"X-Who", "me"}};
  CallResult const result = co_await tool->call(call_with(args));
  EXPECT_EQ(result.outcome, EffectOutcome::Ok) << result.error;
  EXPECT_EQ(result.result.at("status"), 201);
  EXPECT_EQ(result.result.at("body").at("id"), 7);
  EXPECT_EQ(result.result.at("headers").at("content-type"), "application/json");
  auto const requests = server.requests();
  CO_ASSERT_EQ(requests.size(), 1U);
  EXPECT_TRUE(requests[0].starts_with("POST /pay?x=1 HTTP/1.1\r\n"));
  EXPECT_NE(requests[0].find("Idempotency-Key: key-1\r\n"), std::string::npos);
  EXPECT_NE(requests[0].find("X-Who: me\r\n"), std::string::npos);
  EXPECT_NE(requests[0].find("Content-Type: application/json\r\n"), std::string::npos);
  EXPECT_TRUE(requests[0].ends_with("\r\n\r\n{\"amount\":5}"));
}

CORO_TEST(HttpTool, ProvesThatARefusedConnectionDidNothing) {
  auto const tool = make_http_tool({});
  std::string const url = "http://127.0.0.1:" + std::to_string(deserted_port()) + "/";
  CallResult const result = co_await tool->call(call_with(request_to(url)));
  EXPECT_EQ(result.outcome, EffectOutcome::NotExecuted);
  EXPECT_TRUE(result.retryable);
  EXPECT_NE(result.error.find("nothing of the request was sent"), std::string::npos);
}

CORO_TEST(HttpTool, DoesNotKnowWhatAResetBehindItsRequestMeans) {
  Counterpart server([](int client, std::string const&) { reset(client); });
  auto const tool = make_http_tool({});
  CallResult const result = co_await tool->call(call_with(request_to(server.url("/"))));
  EXPECT_EQ(result.outcome, EffectOutcome::Unknown);
  EXPECT_FALSE(result.retryable);
  EXPECT_NE(result.error.find("may have been done"), std::string::npos);
  EXPECT_EQ(server.requests().size(), 1U);
}

CORO_TEST(HttpTool, DoesNotTakeATimeoutForAFailure) {
  Counterpart* self = nullptr;
  Counterpart server([&self](int client, std::string const&) { self->wait_until_left(client); });
  self = &server;
  auto const tool = make_http_tool({});
  CallResult const result =
      co_await tool->call(call_with(request_to(server.url("/")), milliseconds(300)));
  EXPECT_EQ(result.outcome, EffectOutcome::Unknown);
  EXPECT_NE(result.error.find("300ms"), std::string::npos);
}

CORO_TEST(HttpTool, ProvesThatAHandshakeWithoutAnAnswerDidNothing) {
  // It accepts, and never says a word of TLS.
  os::UniqueFd const deaf(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CO_ASSERT_EQ(::listen(deaf.get(), 8), 0);
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  CO_ASSERT_EQ(::getsockname(deaf.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  auto const tool = make_http_tool({});
  std::string const url = "https://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/";
  CallResult const result = co_await tool->call(call_with(request_to(url), milliseconds(300)));
  EXPECT_EQ(result.outcome, EffectOutcome::NotExecuted) << result.error;
}

CORO_TEST(HttpTool, TellsTheTruthWhenItIsCancelled) {
  Counterpart* self = nullptr;
  async::Event asked;
  Counterpart server([&self](int client, std::string const&) { self->wait_until_left(client); });
  self = &server;
  auto const tool = make_http_tool({});
  async::TaskGroup group(loop.executor(), "calls");
  Outcome outcome;
  group.spawn("call", call_into(tool.get(), call_with(request_to(server.url("/"))), &outcome));
  while (server.requests().empty()) co_await async::sleep_for(milliseconds(1));
  group.cancel();
  co_await outcome.ended.wait();
  EXPECT_EQ(outcome.result.outcome, EffectOutcome::Unknown);
  EXPECT_NE(outcome.result.error.find("cancelled"), std::string::npos);
  co_await group.stop(kPatience);
}

CORO_TEST(HttpTool, TellsANoAndWhetherItMayPass) {
  Counterpart busy(always(answer("429 Too Many Requests", R"({"detail":"slow down"})",
                                 "Retry-After: 3\r\nContent-Type: application/json\r\n")));
  auto const tool = make_http_tool({});
  CallResult const later = co_await tool->call(call_with(request_to(busy.url("/"))));
  EXPECT_EQ(later.outcome, EffectOutcome::Error);
  EXPECT_TRUE(later.retryable);
  EXPECT_EQ(later.result.at("retry_after_ms"), 3000);
  EXPECT_NE(later.error.find("slow down"), std::string::npos);
  Counterpart never(always(answer("404 Not Found", "no")));
  CallResult const no = co_await tool->call(call_with(request_to(never.url("/"))));
  EXPECT_EQ(no.outcome, EffectOutcome::Error);
  EXPECT_FALSE(no.retryable);
  auto args = request_to(never.url("/"));
  args["expect"] = {200, 404};
  CallResult const expected = co_await tool->call(call_with(args));
  EXPECT_EQ(expected.outcome, EffectOutcome::Ok);
}

CORO_TEST(HttpTool, FollowsRedirectsOnlyWithWhatChangesNothing) {
  Counterpart* self = nullptr;
  Counterpart server([&self](int client, std::string const& request) {
    bool const first = request.find(" /first ") != std::string::npos;
    say(client, first ? answer("307 Temporary Redirect", "", "Location: /second\r\n")
                      : answer("200 OK", "here"));
    (void)self;
  });
  auto const tool = make_http_tool({});
  CallResult const got = co_await tool->call(call_with(request_to(server.url("/first"), "GET")));
  EXPECT_EQ(got.outcome, EffectOutcome::Ok);
  EXPECT_EQ(got.result.at("body"), "here");
  CallResult const posted = co_await tool->call(call_with(request_to(server.url("/first"))));
  EXPECT_EQ(posted.outcome, EffectOutcome::Error);
  EXPECT_EQ(server.requests().size(), 3U);
}

CORO_TEST(HttpTool, DoesNotFollowARedirectOutOfItsHostsNorForEver) {
  Counterpart away(always(answer("302 Found", "", "Location: http://169.254.169.254/\r\n")));
  std::string const host = "127.0.0.1:" + std::to_string(away.port());
  auto const fenced = make_http_tool({.hosts = {host}});
  CallResult const out = co_await fenced->call(call_with(request_to(away.url("/"), "GET")));
  EXPECT_EQ(out.outcome, EffectOutcome::Error);
  EXPECT_NE(out.error.find("169.254.169.254"), std::string::npos);
  Counterpart circle(always(answer("302 Found", "", "Location: /again\r\n")));
  auto const tool = make_http_tool({});
  CallResult const round = co_await tool->call(call_with(request_to(circle.url("/"), "GET")));
  EXPECT_EQ(round.outcome, EffectOutcome::Error);
  EXPECT_EQ(circle.requests().size(), 6U);
}

CORO_TEST(HttpTool, CutsAnAnswerThatIsTooLongAndSaysSo) {
  Counterpart server(always(answer("200 OK", std::string(5000, 'x'))));
  auto const tool = make_http_tool({});
  auto args = request_to(server.url("/"));
  args["max_bytes"] = 4000;
  CallResult const result = co_await tool->call(call_with(args));
  EXPECT_EQ(result.outcome, EffectOutcome::Ok) << result.error;
  EXPECT_EQ(result.result.at("body").as_string().size(), 4000U);
  EXPECT_EQ(result.result.at("truncated"), true);
}

CORO_TEST(HttpTool, LearnsByKeyWhatBecameOfACall) {
  std::string bytes = answer("200 OK", R"({"items":[]})", "Content-Type: application/json\r\n");
  Counterpart server([&bytes](int client, std::string const&) { say(client, bytes); });
  auto const tool = make_http_tool({});
  auto args = request_to(server.url("/pay"));
  EXPECT_FALSE(tool->can_look_up(args));
  args["lookup"] = {{"url", server.url("/pay?key=${key}&again={key}")}};
  EXPECT_TRUE(tool->can_look_up(args));
  CallResult const found = co_await tool->look_up(call_with(args));
  EXPECT_EQ(found.outcome, EffectOutcome::Ok);
  EXPECT_TRUE(server.requests()[0].starts_with("GET /pay?key=key-1&again=key-1 "));
  args["lookup"].as_object()["found"] = "/items/0";
  CallResult const empty = co_await tool->look_up(call_with(args));
  EXPECT_EQ(empty.outcome, EffectOutcome::NotExecuted);
  bytes = answer("404 Not Found", "");
  CallResult const missing = co_await tool->look_up(call_with(args));
  EXPECT_EQ(missing.outcome, EffectOutcome::NotExecuted);
  bytes = answer("500 Internal Server Error", "");
  CallResult const broken = co_await tool->look_up(call_with(args));
  EXPECT_EQ(broken.outcome, EffectOutcome::Unknown);
}

CORO_TEST(HttpTool, TellsTheTruthAtEachOfItsFaultPoints) {
  Counterpart server(always(answer("200 OK", "done")));
  auto const tool = make_http_tool({});
  auto const args = request_to(server.url("/"));
  EXPECT_TRUE(fault::configure("tools.connect:1:eio").has_value());
  CallResult const before = co_await tool->call(call_with(args));
  EXPECT_EQ(before.outcome, EffectOutcome::NotExecuted);
  EXPECT_TRUE(server.requests().empty());
  for (std::string_view const fault : {"tools.sent:1:eio", "tools.answer:1:eio"}) {
    EXPECT_TRUE(fault::configure(fault).has_value());
    CallResult const after = co_await tool->call(call_with(args));
    EXPECT_EQ(after.outcome, EffectOutcome::Unknown) << fault;
  }
  EXPECT_TRUE(fault::configure("").has_value());
}

CORO_TEST(Resolver, FindsANameOfThisMachine) {
  Resolver resolver;
  std::vector<std::string> const addresses = co_await resolver.look_up("localhost");
  CO_ASSERT_FALSE(addresses.empty());
  EXPECT_TRUE(addresses[0] == "127.0.0.1" || addresses[0] == "::1") << addresses[0];
}

}  // namespace
}  // namespace aether::tools
