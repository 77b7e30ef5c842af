// SPDX-License-Identifier: Apache-2.0
#include "tools/http_tool.h"

#include <algorithm>
#include <utility>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/fault.h"
#include "base/json.h"
#include "tools/arguments.h"
#include "tools/web.h"
#include "tools/web_result.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

constexpr int kRedirectsMax = 5;
/// Where the key goes in a lookup; also written as "${key}", which in a graph is a reference.
constexpr std::string_view kKeyPlace = "{key}";

constexpr std::string_view kHttpSchema = R"({"type":"object","required":["url"],
"additionalProperties":false,"properties":{
"method":{"type":"string","default":"GET"},
"url":{"type":"string","description":"http:// or https://"},
"headers":{"type":"object","additionalProperties":{"type":"string"}},
"body":{"description":"a string as it is, any other value as JSON"},
"expect":{"type":"array","items":{"type":"integer"},"description":"statuses that are a yes"},
"max_bytes":{"type":"integer","description":"of the answer's body"},
"lookup":{"type":"object","required":["url"],"description":"asks by {key} whether it was done",
"properties":{"method":{"type":"string","default":"GET"},"url":{"type":"string"},
"headers":{"type":"object"},"found":{"type":"string","description":"JSON Pointer"}}}}})";

struct HttpPlan {
  http::Url url;
  http::Request request;
  std::vector<int> expect;
  std::size_t body_bytes_max = kAnswerBytesUsual;
};
struct LookupPlan {
  http::Url url;
  http::Request request;
  std::string found;  ///< JSON Pointer to what is only there if the call was done.
};

std::string put_key(std::string_view text, std::string_view key) {
  std::string out;
  while (true) {
    std::size_t const at = text.find(kKeyPlace);
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    if (out.ends_with('$')) out.pop_back();
    out += key;
    text.remove_prefix(at + kKeyPlace.size());
  }
}

/// Reads `url`; refuses hosts that are not allowed.
http::Url read_url(Arguments& args, std::vector<std::string> const& hosts, std::string_view text) {
  if (!args.status()) return {};
  auto url = http::parse_web_url(text);
  if (!url) {
    args.refuse("url", fmt::format("cannot be used: {}", url.error().message()));
    return {};
  }
  if (!is_host_allowed(hosts, *url)) {
    args.refuse("url", fmt::format("names the host {}, which the tool's `hosts` do not allow",
                                   url->authority()));
  }
  return *std::move(url);
}

std::string read_method(Arguments& args) {
  std::string method = args.text("method", "GET");
  auto const letter = [](char c) { return (c >= 'A' && c <= 'Z') || c == '-' || c == '_'; };
  if (method.empty() || !std::ranges::all_of(method, letter) || method == "CONNECT")
    args.refuse("method", "is no method in capital letters, such as GET or POST");
  return method;
}

std::vector<int> read_expect(Arguments& args) {
  std::vector<int> statuses;
  json::value const* const given = args.find("expect");
  if (given == nullptr) return statuses;
  bool fits = given->is_array();
  for (std::size_t i = 0; fits && i < given->get_array().size(); ++i) {
    json::error_code error;
    int const status = given->get_array()[i].to_number<int>(error);
    fits = !error && status >= 200 && status <= 599;
    statuses.push_back(status);
  }
  if (!fits) args.refuse("expect", "is not a list of statuses from 200 to 599");
  return statuses;
}

Result<HttpPlan> read_plan(HttpOptions const& options, json::value const& given) {
  Arguments args(given, "http");
  args.only({"method", "url", "headers", "body", "expect", "max_bytes", "lookup"});
  HttpPlan plan;
  plan.request.method = read_method(args);
  plan.url = read_url(args, options.hosts, args.required_text("url"));
  plan.request.target = plan.url.target;
  read_content(args, plan.request);
  plan.expect = read_expect(args);
  plan.body_bytes_max = args.number("max_bytes", 1, kAnswerBytesMost).value_or(kAnswerBytesUsual);
  TRY(args.status());
  return plan;
}

Result<LookupPlan> read_lookup(HttpOptions const& options, json::value const& given,
                               std::string_view key) {
  Arguments outer(given, "http");
  json::value const* const lookup = outer.find("lookup");
  if (lookup == nullptr)
    return fail(ErrorCode::RequestInvalid, "http: lookup is missing: it says how to ask by key");
  Arguments args(*lookup, "http: lookup");
  args.only({"method", "url", "headers", "found"});
  LookupPlan plan;
  plan.request.method = read_method(args);
  plan.url =
      read_url(args, options.hosts, put_key(args.required_text("url"), http::percent_encode(key)));
  plan.request.target = plan.url.target;
  read_content(args, plan.request);
  for (auto const& [name, value] : args.pairs("headers"))
    plan.request.headers.set(name, put_key(value, key));
  plan.found = args.text("found");
  if (!plan.found.empty() && !plan.found.starts_with('/'))
    args.refuse("found", "is no JSON Pointer: it begins with /");
  TRY(args.status());
  return plan;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

class HttpTool final : public Tool {
 public:
  explicit HttpTool(HttpOptions options) : options_(std::move(options)), web_(options_.ca_file) {}

  [[nodiscard]] std::string_view name() const override { return "http"; }
  [[nodiscard]] std::string_view description() const override {
    return "Sends one HTTP request and returns the status, headers and body of the answer.";
  }
  [[nodiscard]] json::value schema() const override {
    return or_throw(parse_json(kHttpSchema, "schema"));
  }
  [[nodiscard]] Status check(json::value const& args) const override {
    TRY(read_plan(options_, args));
    if (can_look_up(args)) TRY(read_lookup(options_, args, "key"));
    return {};
  }
  [[nodiscard]] bool can_look_up(json::value const& args) const override {
    return args.is_object() && args.get_object().contains("lookup");
  }
  [[nodiscard]] async::Task<CallResult> call(Call call) override;
  [[nodiscard]] async::Task<CallResult> look_up(Call call) override;

 private:
  /// Where a safe request is sent next, if anywhere. A mistake: nowhere, and why.
  Result<std::optional<http::Url>> next_place(HttpPlan const& plan, http::Response const& response,
                                              int redirects) const;
  static CallResult judge(HttpPlan const& plan, WebAnswer const& answer);

  HttpOptions options_;
  WebCaller web_;
};

Result<std::optional<http::Url>> HttpTool::next_place(HttpPlan const& plan,
                                                      http::Response const& response,
                                                      int redirects) const {
  bool const expected = std::ranges::find(plan.expect, response.status) != plan.expect.end();
  if (expected || !is_redirect(response.status) || !is_safe_method(plan.request.method))
    return std::nullopt;
  if (redirects >= kRedirectsMax)
    return fail(ErrorCode::LimitReached, fmt::format("more than {} redirects", kRedirectsMax));
  TRY_ASSIGN(http::Url next, redirect_target(plan.url, response.headers.get("Location")));
  if (!is_host_allowed(options_.hosts, next)) {
    return fail(
        ErrorCode::Forbidden,
        fmt::format("it leads to {}, which the tool's `hosts` do not allow", next.authority()));
  }
  if (plan.url.secure && !next.secure)
    return fail(ErrorCode::Forbidden, "it leads from https to http");
  return next;
}

CallResult HttpTool::judge(HttpPlan const& plan, WebAnswer const& answer) {
  int const status = answer.response->status;
  Verdict verdict = judge_status(plan.request.method, status);
  bool const expected = std::ranges::find(plan.expect, status) != plan.expect.end();
  if (expected) verdict = {};
  // It was done, and is not what was wanted: no second call would mend that.
  if (!plan.expect.empty() && !expected && verdict.outcome == EffectOutcome::Ok)
    verdict = {.outcome = EffectOutcome::Error};
  return web_result(describe_request(plan.request.method, plan.url), verdict, answer);
}

async::Task<CallResult> HttpTool::call(Call call) {
  auto read = read_plan(options_, call.args);
  if (!read)
    co_return CallResult{.outcome = EffectOutcome::NotExecuted, .error = read.error().message()};
  HttpPlan plan = std::move(*read);
  add_key(plan.request, call.key);
  for (int redirects = 0;; ++redirects) {
    WebCall request{.url = plan.url,
                    .request = plan.request,
                    .timeout = call.timeout,
                    .body_bytes_max = plan.body_bytes_max};
    async::Task<WebAnswer> performing = web_.perform(std::move(request));
    WebAnswer const answer = co_await std::move(performing);
    if (!answer.response) co_return failed_result(answer);
    auto const next = next_place(plan, *answer.response, redirects);
    if (next && !*next) co_return judge(plan, answer);
    if (!next) {
      CallResult refused = web_result(describe_request(plan.request.method, plan.url),
                                      {.outcome = EffectOutcome::Error}, answer);
      refused.error += fmt::format("; the redirect was not followed: {}", next.error().message());
      co_return refused;
    }
    if ((*next)->authority() != plan.url.authority() || (*next)->secure != plan.url.secure) {
      for (std::string_view const secret : {"Authorization", "Cookie", "Idempotency-Key"})
        plan.request.headers.remove(secret);
    }
    plan.url = **next;
    plan.request.target = plan.url.target;
  }
}

async::Task<CallResult> HttpTool::look_up(Call call) {
  CallResult result{.outcome = EffectOutcome::Unknown};
  auto read = read_lookup(options_, call.args, call.key);
  Status const passed = fault::pass(fault::Point::ToolsLookup);
  if (!read || !passed) {
    result.error = read ? passed.error().message() : read.error().message();
    co_return result;
  }
  WebCall request{.url = read->url, .request = read->request, .timeout = call.timeout};
  std::string const what = describe_request(read->request.method, read->url);
  async::Task<WebAnswer> performing = web_.perform(std::move(request));
  WebAnswer const answer = co_await std::move(performing);
  if (!answer.response) {
    result.error = fmt::format("asking what became of the call: {}", answer.error);
    co_return result;
  }
  result.result = web_value(*answer.response, answer.cut);
  int const status = answer.response->status;
  bool missing = status == 404 || status == 410;
  if (status / 100 == 2 && !read->found.empty()) {
    json::error_code error;
    json::value const& body = result.result.get_object()["body"];
    missing = body.find_pointer(read->found, error) == nullptr;
  }
  if (missing) {
    result.outcome = EffectOutcome::NotExecuted;
    result.retryable = true;
    result.error = fmt::format("{}: the other side does not know the key: it was not done", what);
  } else if (status / 100 == 2) {
    result.outcome = EffectOutcome::Ok;
  } else {
    result.error = fmt::format("{}: the answer was {}, which does not say what became of the call",
                               what, status);
  }
  co_return result;
}

}  // namespace

std::unique_ptr<Tool> make_http_tool(HttpOptions options) {
  return std::make_unique<HttpTool>(std::move(options));
}

}  // namespace aether::tools
