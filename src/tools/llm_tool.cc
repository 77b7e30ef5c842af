// SPDX-License-Identifier: Apache-2.0
#include "tools/llm_tool.h"

#include <algorithm>
#include <map>
#include <utility>

#include <boost/json/value.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "tools/arguments.h"
#include "tools/builtin_model.h"
#include "tools/chat.h"
#include "tools/web.h"
#include "tools/web_result.h"

namespace aether::tools {
namespace {

namespace json = boost::json;

constexpr double kPriceUnit = 1e6;

constexpr std::string_view kLlmSchema = R"({"type":"object","additionalProperties":false,
"properties":{"model":{"type":"string"},
"prompt":{"type":"string"},"system":{"type":"string"},
"messages":{"type":"array","items":{"type":"object"}},
"tools":{"type":"array","items":{"type":"object"}},
"temperature":{"type":"number"},"max_tokens":{"type":"integer"},"seed":{"type":"integer"},
"stop":{"type":"array","items":{"type":"string"}},
"json":{"type":"boolean","description":"the answer is to be one JSON object"},
"stream":{"type":"boolean"}}})";

struct ChatPlan {
  std::string model;
  json::value messages;
  json::value tools;
  json::object options;  ///< As they go on the wire.
  bool is_streamed = true;
};

Result<ChatPlan> read_chat_plan(LlmOptions const& options, json::value const& given) {
  Arguments args(given, "llm");
  args.only({"model", "prompt", "messages", "system", "tools", "temperature", "max_tokens", "stop",
             "seed", "json", "stream"});
  ChatPlan plan{.model = args.text("model", options.default_model)};
  if (plan.model.empty()) plan.model = options.default_model;
  if (auto const heat = args.real("temperature", 0, 2)) plan.options["temperature"] = *heat;
  if (auto const most = args.number("max_tokens", 1, 10'000'000))
    plan.options["max_tokens"] = *most;
  if (auto const seed = args.number("seed", 0, std::uint64_t{1} << 53U))
    plan.options["seed"] = *seed;
  if (auto const stop = args.texts("stop"); !stop.empty())
    plan.options["stop"] = json::array(stop.begin(), stop.end());
  if (args.flag("json", false)) plan.options["response_format"] = {{"type", "json_object"}};
  plan.is_streamed = args.flag("stream", true);
  TRY(args.status());
  TRY_ASSIGN(plan.messages, wire_messages(given));
  TRY_ASSIGN(plan.tools, wire_tools(given));
  return plan;
}

std::string request_body(ChatPlan const& plan, ModelSpec const& model, bool is_streamed) {
  json::object body = plan.options;
  body["model"] = model.model;
  body["messages"] = plan.messages;
  if (!plan.tools.get_array().empty()) body["tools"] = plan.tools;
  if (is_streamed) {
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
  }
  return canonical_json(body);
}

/// No server's answer may bring the key back into a journal or a log.
std::string without_key(std::string text, std::string const& key) {
  if (key.empty()) return text;
  for (std::size_t at = text.find(key); at != std::string::npos; at = text.find(key, at))
    text.replace(at, key.size(), "***");
  return text;
}

/// What a call holds while its answer comes.
struct Listening {
  ChatAssembler assembler;
  std::optional<Error> fault;
  std::move_only_function<void(std::string_view)> progress;
};

async::Task<void> take_piece(Listening* listening, std::string chunk) {
  auto const added = listening->assembler.feed(chunk);
  if (!added) {
    listening->fault = added.error();
    throw added.error();
  }
  if (!added->empty() && listening->progress) listening->progress(*added);
  co_return;
}

CallResult finished(ChatAnswer const& answer, ModelSpec const& model) {
  CallResult result{.result = chat_value(answer)};
  if (!answer.usage) return result;
  result.tokens = answer.usage->prompt + answer.usage->completion;
  result.cost = (static_cast<double>(answer.usage->prompt) * model.input_price +
                 static_cast<double>(answer.usage->completion) * model.output_price) /
                kPriceUnit;
  return result;
}

class LlmTool final : public Tool {
 public:
  explicit LlmTool(LlmOptions options) : options_(std::move(options)), web_(options_.ca_file) {
    for (ModelSpec const& model : options_.models) models_.emplace(model.name, model);
  }

  [[nodiscard]] std::string_view name() const override { return "llm"; }
  [[nodiscard]] Policy default_policy() const override { return options_.policy; }
  [[nodiscard]] std::string_view description() const override {
    return "Asks a language model and returns its text and the tools it wants to call.";
  }
  [[nodiscard]] json::value schema() const override {
    return or_throw(parse_json(kLlmSchema, "schema"));
  }
  [[nodiscard]] Status check(json::value const& args) const override;
  [[nodiscard]] async::Task<CallResult> call(Call call) override;

 private:
  async::Task<CallResult> ask_builtin(ChatPlan plan, Call call);
  async::Task<CallResult> ask(ModelSpec const* model, ChatPlan plan, Call call);
  [[nodiscard]] bool knows(std::string const& model) const {
    return model == kBuiltinModel || models_.contains(model);
  }

  LlmOptions options_;
  std::map<std::string, ModelSpec> models_;
  WebCaller web_;
};

Status LlmTool::check(json::value const& args) const {
  TRY_ASSIGN(ChatPlan const plan, read_chat_plan(options_, args));
  if (knows(plan.model)) return {};
  std::string known(kBuiltinModel);
  for (auto const& [name, model] : models_) known += ", " + name;
  return fail(ErrorCode::RequestInvalid,
              fmt::format("llm: model {} is not known; there are {}", plan.model, known));
}

async::Task<CallResult> LlmTool::call(Call call) {
  auto plan = read_chat_plan(options_, call.args);
  Status const checked = check(call.args);
  if (!plan || !checked) {
    co_return CallResult{.outcome = EffectOutcome::NotExecuted,
                         .error = plan ? checked.error().message() : plan.error().message()};
  }
  auto const model = models_.find(plan->model);
  bool const is_builtin = model == models_.end() || model->second.base_url.empty();
  async::Task<CallResult> asking = is_builtin
                                       ? ask_builtin(std::move(*plan), std::move(call))
                                       : ask(&model->second, std::move(*plan), std::move(call));
  co_return co_await std::move(asking);
}

async::Task<CallResult> LlmTool::ask_builtin(ChatPlan plan, Call call) {
  ChatAnswer const answer = ask_builtin_model(plan.messages, plan.tools);
  if (plan.is_streamed && call.progress) {
    for (std::string_view const piece : pieces_of(answer.content)) {
      call.progress(piece);
    }
  }
  co_return finished(answer, {});
}

async::Task<CallResult> LlmTool::ask(ModelSpec const* model, ChatPlan plan, Call call) {
  bool const is_streamed = plan.is_streamed && call.progress != nullptr;
  Listening listening{.progress = std::move(call.progress)};
  WebCall request{.url = or_throw(http::parse_web_url(model->base_url)), .timeout = call.timeout};
  request.url.target = request.url.target.substr(0, request.url.target.find_last_not_of('/') + 1);
  request.url.target += "/chat/completions";
  request.request.method = "POST";
  request.request.target = request.url.target;
  request.request.headers.set("Content-Type", "application/json");
  request.request.headers.set("Accept", is_streamed ? "text/event-stream" : "application/json");
  if (!model->api_key.empty())
    request.request.headers.set("Authorization", fmt::format("Bearer {}", model->api_key));
  add_key(request.request, call.key);
  request.request.body = request_body(plan, *model, is_streamed);
  request.body_bytes_max = kAnswerBytesMost;
  request.on_chunk = [&listening](std::string chunk) {
    return take_piece(&listening, std::move(chunk));
  };
  std::string const what = fmt::format("asking the model {}", model->name);
  async::Task<WebAnswer> performing = web_.perform(std::move(request));
  WebAnswer const answer = co_await std::move(performing);
  CallResult result;
  if (!answer.response && listening.fault) {
    // It answered, and the answer is of no use: that is a "no", and it was paid for.
    result.outcome = EffectOutcome::Error;
    result.retryable = true;
    result.error = fmt::format("{}: {}", what, listening.fault->message());
  } else if (!answer.response) {
    result = failed_result(answer);
  } else if (int const status = answer.response->status; status / 100 != 2) {
    Verdict verdict = judge_status("POST", status);
    if (verdict.outcome == EffectOutcome::Ok) verdict = {.outcome = EffectOutcome::Error};
    result = web_result(what, verdict, answer);
    result.result = {{"status", status}};
    if (auto const wait = retry_after(*answer.response)) {
      result.result.get_object()["retry_after_ms"] =
          std::chrono::duration_cast<std::chrono::milliseconds>(*wait).count();
    }
  } else if (auto const whole = std::move(listening.assembler).finish(); whole && !answer.cut) {
    result = finished(*whole, *model);
  } else {
    result.outcome = EffectOutcome::Unknown;
    result.error =
        fmt::format("{}: {}", what, whole ? "the answer is too long" : whole.error().message());
  }
  result.error = without_key(std::move(result.error), model->api_key);
  co_return result;
}

}  // namespace

Result<std::unique_ptr<Tool>> make_llm_tool(LlmOptions options) {
  std::map<std::string, int> seen{{std::string(kBuiltinModel), 1}};
  for (ModelSpec const& model : options.models) {
    auto const mistake = [&](std::string_view why) {
      return fail(ErrorCode::ConfigInvalid, fmt::format("the model {}: {}", model.name, why));
    };
    if (++seen[model.name] > 1) return mistake("there is another one of that name");
    if (model.base_url.empty()) continue;
    auto const url = http::parse_web_url(model.base_url);
    if (!url) return mistake(url.error().message());
    if (url->target.contains('?')) return mistake("its base_url has a query");
    if (model.model.empty()) return mistake("it needs a model: how its server names it");
    auto const is_line = [](char c) { return c > ' ' && c < 0x7f; };
    if (!std::ranges::all_of(model.api_key, is_line))
      return mistake("its key has characters that cannot be sent in a header");
  }
  if (!seen.contains(options.default_model)) {
    return fail(ErrorCode::ConfigInvalid,
                fmt::format("the default model {} is none of the models", options.default_model));
  }
  return std::make_unique<LlmTool>(std::move(options));
}

}  // namespace aether::tools
