// SPDX-License-Identifier: Apache-2.0
#include "jobs/graph.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "config/suggest.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

struct TypeWord {
  std::string_view word;
  NodeType type;
  StepKind kind;
  std::string_view own_members;  ///< Besides those that every node may have.
};
constexpr std::string_view kCallMembers = " tool policy retry timeout compensate business_key ";
constexpr std::array kTypeWords{
    TypeWord{"tool", NodeType::Tool, StepKind::Tool, kCallMembers},
    TypeWord{"llm", NodeType::Llm, StepKind::Model, kCallMembers},
    TypeWord{"wait", NodeType::Wait, StepKind::Wait, " timeout on_expiry "},
    TypeWord{"approval", NodeType::Approval, StepKind::Approval, " timeout on_reject on_expiry "},
    TypeWord{"condition", NodeType::Condition, StepKind::Condition, " if then else "},
    TypeWord{"workflow", NodeType::Workflow, StepKind::Workflow, " graph compensate "},
    TypeWord{"agent", NodeType::Agent, StepKind::Agent, " agent compensate "},
    TypeWord{"function", NodeType::Function, StepKind::Function, kCallMembers},
    TypeWord{"value", NodeType::Value, StepKind::Value, " "},
};
constexpr std::array<std::string_view, 6> kEveryNode{"id",   "type", "after",
                                                     "when", "with", "description"};
constexpr std::array<std::string_view, 20> kNodeMembers{
    "id",     "type",  "after",   "when",       "with",         "description", "tool",
    "policy", "retry", "timeout", "compensate", "business_key", "on_reject",   "on_expiry",
    "if",     "then",  "else",    "graph",      "agent",        "name"};
constexpr std::array<std::string_view, 5> kGraphMembers{"name", "description", "nodes", "output",
                                                        "version"};
constexpr std::array<std::string_view, 4> kRetryMembers{"attempts", "backoff", "max_backoff",
                                                        "jitter"};
constexpr std::array<std::string_view, 5> kUndoMembers{"tool", "with", "policy", "timeout",
                                                       "retry"};
constexpr std::array<std::string_view, 2> kWaitMembers{"for", "signal"};
constexpr std::array<std::string_view, 3> kApprovalMembers{"title", "message", "form"};

TypeWord const& word_of(NodeType type) {
  return kTypeWords[static_cast<std::size_t>(type)];
}

bool is_node_id(std::string_view id) {
  auto const letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (id.empty() || id.size() > kNodeIdBytesMax || (!letter(id[0]) && id[0] != '_')) return false;
  return std::ranges::all_of(
      id, [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-'; });
}

class NodeReader {
 public:
  NodeReader(json::value const& value, std::string pointer, int depth, GraphMistakes& mistakes)
      : mistakes_(mistakes), depth_(depth), members_(value, pointer, "a node", mistakes) {
    node_.pointer = std::move(pointer);
  }

  GraphNode run() {
    if (!members_.is_object()) return std::move(node_);
    read_id();
    if (!read_type()) return std::move(node_);
    expect_members();
    if (auto const* with = members_.find("with")) node_.with = *with;
    node_.when = condition("when");
    node_.timeout = members_.duration("timeout");
    read_call();
    read_special();
    return std::move(node_);
  }

 private:
  void read_id() {
    auto const id = members_.text("id");
    if (!id) {
      if (members_.find("id") == nullptr) members_.mistake("id", "a node needs an id");
      return;
    }
    node_.id = *id;
    if (!is_node_id(*id)) {
      members_.mistake("id", fmt::format("\"{}\" cannot be an id: letters, digits, _ and -, at "
                                         "most {}, and a letter first",
                                         id->substr(0, 80), kNodeIdBytesMax));
    } else if (*id == "input" || *id == "run" || *id == "args") {
      members_.mistake("id", fmt::format("\"{}\" stands for something else in ${{...}}; choose "
                                         "another id",
                                         *id));
    }
  }

  bool read_type() {
    auto const word = members_.text("type");
    if (!word) {
      bool const calls = members_.find("tool") != nullptr;
      if (members_.find("type") == nullptr && !calls)
        members_.mistake("type", "a node needs a type: " + type_words());
      return calls;
    }
    auto const found = std::ranges::find(kTypeWords, *word, &TypeWord::word);
    if (found == kTypeWords.end()) {
      std::vector<std::string_view> known;
      for (TypeWord const& row : kTypeWords) known.push_back(row.word);
      members_.mistake("type", fmt::format("\"{}\" is not one of {}{}", *word, type_words(),
                                           config::did_you_mean(*word, known)));
      return false;
    }
    node_.type = found->type;
    return true;
  }

  static std::string type_words() {
    std::string all;
    for (TypeWord const& row : kTypeWords) all += (all.empty() ? "" : ", ") + std::string(row.word);
    return all;
  }

  /// A member that another type has is told apart from one that none has.
  void expect_members() {
    members_.expect_only(kNodeMembers);
    for (std::string_view const member : kNodeMembers) {
      bool const everywhere = std::ranges::find(kEveryNode, member) != kEveryNode.end();
      if (everywhere || members_.find(member) == nullptr) continue;
      std::string const word = " " + std::string(member) + " ";
      if (word_of(node_.type).own_members.find(word) != std::string_view::npos) continue;
      mistakes_.add_key(
          members_.pointer_of(member),
          fmt::format("a node of type {} takes no \"{}\"", text_of(node_.type), member));
    }
  }

  std::optional<Condition> condition(std::string_view name) {
    json::value const* value = members_.find(name);
    if (value == nullptr) return std::nullopt;
    if (auto const* flag = value->if_bool()) return Condition::constant(*flag);
    auto const text = members_.text(name);
    if (!text) return std::nullopt;
    auto parsed = Condition::parse(*text);
    if (parsed) return std::move(*parsed);
    members_.mistake(name, parsed.error().message());
    return std::nullopt;
  }

  static std::optional<Policy> policy(MemberReader& members) {
    auto const word = members.text("policy");
    if (!word) return std::nullopt;
    auto policy = tools::parse_policy(*word);
    if (policy) return *policy;
    members.mistake("policy", policy.error().message());
    return std::nullopt;
  }

  Retry retry(MemberReader& owner) {
    Retry result;
    json::value const* value = owner.find("retry");
    if (value == nullptr) return result;
    MemberReader members(*value, owner.pointer_of("retry"), "retry", mistakes_);
    members.expect_only(kRetryMembers);
    result.attempts = static_cast<std::uint32_t>(members.integer("attempts", 1, 1000).value_or(3));
    result.backoff = members.duration("backoff").value_or(result.backoff);
    result.max_backoff =
        members.duration("max_backoff").value_or(std::max(result.max_backoff, result.backoff));
    if (members.text("jitter").value_or("none") != "none")
      members.mistake("jitter", "jitter can only be none: the same history decides the same");
    return result;
  }

  void read_call() {
    node_.tool = members_.text("tool").value_or("");
    if (node_.type == NodeType::Tool && node_.tool.empty())
      members_.mistake("tool", "a node of type tool names its tool: http, process, ...");
    if (node_.type == NodeType::Llm && node_.tool.empty()) node_.tool = "llm";
    if (node_.type == NodeType::Function && node_.tool.empty()) node_.tool = "function";
    node_.policy = policy(members_);
    node_.retry = retry(members_);
    node_.business_key = members_.text("business_key").value_or("");
    json::value const* undo = members_.find("compensate");
    if (undo == nullptr) return;
    MemberReader inner(*undo, members_.pointer_of("compensate"), "compensate", mistakes_);
    inner.expect_only(kUndoMembers);
    Undo& result = node_.undo.emplace();
    result.tool = inner.text("tool").value_or("");
    if (inner.is_object() && result.tool.empty())
      inner.mistake("tool", "compensate names the tool that takes the step back");
    if (auto const* with = inner.find("with")) result.with = *with;
    result.policy = policy(inner);
    result.timeout = inner.duration("timeout");
    result.retry = retry(inner);
  }

  void read_special() {
    if (node_.type == NodeType::Wait) read_wait();
    if (node_.type == NodeType::Approval && !node_.with.is_null()) {
      MemberReader with(node_.with, members_.pointer_of("with"), "with of an approval", mistakes_);
      with.expect_only(kApprovalMembers);
    }
    if (node_.type == NodeType::Condition) {
      node_.test = condition("if");
      if (members_.find("if") == nullptr)
        members_.mistake("if", "a condition needs an if: \"${node.member} == 1\"");
    }
    node_.on_reject = unhappy("on_reject");
    node_.on_expiry = unhappy("on_expiry");
    if (node_.type == NodeType::Agent) read_agent_member();
    if (node_.type == NodeType::Workflow) read_workflow();
  }

  void read_wait() {
    json::value const* value = members_.find("with");
    if (value == nullptr) {
      members_.mistake("with", "a wait needs with: {for: 30s}, or with: {signal: NAME}");
      return;
    }
    MemberReader with(*value, members_.pointer_of("with"), "with of a wait", mistakes_);
    with.expect_only(kWaitMembers);
    node_.wait_for = with.duration("for");
    node_.signal = with.text("signal").value_or("");
    bool const timed = with.find("for") != nullptr;
    bool const signalled = with.find("signal") != nullptr;
    if (with.is_object() && timed == signalled)
      members_.mistake("with", "a wait waits for one thing: {for: 30s} or {signal: NAME}");
    if (timed && node_.timeout)
      members_.mistake("timeout", "a wait for a time takes no timeout as well");
  }

  /// "fail", "continue", or the nodes of a branch: link_graph reads those.
  Unhappy unhappy(std::string_view name) {
    json::value const* value = members_.find(name);
    if (value == nullptr) return Unhappy::Fail;
    if (value->is_array()) return Unhappy::Branch;
    auto const word = members_.text(name);
    if (!word || *word == "fail") return Unhappy::Fail;
    return *word == "continue" ? Unhappy::Continue : Unhappy::Branch;
  }

  void read_agent_member() {
    json::value const* value = members_.find("agent");
    if (value == nullptr) {
      members_.mistake("agent",
                       "a node of type agent names an agent of the configuration, or "
                       "has its declaration here");
    } else if (value->is_string()) {
      node_.agent.emplace().name = members_.text("agent").value_or("");
      node_.agent->is_only_named = true;
    } else {
      node_.agent = read_agent(*value, members_.pointer_of("agent"), mistakes_);
    }
  }

  void read_workflow() {
    json::value const* value = members_.find("graph");
    if (value == nullptr) {
      members_.mistake("graph", "a workflow needs its graph: {nodes: [...]}");
      return;
    }
    node_.graph = *value;
    if (depth_ + 1 > kGraphDepthMax) {
      members_.mistake("graph", fmt::format("workflows are nested deeper than {}", kGraphDepthMax));
      return;
    }
    static_cast<void>(read_graph(*value, mistakes_, members_.pointer_of("graph"), depth_ + 1));
  }

  GraphMistakes& mistakes_;
  int depth_;
  MemberReader members_;
  GraphNode node_;
};

json::value agents_within(json::value value,
                          std::function<json::value(std::string_view)> const& find, int depth) {
  auto* graph = value.if_object();
  auto* nodes = graph == nullptr ? nullptr : graph->if_contains("nodes");
  if (nodes == nullptr || !nodes->is_array() || depth > kGraphDepthMax) return value;
  for (json::value& node : nodes->get_array()) {
    auto* members = node.if_object();
    if (members == nullptr) continue;
    if (auto* inner = members->if_contains("graph"))
      *inner = agents_within(std::move(*inner), find, depth + 1);
    auto* agent = members->if_contains("agent");
    if (agent == nullptr || !agent->is_string()) continue;
    auto const& name = agent->get_string();
    json::value declaration = find(std::string_view(name.data(), name.size()));
    if (!declaration.is_null()) *agent = std::move(declaration);
  }
  return value;
}

}  // namespace

std::string_view text_of(NodeType type) {
  return word_of(type).word;
}

StepKind step_kind_of(NodeType type) {
  return word_of(type).kind;
}

Duration Retry::delay_after(std::uint32_t attempt) const {
  Duration delay = backoff;
  for (std::uint32_t i = 1; i < attempt && delay < max_backoff; ++i) delay += delay;
  return std::min(delay, max_backoff);
}

GraphNode const* Graph::find(std::string_view id) const {
  auto const found = std::ranges::find(nodes, id, &GraphNode::id);
  return found == nodes.end() ? nullptr : &*found;
}

Graph read_graph(json::value const& value, GraphMistakes& mistakes, std::string const& pointer,
                 int depth) {
  Graph graph;
  if (depth == 0 && canonical_json(value).size() > kGraphBytesMax) {
    mistakes.add(pointer, fmt::format("the graph is larger than {} bytes; pass large data as the "
                                      "run's input, or let a tool fetch it",
                                      kGraphBytesMax));
    return graph;
  }
  MemberReader members(value, pointer, "a graph", mistakes);
  if (!members.is_object()) return graph;
  members.expect_only(kGraphMembers);
  graph.name = members.text("name").value_or("");
  if (auto const* output = members.find("output")) graph.output = *output;
  json::value const* nodes = members.find("nodes");
  auto const* list = nodes == nullptr ? nullptr : nodes->if_array();
  if (list == nullptr || list->empty()) {
    members.mistake("nodes", "a graph needs nodes: a list of at least one");
    return graph;
  }
  if (list->size() > kGraphNodesMax) {
    members.mistake("nodes", fmt::format("{} nodes are more than the limit of {}; put parts into "
                                         "workflows",
                                         list->size(), kGraphNodesMax));
    return graph;
  }
  for (std::size_t i = 0; i < list->size(); ++i) {
    std::string const place = members.pointer_of("nodes") + "/" + std::to_string(i);
    graph.nodes.push_back(NodeReader((*list)[i], place, depth, mistakes).run());
  }
  link_graph(value, graph, pointer, mistakes);
  return graph;
}

Result<Graph> parse_graph(json::value const& value) {
  GraphMistakes mistakes;
  Graph graph = read_graph(value, mistakes);
  if (!mistakes.empty()) return fail(ErrorCode::RequestInvalid, mistakes.lines());
  return graph;
}

json::value with_agents(json::value graph,
                        std::function<json::value(std::string_view name)> const& find) {
  return agents_within(std::move(graph), find, 0);
}

}  // namespace aether::jobs
