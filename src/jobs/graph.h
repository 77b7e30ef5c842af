// SPDX-License-Identifier: Apache-2.0
// TaskGraph: steps and what each of them waits for, read from a value and checked as a whole before
// anything of it runs. docs/jobs-graphs.md is its manual. Pure.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "jobs/agent.h"
#include "jobs/condition.h"
#include "jobs/graph_mistake.h"
#include "jobs/policy.h"

namespace aether::jobs {

inline constexpr std::size_t kGraphNodesMax = 2000;
inline constexpr std::size_t kGraphBytesMax = 1 << 20;  ///< As canonical JSON.
inline constexpr int kGraphDepthMax = 8;                ///< Of workflows within workflows.
inline constexpr std::size_t kNodeIdBytesMax = 64;
inline constexpr std::size_t kNodeParentsMax = 2000;

enum class NodeType : std::uint8_t {
  Tool,
  Llm,
  Wait,
  Approval,
  Condition,
  Workflow,
  Agent,
  Function,
  Value,
};
[[nodiscard]] std::string_view text_of(NodeType type);
[[nodiscard]] StepKind step_kind_of(NodeType type);

/// How often a call is made in all, and what lies between: backoff, then twice that, up to the
/// maximum. There is no jitter: the same history decides the same.
struct Retry {
  std::uint32_t attempts = 1;
  Duration backoff = std::chrono::seconds(1);
  Duration max_backoff = std::chrono::minutes(1);
  /// Between the attempt that failed and the next.
  [[nodiscard]] Duration delay_after(std::uint32_t attempt) const;
};

/// What a rejection or an expiry does, besides making its own branch run.
enum class Unhappy : std::uint8_t {
  Fail,      ///< The node fails, and so does the run. The default.
  Continue,  ///< All that comes after runs, and looks at the decision itself.
  Branch,    ///< Only the nodes named run.
};

/// What of a parent's end makes the child run.
enum class Edge : std::uint8_t { Ran, Rejected, Expired, Then, Else };
struct NodeParent {
  std::size_t node = 0;
  Edge edge = Edge::Ran;
  /// Waited for because it is read, and says nothing of whether this node runs.
  bool only_read = false;
};

struct Undo {
  std::string tool;
  boost::json::value with;
  std::optional<Policy> policy;
  std::optional<Duration> timeout;
  Retry retry;
};

struct GraphNode {
  std::string id;
  NodeType type = NodeType::Tool;
  std::string tool;  ///< Of tool, llm, function.
  boost::json::value with;
  std::optional<Policy> policy;
  Retry retry;
  std::optional<Condition> when;
  std::optional<Condition> test;  ///< Of a condition: `if`.
  std::optional<Duration> timeout;
  std::optional<Undo> undo;
  std::string business_key;
  Unhappy on_reject = Unhappy::Fail;
  Unhappy on_expiry = Unhappy::Fail;
  std::optional<Duration> wait_for;  ///< Of a wait: a time,
  std::string signal;                ///< or a signal.
  std::optional<Agent> agent;
  boost::json::value graph;  ///< Of a workflow.
  std::vector<NodeParent> parents;
  bool is_leaf = true;
  std::string pointer;  ///< In the value it was read from.
};

struct Graph {
  std::string name;
  std::vector<GraphNode> nodes;    ///< As they were written.
  std::vector<std::size_t> order;  ///< Parents before children; else as they were written.
  boost::json::value output;       ///< A template; null: what the leaves gave, by id.

  [[nodiscard]] GraphNode const* find(std::string_view id) const;
};

/// Reads and checks. Mistakes are complete: kinds, names, references, circles, limits.
[[nodiscard]] Graph read_graph(boost::json::value const& value, GraphMistakes& mistakes,
                               std::string const& pointer = {}, int depth = 0);
/// RequestInvalid has a line for each mistake: "/nodes/2/after/0: ...".
[[nodiscard]] Result<Graph> parse_graph(boost::json::value const& value);

/// Names become positions: parents, branches, leaves, order; circles are told. Part of read_graph.
void link_graph(boost::json::value const& value, Graph& graph, std::string const& pointer,
                GraphMistakes& mistakes);

/// The graph with each agent that it only names ("agent: NAME") written out, so that a run keeps
/// the declaration of its time; `find` gives null for a name it does not know, and it stays.
[[nodiscard]] boost::json::value with_agents(
    boost::json::value graph, std::function<boost::json::value(std::string_view name)> const& find);

}  // namespace aether::jobs
