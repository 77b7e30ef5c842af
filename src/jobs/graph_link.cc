// SPDX-License-Identifier: Apache-2.0
// The names of a graph: who waits for whom, who reads whom, and that there is no circle.
#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "config/suggest.h"
#include "jobs/graph.h"

namespace aether::jobs {
namespace {

namespace json = boost::json;

class GraphLinker {
 public:
  GraphLinker(json::value const& value, Graph& graph, std::string pointer, GraphMistakes& mistakes)
      : graph_(graph),
        pointer_(std::move(pointer)),
        mistakes_(mistakes),
        list_(value.as_object().at("nodes").as_array()) {}

  void run() {
    index();
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) read_after(i);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) read_branches(i);
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) read_references(i);
    read_output();
    sort();
  }

 private:
  void index() {
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      GraphNode const& node = graph_.nodes[i];
      if (node.id.empty()) continue;
      auto const [first, is_new] = by_id_.emplace(node.id, i);
      if (!is_new) {
        mistakes_.add(node.pointer + "/id",
                      fmt::format("the id \"{}\" is given twice; first to {}", node.id,
                                  graph_.nodes[first->second].pointer));
      }
    }
    for (auto const& [id, position] : by_id_) ids_.push_back(id);
  }

  /// The node of that name, or a mistake at `place`.
  std::optional<std::size_t> node_called(std::string_view id, std::string const& place) {
    auto const found = by_id_.find(id);
    if (found != by_id_.end()) return found->second;
    mistakes_.add(place, fmt::format("there is no node \"{}\"{}", id.substr(0, 80),
                                     config::did_you_mean(id, ids_)));
    return std::nullopt;
  }

  void add_parent(std::size_t child, NodeParent parent) {
    graph_.nodes[child].parents.push_back(parent);
    if (parent.node != child) graph_.nodes[parent.node].is_leaf = false;
  }

  void read_after(std::size_t i) {
    if (!list_[i].is_object()) return;
    MemberReader members(list_[i], graph_.nodes[i].pointer, "a node", mistakes_);
    auto const ids = members.texts("after", kNodeParentsMax);
    for (std::size_t j = 0; j < ids.size(); ++j) {
      bool const listed = list_[i].as_object().at("after").is_array();
      std::string const place =
          members.pointer_of("after") + (listed ? "/" + std::to_string(j) : "");
      if (auto const parent = node_called(ids[j], place))
        add_parent(i, {*parent, Edge::Ran, false});
    }
  }

  void read_branches(std::size_t i) {
    if (!list_[i].is_object()) return;
    MemberReader members(list_[i], graph_.nodes[i].pointer, "a node", mistakes_);
    GraphNode const& node = graph_.nodes[i];
    if (node.type == NodeType::Condition) {
      add_branch(i, members, "then", Edge::Then);
      add_branch(i, members, "else", Edge::Else);
    }
    if (node.on_reject == Unhappy::Branch) add_branch(i, members, "on_reject", Edge::Rejected);
    if (node.on_expiry == Unhappy::Branch) add_branch(i, members, "on_expiry", Edge::Expired);
  }

  void add_branch(std::size_t i, MemberReader& members, std::string_view name, Edge edge) {
    auto const ids = members.texts(name, kNodeParentsMax);
    for (std::size_t j = 0; j < ids.size(); ++j) {
      bool const listed = list_[i].as_object().at(name).is_array();
      std::string const place = members.pointer_of(name) + (listed ? "/" + std::to_string(j) : "");
      auto const child = node_called(ids[j], place);
      if (!child) continue;
      // Named in a branch, it is of the branch, even if its own `after` names this node too.
      std::erase_if(graph_.nodes[*child].parents, [&](NodeParent const& parent) {
        return parent.node == i && parent.edge == Edge::Ran;
      });
      add_parent(*child, {i, edge, false});
    }
  }

  void read_references(std::size_t i) {
    GraphNode const& node = graph_.nodes[i];
    read_texts(i, node.with, node.pointer + "/with");
    read_texts(i, json::value(json::string(node.business_key)), node.pointer + "/business_key");
    if (node.when) read_condition(i, *node.when, node.pointer + "/when");
    if (node.test) read_condition(i, *node.test, node.pointer + "/if");
    if (node.undo) read_texts(i, node.undo->with, node.pointer + "/compensate/with");
  }

  void read_texts(std::size_t i, json::value const& value, std::string const& place) {
    bool const undo = place.ends_with("/compensate/with");
    visit_texts(value, place, [&](std::string_view text, std::string const& where) {
      auto const pieces = parse_pieces(text);
      if (!pieces) {
        mistakes_.add(where, pieces.error().message());
        return;
      }
      for (TextPiece const& piece : *pieces) {
        bool const own = undo && piece.reference && piece.reference->head == graph_.nodes[i].id;
        if (piece.reference && !own) read_head(i, piece.reference->head, where);
      }
    });
  }

  void read_condition(std::size_t i, Condition const& condition, std::string const& place) {
    for (Condition::Part const& part : condition.parts())
      if (part.kind == Condition::Kind::Reference) read_head(i, part.reference.head, place);
  }

  void read_head(std::size_t i, std::string const& head, std::string const& place) {
    if (head == "input" || head == "run") return;
    auto const parent = node_called(head, place);
    if (!parent) return;
    auto const& parents = graph_.nodes[i].parents;
    if (std::ranges::find(parents, *parent, &NodeParent::node) != parents.end()) return;
    add_parent(i, {*parent, Edge::Ran, true});
  }

  void read_output() {
    visit_texts(graph_.output, pointer_ + "/output",
                [&](std::string_view text, std::string const& where) {
                  auto const pieces = parse_pieces(text);
                  if (!pieces) {
                    mistakes_.add(where, pieces.error().message());
                    return;
                  }
                  for (TextPiece const& piece : *pieces) check_output_piece(piece, where);
                });
  }
  void check_output_piece(TextPiece const& piece, std::string const& where) {
    if (!piece.reference) return;
    std::string const& head = piece.reference->head;
    if (head != "input" && head != "run") static_cast<void>(node_called(head, where));
  }

  /// Parents before children, and otherwise as they were written. What is left over lies on a
  /// circle or behind one.
  void sort() {
    std::size_t const count = graph_.nodes.size();
    std::vector<std::size_t> missing(count);
    std::vector<std::vector<std::size_t>> children(count);
    for (std::size_t i = 0; i < count; ++i) {
      for (NodeParent const& parent : graph_.nodes[i].parents) {
        ++missing[i];
        children[parent.node].push_back(i);
      }
    }
    std::vector<std::size_t> ready;
    for (std::size_t i = count; i-- > 0;)
      if (missing[i] == 0) ready.push_back(i);
    while (!ready.empty()) {
      std::size_t const node = ready.back();
      ready.pop_back();
      graph_.order.push_back(node);
      for (std::size_t const child : children[node])
        if (--missing[child] == 0) ready.push_back(child);
    }
    if (graph_.order.size() < count) tell_circle(missing);
  }

  /// Walks from parent to parent among what is left until a node comes twice.
  void tell_circle(std::vector<std::size_t> const& missing) {
    std::size_t node = 0;
    while (missing[node] == 0) ++node;
    std::vector<std::size_t> walked;
    while (std::ranges::find(walked, node) == walked.end()) {
      walked.push_back(node);
      auto const& parents = graph_.nodes[node].parents;
      auto const next = std::ranges::find_if(
          parents, [&](NodeParent const& parent) { return missing[parent.node] > 0; });
      node = next->node;
    }
    std::string names = graph_.nodes[node].id;
    for (std::size_t i = walked.size(); i-- > 0;) {
      names += " -> " + graph_.nodes[walked[i]].id;
      if (walked[i] == node) break;
    }
    constexpr std::size_t shown = 400;
    if (names.size() > shown) names = names.substr(0, shown) + "...";
    mistakes_.add(graph_.nodes[node].pointer,
                  fmt::format("these nodes wait for each other in a circle: {}", names));
  }

  Graph& graph_;
  std::string pointer_;
  GraphMistakes& mistakes_;
  json::array const& list_;
  std::map<std::string, std::size_t, std::less<>> by_id_;
  std::vector<std::string_view> ids_;
};

}  // namespace

void link_graph(json::value const& value, Graph& graph, std::string const& pointer,
                GraphMistakes& mistakes) {
  GraphLinker(value, graph, pointer, mistakes).run();
}

}  // namespace aether::jobs
