// SPDX-License-Identifier: Apache-2.0
#include "jobs/graph_wait.h"

#include <utility>

#include <fmt/format.h>

#include "jobs/expand.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

std::string wait_text(json::value const& with, std::string_view name) {
  auto const* object = with.if_object();
  auto const* value = object == nullptr ? nullptr : object->if_contains(name);
  return value == nullptr || value->is_null() ? std::string() : text_of_value(*value);
}

EndStep failed_wait(std::string const& path, json::value result, std::string error) {
  return {path, StepOutcome::Failed, std::move(result), std::move(error)};
}

EndStep end_of_signal(GraphNode const& node, std::string const& path, WaitState const& wait) {
  bool const expired = wait.closing.end == WaitEnd::TimedOut;
  json::object result{{"signal", wait.opening.name},
                      {"decision", expired ? "expired" : "received"},
                      {"by", wait.closing.by},
                      {"payload", wait.closing.payload}};
  if (expired && node.on_expiry == Unhappy::Fail) {
    return failed_wait(path, std::move(result),
                       fmt::format("the signal \"{}\" did not come within {}", wait.opening.name,
                                   format_duration(node.timeout.value_or(Duration::zero()))));
  }
  return {path, StepOutcome::Pure, std::move(result), {}};
}

EndStep end_of_approval(GraphNode const& node, std::string const& path, WaitState const& wait) {
  bool const rejected = wait.closing.end == WaitEnd::Rejected;
  bool const expired = wait.closing.end == WaitEnd::TimedOut;
  std::string_view const word = rejected ? "rejected" : expired ? "expired" : "approved";
  json::object result{
      {"decision", word}, {"by", wait.closing.by}, {"content", wait.closing.payload}};
  if (rejected && node.on_reject == Unhappy::Fail) {
    return failed_wait(
        path, std::move(result),
        fmt::format("{} rejected it", wait.closing.by.empty() ? "somebody" : wait.closing.by));
  }
  if (expired && node.on_expiry == Unhappy::Fail) {
    return failed_wait(path, std::move(result),
                       fmt::format("nobody decided within {}",
                                   format_duration(node.timeout.value_or(Duration::zero()))));
  }
  return {path, StepOutcome::Pure, std::move(result), {}};
}

EndStep end_of_child(std::string const& path, WaitState const& wait) {
  json::value const& payload = wait.closing.payload;
  std::string const outcome = wait_text(payload, "outcome");
  if (outcome == text_of(RunOutcome::Succeeded)) {
    auto const* output = payload.get_object().if_contains("output");
    return {path, StepOutcome::Committed, output == nullptr ? json::value() : *output, {}};
  }
  std::string const error = wait_text(payload, "error");
  return failed_wait(path, payload,
                     fmt::format("the run below ended {}{}{}", outcome.empty() ? "early" : outcome,
                                 error.empty() ? "" : ": ", error));
}

}  // namespace

Decision wait_of(GraphNode const& node, std::string const& path, json::value const& with,
                 RunSpec const& parent) {
  if (node.type == NodeType::Workflow) {
    StartChild child;
    child.path = path;
    child.spec.graph = node.graph;
    child.spec.input = with;
    child.spec.space = parent.space;
    child.spec.queue = parent.queue;
    child.spec.priority = parent.priority;
    child.spec.deadline = parent.deadline;
    std::string const own = wait_text(node.graph, "name");
    child.spec.name = own.empty() ? node.id : own;
    return child;
  }
  AwaitThing thing;
  thing.path = path;
  thing.after = node.timeout;
  if (node.type == NodeType::Approval) {
    thing.kind = WaitKind::Human;
    thing.name = wait_text(with, "title");
    if (thing.name.empty()) thing.name = wait_text(with, "message");
    if (thing.name.empty()) thing.name = node.id;
    auto const* object = with.if_object();
    auto const* form = object == nullptr ? nullptr : object->if_contains("form");
    if (form != nullptr) thing.schema = *form;
  } else if (node.wait_for) {
    thing.kind = WaitKind::Timer;
    thing.name = node.id;
    thing.after = node.wait_for;
  } else {
    thing.kind = WaitKind::Signal;
    thing.name = wait_text(with, "signal");
  }
  return thing;
}

EndStep end_of_wait(GraphNode const& node, std::string const& path, WaitState const& wait) {
  if (wait.closing.end == WaitEnd::Cancelled)
    return failed_wait(path, {}, "the wait was cancelled");
  if (node.type == NodeType::Workflow) return end_of_child(path, wait);
  if (node.type == NodeType::Approval) return end_of_approval(node, path, wait);
  if (!node.wait_for) return end_of_signal(node, path, wait);
  return {path, StepOutcome::Pure, json::object{{"waited", format_duration(*node.wait_for)}}, {}};
}

std::string_view decision_in(json::value const& result) {
  auto const* object = result.if_object();
  auto const* word = object == nullptr ? nullptr : object->if_contains("decision");
  auto const* text = word == nullptr ? nullptr : word->if_string();
  return text == nullptr ? std::string_view() : std::string_view(text->data(), text->size());
}

}  // namespace aether::jobs
