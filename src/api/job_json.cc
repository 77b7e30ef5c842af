// SPDX-License-Identifier: Apache-2.0
#include "api/job_json.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <boost/json.hpp>

#include "jobs/skip.h"

namespace aether::api {
namespace {

namespace json = boost::json;

json::value time_or_null(std::optional<WallTime> const& time) {
  return time ? json::value(format_rfc3339(*time)) : json::value();
}

json::value text_or_null(std::string const& text) {
  return text.empty() ? json::value() : json::value(text);
}

json::object budget_json(jobs::Budget const& budget) {
  json::object object;
  if (budget.steps) object["steps"] = *budget.steps;
  if (budget.calls) object["calls"] = *budget.calls;
  if (budget.tokens) object["tokens"] = *budget.tokens;
  if (budget.cost) object["cost"] = *budget.cost;
  if (budget.time) object["time"] = format_duration(*budget.time);
  return object;
}

json::array steps_json(jobs::RunState const& run) {
  std::vector<std::pair<std::string_view, jobs::StepState const*>> steps;
  for (auto const& [path, step] : run.steps) steps.emplace_back(path, &step);
  std::ranges::sort(steps, {},
                    [](auto const& each) { return std::pair(each.second->opened, each.first); });
  json::array all;
  for (auto const& [path, found] : steps) {
    jobs::StepState const& step = *found;
    json::object one{{"path", path},
                     {"kind", jobs::text_of(step.kind)},
                     {"attempt", step.attempt},
                     {"open", step.open},
                     {"opened", format_rfc3339(step.opened)}};
    if (!step.open) {
      one["outcome"] = jobs::text_of(step.outcome);
      one["closed"] = format_rfc3339(step.closed);
      one["result"] = step.result;
      one["error"] = text_or_null(step.error);
    }
    std::string_view const skip = jobs::skip_reason(step);
    if (!skip.empty()) one["skipped"] = skip;
    all.push_back(std::move(one));
  }
  return all;
}

json::array effects_json(jobs::RunState const& run) {
  json::array all;
  for (auto const& [id, effect] : run.effects) {
    json::object one{{"id", id},
                     {"path", effect.intent.path},
                     {"tool", effect.intent.tool},
                     {"policy", tools::text_of(effect.intent.policy)},
                     {"turn", effect.intent.turn},
                     {"open", effect.open}};
    if (!effect.open) {
      one["outcome"] = tools::text_of(effect.settled.outcome);
      one["by"] = jobs::text_of(effect.settled.by);
      one["error"] = text_or_null(effect.settled.error);
    }
    all.push_back(std::move(one));
  }
  return all;
}

/// The open ones: what somebody has to do, or what time it waits for.
json::array waits_json(jobs::RunState const& run) {
  json::array all;
  for (auto const& [path, wait] : run.waits) {
    if (!wait.open) continue;
    all.push_back(json::object{{"path", path},
                               {"kind", jobs::text_of(wait.opening.kind)},
                               {"name", text_or_null(wait.opening.name)},
                               {"effect", text_or_null(wait.opening.effect)},
                               {"deadline", time_or_null(wait.opening.deadline)},
                               {"form", wait.opening.schema},
                               {"opened", format_rfc3339(wait.opened)}});
  }
  return all;
}

std::string error_of(jobs::RunState const& run) {
  return run.closing ? run.closing->error : run.stuck;
}

}  // namespace

json::object run_json(jobs::RunState const& run) {
  jobs::RunSpec const& spec = run.opening.spec;
  json::object object{{"id", run.id.text},
                      {"name", spec.name},
                      {"namespace", spec.space},
                      {"status", jobs::text_of(run.status())},
                      {"queue", spec.queue},
                      {"priority", spec.priority},
                      {"input", spec.input},
                      {"output", run.closing ? run.closing->output : json::value()},
                      {"error", text_or_null(error_of(run))},
                      {"opened", format_rfc3339(run.opened)},
                      {"updated", format_rfc3339(run.updated)},
                      {"deadline", time_or_null(spec.deadline)},
                      {"not_before", time_or_null(spec.not_before)},
                      {"budget", budget_json(spec.budget)},
                      {"used", json::object{{"steps", run.steps_used},
                                            {"calls", run.calls_used},
                                            {"tokens", run.used.tokens},
                                            {"cost", run.used.cost}}},
                      {"sequence", run.sequence},
                      {"code_version", run.opening.code_version},
                      {"waits", waits_json(run)},
                      {"steps", steps_json(run)},
                      {"effects", effects_json(run)}};
  if (run.closing) object["outcome"] = jobs::text_of(run.closing->outcome);
  if (!spec.goal.empty()) object["goal"] = spec.goal;
  if (run.cancel_requested) object["cancel_reason"] = run.cancel_reason;
  if (run.opening.parent)
    object["parent"] =
        json::object{{"id", run.opening.parent->run.text}, {"path", run.opening.parent->path}};
  if (run.opening.forked_from) object["forked_from"] = run.opening.forked_from->text;
  if (!run.opening.schedule.empty()) object["schedule"] = run.opening.schedule;
  return object;
}

json::object run_summary_json(jobs::RunSummary const& run) {
  return {{"id", run.run.text},
          {"name", run.name},
          {"namespace", run.space},
          {"queue", run.queue},
          {"status", jobs::text_of(run.status)},
          {"opened", format_rfc3339(run.opened)},
          {"updated", format_rfc3339(run.updated)},
          {"detail", text_or_null(run.detail)}};
}

json::object counts_json(JobCounts const& counts) {
  json::object closed;
  for (auto const& [outcome, count] : counts.closed) closed[outcome] = count;
  auto const unknown = counts.calls.find("unknown");
  return {{"opened", counts.opened},
          {"closed", std::move(closed)},
          {"calls_unknown", unknown == counts.calls.end() ? 0 : unknown->second},
          {"events", counts.events},
          {"store_bytes", counts.store_bytes ? json::value(*counts.store_bytes) : json::value()}};
}

json::object run_event_json(journal::Event const& event) {
  boost::system::error_code ec;
  json::value body = json::parse(event.body, ec);
  return {{"sequence", event.sequence.value},
          {"position", event.position.value},
          {"type", event.kind},
          {"span", text_or_null(event.span)},
          {"mark", journal::text_of(event.mark)},
          {"time", format_rfc3339(event.at)},
          {"actor", event.actor},
          {"fence", event.fence.value},
          {"body", ec ? json::value(event.body) : std::move(body)}};
}

}  // namespace aether::api
