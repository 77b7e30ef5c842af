// SPDX-License-Identifier: Apache-2.0
#include "jobs/trace.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "jobs/run_event_codec.h"
#include "jobs/run_state.h"
#include "jobs/skip.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

TraceMark mark_of(StepOutcome outcome) {
  if (outcome == StepOutcome::Failed) return TraceMark::Bad;
  return outcome == StepOutcome::Retryable ? TraceMark::Again : TraceMark::Good;
}
TraceMark mark_of(EffectOutcome outcome) {
  if (outcome == EffectOutcome::Ok) return TraceMark::Good;
  return outcome == EffectOutcome::Unknown ? TraceMark::Unknown : TraceMark::Bad;
}
TraceMark mark_of(WaitEnd end) {
  bool const good = end == WaitEnd::Answered || end == WaitEnd::Approved;
  return good ? TraceMark::Good : TraceMark::Bad;
}

std::string one_line(std::string text) {
  std::ranges::replace_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20U; }, ' ');
  return text;
}

/// The model's own words for its use of tokens, as chat completions give them.
void add_usage(TraceNode& node, json::value const& result) {
  json::value const* const usage =
      result.is_object() ? result.get_object().if_contains("usage") : nullptr;
  if (usage == nullptr || !usage->is_object()) return;
  for (auto const& [theirs, ours] :
       {std::pair("prompt_tokens", "gen_ai.usage.input_tokens"),
        std::pair("completion_tokens", "gen_ai.usage.output_tokens")}) {
    json::value const* const count = usage->get_object().if_contains(theirs);
    if (count != nullptr && count->is_int64()) node.attributes.emplace_back(ours, *count);
  }
}

void add_text(TraceNode& node, std::string name, json::value const& from, char const* member) {
  json::value const* const found =
      from.is_object() ? from.get_object().if_contains(member) : nullptr;
  if (found != nullptr && found->is_string()) node.attributes.emplace_back(std::move(name), *found);
}

/// Takes events in their order into nodes, and links them at the end.
class Tree {
 public:
  explicit Tree(RunId const& run) { state_.id = run; }

  Status take(RunEvent const& event) {
    TRY(fold(state_, event));
    at_ = event.at;
    span_ = span_of(event.body);
    std::visit([&](auto const& body) { add(body, event.actor); }, event.body);
    return {};
  }

  TraceNode end() && {
    // From the last to the first, so that what is moved has its children already.
    for (std::size_t at = nodes_.size() - 1; at > 0; --at) {
      std::ranges::reverse(nodes_[at].children);
      nodes_[parents_[at]].children.push_back(std::move(nodes_[at]));
    }
    std::ranges::reverse(nodes_[0].children);
    return std::move(nodes_[0]);
  }

 private:
  TraceNode& open(TraceKind kind, std::string title, std::string_view type, std::size_t parent) {
    parents_.push_back(parent);
    by_span_[span_] = nodes_.size();
    TraceNode& node = nodes_.emplace_back();
    node.kind = kind;
    node.span = span_;
    node.title = one_line(std::move(title));
    node.type = type;
    node.begin = at_;
    node.sequence = state_.sequence;
    node.copied = state_.opening.forked_from && !past_copies_ && nodes_.size() > 1;
    return node;
  }
  TraceNode& close(std::string_view outcome, TraceMark mark, std::string detail) {
    TraceNode& node = nodes_[by_span_[span_]];
    node.outcome = outcome;
    node.mark = mark;
    node.detail = one_line(std::move(detail));
    node.end = at_;
    return node;
  }
  void point(std::string title, std::string detail) {
    span_ = fmt::format("point/{}", state_.sequence);
    TraceNode& node = open(TraceKind::Point, std::move(title), "point", 0);
    node.detail = one_line(std::move(detail));
    node.mark = TraceMark::Good;
    node.end = at_;
  }
  /// The node of the step at the path, or at the longest part of it that is one.
  std::size_t step_at(std::string_view path, bool itself) {
    for (std::size_t end = path.size(); end != std::string_view::npos && end > 0;
         end = path.find_last_of("/~#", end - 1)) {
      auto const found = steps_.find(path.substr(0, end));
      if (found != steps_.end() && (itself || end < path.size())) return found->second;
    }
    return 0;
  }

  void add(RunOpened const& run, std::string const& actor) {
    TraceNode& node = open(TraceKind::Run, run.spec.name, "run", 0);
    node.attributes.emplace_back("aether.run.space", run.spec.space);
    node.attributes.emplace_back("aether.run.queue", run.spec.queue);
    if (!actor.empty()) node.attributes.emplace_back("aether.actor", actor);
    if (!run.spec.agent.is_null()) {
      node.attributes.emplace_back("gen_ai.operation.name", "invoke_agent");
      node.attributes.emplace_back("gen_ai.agent.name", run.spec.name);
    }
  }
  void add(RunClosed const& run, std::string const& /*actor*/) {
    bool const good = run.outcome == RunOutcome::Succeeded;
    close(text_of(run.outcome), good ? TraceMark::Good : TraceMark::Bad, run.error);
  }
  void add(StepOpened const& step, std::string const& /*actor*/) {
    std::size_t const parent = step_at(step.path, false);
    std::string title = step.path;
    if (step.attempt > 1) title += fmt::format(" (attempt {})", step.attempt);
    steps_[step.path] = nodes_.size();
    TraceNode& node = open(TraceKind::Step, std::move(title), text_of(step.kind), parent);
    node.attributes.emplace_back("aether.step.path", step.path);
    node.attributes.emplace_back("aether.step.attempt", step.attempt);
  }
  void add(StepClosed const& step, std::string const& /*actor*/) {
    std::string_view const skip = skip_reason(state_.steps.find(step.path)->second);
    if (skip.empty())
      close(text_of(step.outcome), mark_of(step.outcome), step.error);
    else
      close("skipped", TraceMark::Skipped, std::string(skip));
  }
  void add(EffectIntended const& effect, std::string const& /*actor*/) {
    std::size_t const parent = step_at(effect.path, true);
    bool const is_model = nodes_[parent].type == text_of(StepKind::Model);
    std::string title = effect.tool;
    if (effect.turn > 1) title += fmt::format(" (turn {})", effect.turn);
    TraceNode& node =
        open(TraceKind::Effect, std::move(title), tools::text_of(effect.policy), parent);
    node.attributes.emplace_back("gen_ai.operation.name", is_model ? "chat" : "execute_tool");
    if (is_model) {
      node.attributes.emplace_back("gen_ai.provider.name", effect.tool);
      add_text(node, "gen_ai.request.model", effect.args, "model");
    } else {
      node.attributes.emplace_back("gen_ai.tool.name", effect.tool);
    }
    node.attributes.emplace_back("aether.effect.id", effect.effect);
    node.attributes.emplace_back("aether.effect.turn", effect.turn);
  }
  void add(EffectSettled const& settled, std::string const& actor) {
    std::string detail = settled.error;
    bool const told = settled.by == SettledBy::Tool;
    if (!told) detail += fmt::format("{}by {}", detail.empty() ? "" : ", ", text_of(settled.by));
    if (settled.amends && !actor.empty()) detail += ' ' + actor;
    TraceNode& node = nodes_[by_span_[span_]];
    std::optional<WallTime> const ended = node.end;
    close(tools::text_of(settled.outcome), mark_of(settled.outcome), std::move(detail));
    if (settled.amends) node.end = ended;  // The call took as long as it did.
    add_usage(node, settled.result);
    add_text(node, "gen_ai.response.model", settled.result, "model");
    if (settled.usage.tokens > 0) {
      node.attributes.emplace_back("aether.usage.tokens", settled.usage.tokens);
    }
    if (settled.usage.cost > 0) {
      node.attributes.emplace_back("aether.usage.cost", settled.usage.cost);
    }
  }
  void add(WaitOpened const& wait, std::string const& /*actor*/) {
    std::string title = wait.name.empty() ? wait.path : wait.name;
    open(TraceKind::Wait, std::move(title), text_of(wait.kind), step_at(wait.path, true));
  }
  void add(WaitClosed const& wait, std::string const& /*actor*/) {
    close(text_of(wait.end), mark_of(wait.end), wait.by.empty() ? "" : "by " + wait.by);
  }
  void add(SignalReceived const& signal, std::string const& actor) {
    point("signal " + signal.name, actor.empty() ? "" : "by " + actor);
  }
  void add(RunControlled const& control, std::string const& actor) {
    if (control.control == Control::Fork) past_copies_ = true;
    std::string detail = control.holder.empty() ? actor : control.holder;
    if (!control.reason.empty()) detail += (detail.empty() ? "" : ": ") + control.reason;
    point(std::string(text_of(control.control)), std::move(detail));
  }
  void add(AuditNoted const& note, std::string const& actor) {
    point(note.action, fmt::format("{} {}", actor, note.decision));
  }

  RunState state_;
  WallTime at_;
  std::string span_;
  std::vector<TraceNode> nodes_;  ///< In the order of their opening; 0 is the run.
  std::vector<std::size_t> parents_;
  std::map<std::string, std::size_t, std::less<>> by_span_;
  std::map<std::string, std::size_t, std::less<>> steps_;  ///< Path -> latest attempt.
  bool past_copies_ = false;
};

json::value time_value(WallTime time) {
  auto const since = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch());
  return since.count();
}

std::string_view text_of_kind(TraceKind kind) {
  switch (kind) {
    case TraceKind::Run:
      return "run";
    case TraceKind::Step:
      return "step";
    case TraceKind::Effect:
      return "effect";
    case TraceKind::Wait:
      return "wait";
    case TraceKind::Point:
      break;
  }
  return "point";
}

// ---- text

struct Look {
  std::string_view sign;
  std::string_view colour;
};
Look look_of(TraceMark mark) {
  switch (mark) {
    case TraceMark::Open:
      return {"…", "\x1b[36m"};
    case TraceMark::Good:
      return {"✓", "\x1b[32m"};
    case TraceMark::Skipped:
      return {"–", "\x1b[2m"};
    case TraceMark::Again:
      return {"↻", "\x1b[33m"};
    case TraceMark::Bad:
      return {"✗", "\x1b[31m"};
    case TraceMark::Unknown:
      break;
  }
  return {"?", "\x1b[35m"};
}

void add_lines(std::string& text, TraceNode const& node, TraceTextOptions const& options,
               std::string const& before, std::string const& under) {
  Look const look = look_of(node.mark);
  std::string_view const colour = options.colours ? look.colour : "";
  std::string_view const plain = options.colours ? "\x1b[0m" : "";
  bool const is_point = node.kind == TraceKind::Point;
  text += fmt::format("{}{}{}{} {}", before, colour, is_point ? "•" : look.sign, plain, node.title);
  if (!is_point) {
    Duration const took = node.end.value_or(std::max(options.now, node.begin)) - node.begin;
    text += fmt::format("  {}  {}  {}", node.type, node.outcome.empty() ? "open" : node.outcome,
                        humanize(took));
  }
  if (node.copied) text += "  (copied)";
  if (!node.detail.empty()) text += "  " + node.detail;
  text += '\n';
  for (std::size_t at = 0; at < node.children.size(); ++at) {
    bool const last = at + 1 == node.children.size();
    add_lines(text, node.children[at], options, under + (last ? "└─ " : "├─ "),
              under + (last ? "   " : "│  "));
  }
}

}  // namespace

Result<TraceNode> trace_of(RunId const& run, std::vector<RunEvent> const& history) {
  if (history.empty()) {
    return fail(ErrorCode::NotFound, fmt::format("there is no run {}", run.text));
  }
  Tree tree(run);
  for (RunEvent const& event : history) TRY(tree.take(event));
  return std::move(tree).end();
}

std::string trace_text(TraceNode const& root, TraceTextOptions const& options) {
  std::string text;
  add_lines(text, root, options, "", "");
  return text;
}

json::value trace_json(TraceNode const& root) {
  json::object node;
  node["kind"] = text_of_kind(root.kind);
  node["span"] = root.span;
  node["title"] = root.title;
  node["type"] = root.type;
  if (!root.outcome.empty()) node["outcome"] = root.outcome;
  if (!root.detail.empty()) node["detail"] = root.detail;
  if (root.copied) node["copied"] = true;
  node["sequence"] = root.sequence;
  node["begin"] = time_value(root.begin);
  if (root.end) node["end"] = time_value(*root.end);
  if (root.end) node["seconds"] = to_seconds(*root.end - root.begin);
  json::object attributes;
  for (auto const& [name, value] : root.attributes) attributes[name] = value;
  if (!attributes.empty()) node["attributes"] = std::move(attributes);
  json::array children;
  for (TraceNode const& child : root.children) children.push_back(trace_json(child));
  if (!children.empty()) node["children"] = std::move(children);
  return node;
}

}  // namespace aether::jobs
