// SPDX-License-Identifier: Apache-2.0
#include "jobs/agent_driver.h"

#include <algorithm>

#include <fmt/format.h>

#include "jobs/expand.h"
#include "jobs/json_form.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

/// A call of the model changes nothing, and models are often busy for a moment.
constexpr Retry kModelRetry{3, std::chrono::seconds(1), std::chrono::seconds(30)};
/// Calls in one answer of the model; the rest is told to it as refused.
constexpr std::size_t kCallsPerAnswerMax = 64;

std::string text_member(json::object const& object, std::string_view name) {
  auto const* value = object.if_contains(name);
  auto const* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string() : std::string(text->data(), text->size());
}

/// What the model asks for, read from one item of `tool_calls`.
struct AskedCall {
  std::string id;
  std::string name;
  std::string arguments;  ///< As the model wrote them.
};
/// In OpenAI's form, {id, function: {name, arguments}}, or as the llm tool gives it, without
/// `function` between.
AskedCall asked_call(json::value const& value) {
  AskedCall asked;
  auto const* call = value.if_object();
  if (call == nullptr) return asked;
  asked.id = text_member(*call, "id");
  auto const* function = call->if_contains("function");
  if (function != nullptr && function->is_object()) call = &function->get_object();
  asked.name = text_member(*call, "name");
  auto const* arguments = call->if_contains("arguments");
  if (arguments != nullptr) asked.arguments = text_of_value(*arguments);
  return asked;
}

/// The calls of a message in OpenAI's form.
void normalize_calls(json::object& message) {
  auto* calls = message.if_contains("tool_calls");
  if (calls == nullptr || !calls->is_array() || calls->get_array().empty()) {
    message.erase("tool_calls");
    return;
  }
  for (json::value& call : calls->get_array()) {
    AskedCall asked = asked_call(call);
    json::object function{{"name", asked.name}, {"arguments", asked.arguments}};
    call = {{"id", asked.id}, {"type", "function"}, {"function", std::move(function)}};
  }
}

/// The call of a tool that an answer asks for, or why it cannot be made.
struct BoundCall {
  AgentTool const* tool = nullptr;
  json::value args;
  std::string refusal;
};

BoundCall bind_call(Agent const& agent, AskedCall const& asked) {
  BoundCall bound;
  AgentTool const* tool = agent.find(asked.name);
  if (tool == nullptr) {
    std::string names;
    for (AgentTool const& known : agent.tools) names += (names.empty() ? "" : ", ") + known.name;
    bound.refusal = fmt::format("there is no tool \"{}\"; there are: {}", asked.name.substr(0, 80),
                                names.empty() ? "none" : names);
    return bound;
  }
  auto args = parse_json(asked.arguments.empty() ? "{}" : asked.arguments, "arguments");
  if (!args || !args->is_object()) {
    bound.refusal = args ? "the arguments are not an object" : args.error().message();
    return bound;
  }
  auto const mistakes = form_mistakes(tool->parameters, *args);
  if (!mistakes.empty()) {
    bound.refusal = "the arguments do not fit: " + mistakes.front();
    return bound;
  }
  bound.tool = tool;
  if (tool->with.is_null()) {
    bound.args = std::move(*args);
    return bound;
  }
  auto filled =
      expand(tool->with, [&](std::string_view head) { return head == "args" ? &*args : nullptr; });
  if (filled)
    bound.args = std::move(*filled);
  else
    bound.refusal = filled.error().message();
  return bound;
}

json::value refusal_value(std::string_view reason) {
  return json::object{{"error", reason}};
}

class AgentTurn {
 public:
  AgentTurn(RunState const& state, Agent const& agent, json::value const& input,
            std::string const& prefix, Pace pace, RunMemory& memory)
      : state_(state),
        agent_(agent),
        input_(input),
        prefix_(prefix),
        pace_(pace),
        memory_(memory) {}

  AgentProgress run() {
    messages_ = first_messages(agent_, input_);
    for (int n = 1; n <= agent_.max_iterations; ++n)
      if (!iterate(n)) break;
    return std::move(progress_);
  }

 private:
  /// Whether the next answer of the model is to be asked for.
  bool iterate(int n) {
    CallStep const call = model_call(n);
    auto const step = state_.steps.find(call.path);
    if (step == state_.steps.end()) return begin_model(call);
    ++progress_.steps;
    if (differs(call.path, step->second, call.kind, call.input)) return false;
    if (!is_over(state_, call.path, step->second, pace_)) {
      advance_call(state_, call, pace_, memory_, progress_.decisions);
      return false;
    }
    if (!succeeded(step->second))
      return give_up(fmt::format("call {} of the model failed: {}", n, step->second.error));
    auto message = message_of(step->second.result);
    if (!message)
      return give_up(
          fmt::format("answer {} of the model has no message in it; the llm tool must "
                      "give {{message}} or {{content}}",
                      n));
    json::value const* calls = message->if_contains("tool_calls");
    if (calls == nullptr || !calls->is_array() || calls->get_array().empty()) {
      progress_.output = json::value{{"text", content_of(*message)}, {"iterations", n}};
      return false;
    }
    if (n == agent_.max_iterations) return too_many(calls->get_array());
    return call_tools(n, std::move(*message));
  }

  bool begin_model(CallStep const& call) {
    if (pace_ == Pace::On)
      begin_call(call, progress_.decisions);
    else
      give_up("the run ends");
    return false;
  }

  bool give_up(std::string reason) {
    progress_.error = std::move(reason);
    return false;
  }

  bool too_many(json::array const& calls) {
    std::string names;
    for (json::value const& call : calls)
      names += (names.empty() ? "" : ", ") + asked_call(call).name;
    return give_up(
        fmt::format("the agent {} called its model {} times, which is its "
                    "max_iterations, and it still asks for {}; raise max_iterations, "
                    "or tell it when to stop",
                    agent_.name, agent_.max_iterations, names));
  }

  bool differs(std::string const& path, StepState const& step, StepKind kind,
               json::value const& input) {
    auto diverged = memory_.compare(path, step, kind, [&] { return input; });
    if (!diverged) return false;
    progress_.decisions.assign(1, std::move(*diverged));
    return true;
  }

  CallStep model_call(int n) {
    json::object args = agent_.options;
    if (!agent_.model.empty()) args["model"] = agent_.model;
    args["messages"] = messages_;
    if (!agent_.tools.empty()) args["tools"] = tools_for_model(agent_);
    CallStep call;
    call.path = fmt::format("{}model.{}", prefix_, n);
    call.kind = StepKind::Model;
    call.tool = "llm";
    call.args = args;
    call.input = {{"tool", "llm"}, {"with", std::move(args)}};
    call.policy = agent_.policy;
    call.timeout = agent_.timeout;
    call.retry = kModelRetry;
    return call;
  }

  /// Whether all calls of the answer are over. They run side by side.
  bool call_tools(int n, json::object message) {
    json::array const calls = message["tool_calls"].as_array();
    messages_.push_back(std::move(message));
    bool all_over = true;
    for (std::size_t m = 0; m < calls.size(); ++m) {
      bool const over = call_one(n, m, asked_call(calls[m]));
      if (has_diverged()) return false;
      all_over = all_over && over;
    }
    return all_over;
  }
  [[nodiscard]] bool has_diverged() const {
    return progress_.decisions.size() == 1 &&
           std::holds_alternative<Diverged>(progress_.decisions.front());
  }

  bool call_one(int n, std::size_t m, AskedCall const& asked) {
    BoundCall bound = bind_call(agent_, asked);
    if (m >= kCallsPerAnswerMax)
      bound.refusal = fmt::format("one answer may ask for {} calls", kCallsPerAnswerMax);
    std::string const path = fmt::format("{}tool.{}.{}", prefix_, n, m + 1);
    json::value const input = {
        {"tool", asked.name},
        {"args", bound.refusal.empty() ? bound.args : json::value(asked.arguments)}};
    auto const step = state_.steps.find(path);
    if (step != state_.steps.end()) {
      ++progress_.steps;
      if (differs(path, step->second, StepKind::Tool, input)) return false;
    }
    if (!bound.refusal.empty()) return refuse(path, asked, bound.refusal, input);
    CallStep call;
    call.path = path;
    call.input = input;
    call.tool = bound.tool->tool;
    call.args = std::move(bound.args);
    call.policy = bound.tool->policy;
    call.timeout = bound.tool->timeout;
    if (step == state_.steps.end()) {
      if (pace_ == Pace::On) begin_call(call, progress_.decisions);
      return false;
    }
    if (!is_over(state_, path, step->second, pace_)) {
      advance_call(state_, call, pace_, memory_, progress_.decisions);
      return false;
    }
    tell(asked, succeeded(step->second) ? step->second.result : failure_value(step->second));
    return true;
  }

  static json::value failure_value(StepState const& step) {
    json::object failure{{"error", step.error}};
    if (!step.result.is_null()) failure["result"] = step.result;
    return failure;
  }

  bool refuse(std::string const& path, AskedCall const& asked, std::string const& refusal,
              json::value const& input) {
    auto const step = state_.steps.find(path);
    json::value const answer = refusal_value(refusal);
    if (step == state_.steps.end()) {
      if (pace_ != Pace::On) return false;
      progress_.decisions.emplace_back(BeginStep{path, StepKind::Tool, 1, input});
    }
    if (step == state_.steps.end() || step->second.open) {
      progress_.decisions.emplace_back(EndStep{path, StepOutcome::Pure, answer, {}});
      return false;
    }
    tell(asked, step->second.result);
    return true;
  }

  void tell(AskedCall const& asked, json::value const& result) {
    messages_.push_back(
        {{"role", "tool"}, {"tool_call_id", asked.id}, {"content", text_of_value(result)}});
  }

  RunState const& state_;
  Agent const& agent_;
  json::value const& input_;
  std::string const& prefix_;
  Pace pace_;
  RunMemory& memory_;
  json::array messages_;
  AgentProgress progress_;
};

/// A step under the prefix that the loop has not come by; "" if there is none.
std::string unknown_step(RunState const& state, std::string const& prefix, std::size_t known) {
  std::size_t recorded = 0;
  std::string last;
  for (auto it = state.steps.lower_bound(prefix);
       it != state.steps.end() && it->first.starts_with(prefix); ++it) {
    ++recorded;
    last = it->first;
  }
  return recorded > known ? last : std::string();
}

}  // namespace

std::optional<json::object> message_of(json::value const& result) {
  auto const* object = result.if_object();
  if (object == nullptr) return std::nullopt;
  json::value const* message = object->if_contains("message");
  auto const* choices = object->if_contains("choices");
  if (message == nullptr && choices != nullptr && choices->is_array() &&
      !choices->get_array().empty() && choices->get_array()[0].is_object())
    message = choices->get_array()[0].get_object().if_contains("message");
  if (message != nullptr && message->is_object()) {
    json::object found = message->get_object();
    found["role"] = "assistant";
    normalize_calls(found);
    return found;
  }
  json::object made{{"role", "assistant"}};
  bool any = false;
  for (std::string_view const name : {"content", "tool_calls"}) {
    auto const* value = object->if_contains(name);
    if (value == nullptr) continue;
    made[name] = *value;
    any = true;
  }
  if (!any) return std::nullopt;
  normalize_calls(made);
  return made;
}

std::string content_of(json::object const& message) {
  auto const* content = message.if_contains("content");
  if (content == nullptr || content->is_null()) return {};
  return text_of_value(*content);
}

json::array first_messages(Agent const& agent, json::value const& input) {
  json::array messages;
  if (!agent.instructions.empty())
    messages.push_back({{"role", "system"}, {"content", agent.instructions}});
  auto const* object = input.if_object();
  auto const* given = object == nullptr ? nullptr : object->if_contains("messages");
  if (given != nullptr && given->is_array()) {
    for (json::value const& message : given->get_array()) messages.push_back(message);
    return messages;
  }
  auto const* prompt = object == nullptr ? nullptr : object->if_contains("prompt");
  bool const asks = prompt != nullptr && prompt->is_string() && object->size() == 1;
  std::string content = input.is_null() ? "" : text_of_value(asks ? *prompt : input);
  messages.push_back({{"role", "user"}, {"content", std::move(content)}});
  return messages;
}

AgentProgress advance_agent(RunState const& state, Agent const& agent, json::value const& input,
                            std::string const& prefix, Pace pace, RunMemory& memory) {
  AgentProgress progress = AgentTurn(state, agent, input, prefix, pace, memory).run();
  std::string const unknown = unknown_step(state, prefix, progress.steps);
  if (!unknown.empty()) {
    bool const diverged = progress.decisions.size() == 1 &&
                          std::holds_alternative<Diverged>(progress.decisions.front());
    if (!diverged) {
      progress = {};
      progress.decisions.emplace_back(Diverged{fmt::format(
          "the history has a step \"{}\", which the agent {} does not come to now; resume with "
          "the declaration that recorded it, or fork",
          unknown, agent.name)});
    }
  }
  return progress;
}

std::vector<Decision> AgentDriver::decide(RunState const& state) const {
  if (state.closing) return {};
  Pace const pace = state.cancel_requested ? Pace::Cancelled : Pace::On;
  AgentProgress progress =
      advance_agent(state, agent_, state.opening.spec.input, {}, pace, memory_);
  if (!progress.decisions.empty() || !state.open_steps.empty()) return progress.decisions;
  if (progress.output) return {EndRun{RunOutcome::Succeeded, std::move(*progress.output), {}}};
  if (state.cancel_requested) return {EndRun{RunOutcome::Cancelled, {}, state.cancel_reason}};
  if (progress.error.empty()) return {};
  return {EndRun{RunOutcome::Failed, {}, std::move(progress.error)}};
}

}  // namespace aether::jobs
