// SPDX-License-Identifier: Apache-2.0
#include "jobs/planner.h"

#include <utility>

#include <fmt/format.h>

#include "jobs/agent_driver.h"
#include "jobs/expand.h"
#include "jobs/plan_rules.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

constexpr std::uint32_t kPlanTries = 2;

constexpr std::string_view kPlanInstructions =
    "Turn the goal of the user into a task graph. Answer with one JSON object and nothing else: "
    "{\"nodes\": [...], \"output\": ...}. A node is {\"id\", \"type\", \"after\": [ids], \"with\": "
    "{...}, \"when\"}. Types: \"tool\" with \"tool\": NAME and its arguments in \"with\"; \"llm\" "
    "with {\"prompt\"}; \"wait\" with {\"for\": \"30s\"} or {\"signal\": NAME}; \"approval\" with "
    "{\"title\"}; \"condition\" with \"if\", \"then\": [ids], \"else\": [ids]; \"value\". A text "
    "may hold ${id.member} of an earlier node and ${input.member}. Use only tools that are listed.";

std::string tool_lines(Agent const& planner) {
  std::string lines;
  for (AgentTool const& tool : planner.tools) {
    lines += fmt::format("\n- {}: {} {}", tool.name, tool.description,
                         tool.parameters.is_null() ? "" : canonical_json(tool.parameters));
  }
  return lines.empty() ? "\nThere are no tools." : "\nTools:" + lines;
}

std::string answer_in(RunMemory& memory, RunState const& state, std::uint32_t occurrence) {
  auto const id = memory.effect_of(state, std::string(kPlanPath), "llm", occurrence);
  auto const effect = state.effects.find(id);
  if (effect == state.effects.end()) return {};
  auto const message = message_of(effect->second.settled.result);
  return message ? content_of(*message) : std::string();
}

}  // namespace

Result<json::value> graph_in_answer(std::string_view answer) {
  auto const begin = answer.find('{');
  auto const end = answer.rfind('}');
  if (begin == std::string_view::npos || end == std::string_view::npos || end < begin)
    return fail(ErrorCode::RequestInvalid, "the answer has no JSON object in it");
  TRY_ASSIGN(json::value graph, parse_json(answer.substr(begin, end - begin + 1), "plan"));
  TRY(parse_graph(graph));
  return graph;
}

/// One look at one state, while there is no plan.
class PlanTurn {
 public:
  PlanTurn(PlanDriver const& driver, RunState const& state) : driver_(driver), state_(state) {}

  std::vector<Decision> run() {
    auto const step = state_.steps.find(kPlanPath);
    if (step == state_.steps.end()) {
      if (state_.cancel_requested) return {EndRun{RunOutcome::Cancelled, {}, reason()}};
      decisions_.emplace_back(BeginStep{path(), StepKind::Plan, 1, input()});
      if (driver_.planner_)
        decisions_.emplace_back(call(1));
      else
        end_by_rules({});
      return std::move(decisions_);
    }
    auto diverged =
        driver_.memory_.compare(path(), step->second, StepKind::Plan, [&] { return input(); });
    if (diverged) return {std::move(*diverged)};
    if (!step->second.open)
      return {EndRun{state_.cancel_requested ? RunOutcome::Cancelled : RunOutcome::Failed,
                     {},
                     step->second.error}};
    if (driver_.planner_)
      look_at(1);
    else
      end_by_rules({});
    return std::move(decisions_);
  }

 private:
  static std::string path() { return std::string(kPlanPath); }
  [[nodiscard]] std::string reason() const {
    return state_.cancel_reason.empty() ? "the run was cancelled" : state_.cancel_reason;
  }

  [[nodiscard]] json::value input() const {
    json::object input{{"goal", driver_.goal_}};
    if (!state_.opening.spec.input.is_null()) input["input"] = state_.opening.spec.input;
    if (driver_.planner_) input["model"] = driver_.planner_->model;
    return input;
  }

  /// Try 1 asks for the graph; try 2 has the first answer and its mistakes as well.
  [[nodiscard]] CallTool call(std::uint32_t attempt) const {
    Agent const& planner = *driver_.planner_;
    json::array messages;
    messages.push_back(
        {{"role", "system"}, {"content", std::string(kPlanInstructions) + tool_lines(planner)}});
    std::string wish = driver_.goal_;
    if (!planner.instructions.empty()) wish = planner.instructions + "\n\n" + wish;
    json::value const& given = state_.opening.spec.input;
    if (!given.is_null()) wish += "\n\nThe input is: " + text_of_value(given);
    messages.push_back({{"role", "user"}, {"content", std::move(wish)}});
    if (attempt > 1) {
      std::string const answer = answer_in(driver_.memory_, state_, 1);
      auto const graph = graph_in_answer(answer);
      messages.push_back({{"role", "assistant"}, {"content", answer}});
      messages.push_back({{"role", "user"},
                          {"content", "That is no task graph:\n" +
                                          (graph ? std::string() : graph.error().message()) +
                                          "\nAnswer with the whole graph, mended."}});
    }
    json::object args = planner.options;
    if (!planner.model.empty()) args["model"] = planner.model;
    args["messages"] = std::move(messages);
    CallTool call;
    call.path = path();
    call.occurrence = attempt;
    call.tool = "llm";
    call.args = std::move(args);
    call.policy = planner.policy;
    call.timeout = planner.timeout;
    return call;
  }

  void look_at(std::uint32_t attempt) {
    auto const& id = driver_.memory_.effect_of(state_, path(), "llm", attempt);
    auto const effect = state_.effects.find(id);
    if (effect == state_.effects.end()) {
      if (state_.cancel_requested)
        cancel();
      else
        decisions_.emplace_back(call(attempt));
      return;
    }
    if (effect->second.open) return;
    if (state_.cancel_requested) return cancel();
    auto const& settled = effect->second.settled;
    bool const harmless = effect->second.intent.policy == Policy::Read ||
                          effect->second.intent.policy == Policy::Keyed;
    if (settled.outcome == EffectOutcome::Unknown && !harmless) return;
    bool const is_lost =
        settled.outcome == EffectOutcome::Unknown || settled.outcome == EffectOutcome::NotExecuted;
    if (is_lost && settled.by == SettledBy::Recovery) {
      decisions_.emplace_back(call(attempt));
      return;
    }
    if (settled.outcome != EffectOutcome::Ok)
      return end_by_rules("the model could not be asked: " + settled.error);
    auto graph = graph_in_answer(answer_in(driver_.memory_, state_, attempt));
    if (graph)
      end("model", std::move(*graph), {});
    else if (attempt < kPlanTries)
      look_at(attempt + 1);
    else
      end_by_rules("the model gave no graph: " + graph.error().message());
  }

  void cancel() {
    end_waits_under(state_, kPlanPath, decisions_);
    decisions_.emplace_back(EndStep{path(), StepOutcome::Failed, {}, reason()});
  }

  void end_by_rules(std::string why) {
    std::string const model = driver_.planner_ ? driver_.planner_->model : std::string();
    end("rules", plan_by_rules(driver_.goal_, model), std::move(why));
  }

  void end(std::string_view by, json::value graph, std::string why) {
    json::object result{{"by", by}, {"graph", std::move(graph)}};
    if (!why.empty()) result["why"] = std::move(why);
    auto const outcome = driver_.planner_ ? StepOutcome::Committed : StepOutcome::Pure;
    decisions_.emplace_back(EndStep{path(), outcome, std::move(result), {}});
  }

  PlanDriver const& driver_;
  RunState const& state_;
  std::vector<Decision> decisions_;
};

PlanDriver::PlanDriver(std::string goal, std::optional<Agent> planner)
    : goal_(std::move(goal)), planner_(std::move(planner)) {}

std::vector<Decision> PlanDriver::decide(RunState const& state) const {
  if (state.closing) return {};
  auto const step = state.steps.find(kPlanPath);
  bool const planned = step != state.steps.end() && succeeded(step->second);
  if (!planned) return PlanTurn(*this, state).run();
  if (!graph_driver_ || planned_for_ != state.id.text) {
    auto const* result = step->second.result.if_object();
    auto const* recorded = result == nullptr ? nullptr : result->if_contains("graph");
    auto graph = parse_graph(recorded == nullptr ? json::value() : *recorded);
    if (!graph) return {Diverged{"the recorded plan is no task graph: " + graph.error().message()}};
    graph_driver_ = std::make_unique<GraphDriver>(std::move(*graph), std::string(kPlanPath) + "/");
    planned_for_ = state.id.text;
  }
  return graph_driver_->decide(state);
}

}  // namespace aether::jobs
