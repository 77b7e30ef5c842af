// SPDX-License-Identifier: Apache-2.0
#include "tools/function_tool.h"

#include <algorithm>
#include <array>
#include <utility>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "tools/arguments.h"
#include "tools/web.h"
#include "tools/web_result.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

constexpr std::string_view kFunctionSchema = R"({"type":"object","required":["function"],
"additionalProperties":false,"properties":{
"function":{"type":"string","description":"the id of one of Aether's functions"},
"method":{"type":"string","default":"POST"},
"path":{"type":"string","default":"/"},
"headers":{"type":"object","additionalProperties":{"type":"string"}},
"body":{"description":"a string as it is, any other value as JSON"},
"max_bytes":{"type":"integer","description":"of the answer's body"}}})";

/// The gateway's own answers before a request has come to any handler (docs/functions-gateway.md).
constexpr std::array<std::string_view, 4> kNeverReached{"unavailable", "queue_timeout",
                                                        "overloaded", "too_many"};

struct FunctionPlan {
  std::string function;
  http::Request request;
  std::size_t body_bytes_max = kAnswerBytesUsual;
};

Result<FunctionPlan> read_function_plan(json::value const& given) {
  Arguments args(given, "function");
  args.only({"function", "method", "path", "headers", "body", "max_bytes"});
  FunctionPlan plan;
  plan.function = args.required_text("function");
  plan.request.method = args.text("method", "POST");
  plan.request.target = args.text("path", "/");
  auto const letter = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (plan.request.method.empty() || !std::ranges::all_of(plan.request.method, letter))
    args.refuse("method", "is no method in capital letters, such as GET or POST");
  if (auto const target = http::parse_target(plan.request.target); !target)
    args.refuse("path", fmt::format("cannot be used: {}", target.error().message()));
  read_content(args, plan.request);
  plan.body_bytes_max = args.number("max_bytes", 1, kAnswerBytesMost).value_or(kAnswerBytesUsual);
  TRY(args.status());
  return plan;
}

/// The `code` of an answer that the gateway made itself; empty for a handler's.
std::string gateway_code(std::string_view function, http::Response const& response) {
  if (response.headers.find("X-Aether-Start") != nullptr) return {};
  auto const body = parse_json(response.body, "answer");
  if (!body || !body->is_object()) return {};
  json::object const& object = body->get_object();
  auto const* const code = object.if_contains("code");
  auto const* const whose = object.if_contains("function");
  bool const own = code != nullptr && code->is_string() && object.contains("call_id") &&
                   whose != nullptr && whose->is_string() && whose->get_string() == function;
  return own ? std::string(std::string_view(code->get_string())) : std::string();
}

Verdict judge_function(FunctionPlan const& plan, http::Response const& response) {
  std::string const code = gateway_code(plan.function, response);
  if (std::ranges::find(kNeverReached, code) != kNeverReached.end())
    return {.outcome = EffectOutcome::NotExecuted, .retryable = true};
  if (code == "bad_request" || code == "head_too_large")
    return {.outcome = EffectOutcome::NotExecuted};
  // The gateway was asked and a handler began: what it did, nobody saw, GET or not.
  if (!code.empty()) return {.outcome = EffectOutcome::Unknown};
  return judge_status(plan.request.method, response.status);
}

class FunctionTool final : public Tool {
 public:
  explicit FunctionTool(FunctionPorts const& ports) : ports_(ports), web_("") {}

  [[nodiscard]] std::string_view name() const override { return "function"; }
  [[nodiscard]] std::string_view description() const override {
    return "Sends one request to one of Aether's own functions and returns its answer.";
  }
  [[nodiscard]] json::value schema() const override {
    return or_throw(parse_json(kFunctionSchema, "schema"));
  }
  [[nodiscard]] Status check(json::value const& args) const override {
    TRY(read_function_plan(args));
    return {};
  }
  [[nodiscard]] async::Task<CallResult> call(Call call) override;

 private:
  FunctionPorts const& ports_;
  WebCaller web_;
};

async::Task<CallResult> FunctionTool::call(Call call) {
  auto plan = read_function_plan(call.args);
  CallResult refused{.outcome = EffectOutcome::NotExecuted};
  if (!plan) {
    refused.error = plan.error().message();
    co_return refused;
  }
  auto const port = ports_.port_of(plan->function);
  if (!port) {
    // A deploy may bring it: functions come and go while jobs live.
    refused.retryable = true;
    refused.error = port.error().message();
    co_return refused;
  }
  add_key(plan->request, call.key);
  WebCall request{.url = {.host = "127.0.0.1", .port = *port, .target = plan->request.target},
                  .request = plan->request,
                  .timeout = call.timeout,
                  .body_bytes_max = plan->body_bytes_max};
  async::Task<WebAnswer> performing = web_.perform(std::move(request));
  WebAnswer const answer = co_await std::move(performing);
  if (!answer.response) co_return failed_result(answer);
  co_return web_result(fmt::format("the function {}", plan->function),
                       judge_function(*plan, *answer.response), answer);
}

}  // namespace

std::unique_ptr<Tool> make_function_tool(FunctionPorts const& ports) {
  return std::make_unique<FunctionTool>(ports);
}

}  // namespace aether::tools
