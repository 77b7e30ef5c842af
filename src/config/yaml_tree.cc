// SPDX-License-Identifier: Apache-2.0
#include "config/yaml_tree.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "base/check.h"
#include "config/limits.h"

namespace aether::config {
namespace {

// Thrown through the YAML parser, caught in Tree::parse.
struct Stop {
  Remark remark;
};

Place place_of(YAML::Mark const& mark) {
  return mark.is_null() ? Place{} : Place{mark.line + 1, mark.column + 1};
}

[[noreturn]] void stop(YAML::Mark const& mark, std::string message) {
  throw Stop{{place_of(mark), std::move(message)}};
}

// "?" and "!" are what the parser says of plain and quoted values without a tag.
bool is_known_tag(std::string_view tag) {
  constexpr std::string_view standard = "tag:yaml.org,2002:";
  if (tag.empty() || tag == "?" || tag == "!") return true;
  if (!tag.starts_with(standard)) return false;
  constexpr std::array<std::string_view, 7> known{"str",  "int", "float", "bool",
                                                  "null", "seq", "map"};
  return std::ranges::find(known, tag.substr(standard.size())) != known.end();
}

// The bytes of the UTF-8 sequence at the start of `text`, 0 if it is not one (RFC 3629).
std::size_t sequence_length(std::string_view text) {
  auto const byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  auto const continues = [&](std::size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  unsigned char const first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first < 0xE0) return continues(1) ? 2 : 0;
  if ((first & 0xF0) == 0xE0) {
    if (!continues(1) || !continues(2)) return 0;
    bool const overlong = first == 0xE0 && byte(1) < 0xA0;
    bool const surrogate = first == 0xED && byte(1) >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  if (first < 0xF0 || first > 0xF4) return 0;
  if (!continues(1) || !continues(2) || !continues(3)) return 0;
  bool const overlong = first == 0xF0 && byte(1) < 0x90;
  bool const too_high = first == 0xF4 && byte(1) >= 0x90;
  return overlong || too_high ? 0 : 4;
}

// What can be told of the bytes before YAML sees them.
std::optional<Remark> bytes_mistake(std::string_view text) {
  if (text.size() > kFileBytesMax) {
    return Remark{
        {},
        fmt::format("the file has {} bytes; the limit is {} (1 MiB)", text.size(), kFileBytesMax)};
  }
  Place place{1, 1};
  for (std::size_t i = 0; i < text.size();) {
    std::size_t const length = sequence_length(text.substr(i));
    if (length == 0) return Remark{place, "this byte is not UTF-8; save the file as UTF-8"};
    char const c = text[i];
    bool const control = static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
    if (control && c != '\n' && c != '\r' && c != '\t') {
      return Remark{place,
                    fmt::format("there is a control character (0x{:02x}) here; YAML text has "
                                "none, and the file may be binary or UTF-16",
                                static_cast<unsigned>(c))};
    }
    i += length;
    place.column += static_cast<int>(length);
    if (c == '\n') place = {place.line + 1, 1};
    if (place.column > static_cast<int>(kLineBytesMax)) {
      return Remark{{place.line, 1},
                    fmt::format("the line is longer than {} bytes", kLineBytesMax)};
    }
  }
  return std::nullopt;
}

std::string_view line_at(std::string_view text, int line) {
  for (int i = 1; i < line; ++i) {
    std::size_t const end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  return text.substr(0, text.find('\n'));
}

bool has_tab_in_indentation(std::string_view line) {
  std::size_t const end = line.find_first_not_of(" \t");
  return line.substr(0, end).find('\t') != std::string_view::npos;
}

// The parser's message with what usually lies behind it. It may notice a tab only on the next line.
std::string explain(std::string_view text, Place place, std::string const& message) {
  for (int const line : {place.line, place.line - 1}) {
    if (line >= 1 && has_tab_in_indentation(line_at(text, line))) {
      return fmt::format("this is not valid YAML: line {} is indented with a tab; use spaces",
                         line);
    }
  }
  struct Cause {
    std::string_view message;
    std::string_view cause;
  };
  constexpr std::array causes{
      Cause{"illegal map value", "put a value that has \": \" in it into quotes"},
      Cause{"end of map not found",
            "check the indentation: the lines of a map begin in one column"},
      Cause{"end of sequence not found",
            "check the indentation: the dashes of a list stand in one column"},
      Cause{"end of sequence flow not found", "a \"[\" has no \"]\""},
      Cause{"end of map flow not found", "a \"{\" has no \"}\""},
  };
  auto const cause = std::ranges::find(causes, message, &Cause::message);
  if (cause == causes.end()) return fmt::format("this is not valid YAML: {}", message);
  return fmt::format("this is not valid YAML: {}; {}", message, cause->cause);
}

}  // namespace

// Listens to the parser's events. A map's keys and values come as one flat row of nodes.
class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(Tree& tree) : tree_(tree) {}

  void OnDocumentStart(YAML::Mark const& mark) override {
    if (++documents_ > 1) stop(mark, "a second document begins here; one file has one document");
  }
  void OnDocumentEnd() override {}
  void OnAnchor(YAML::Mark const&, std::string const&) override {}

  void OnNull(YAML::Mark const& mark, YAML::anchor_t anchor) override {
    attach(make(mark, Node::Kind::Null), anchor);
  }
  void OnAlias(YAML::Mark const& mark, YAML::anchor_t anchor) override {
    auto const found = anchors_.find(anchor);
    if (found == anchors_.end()) stop(mark, "this alias refers to something that contains it");
    count(mark, 1);
    add(*found->second);
  }
  void OnScalar(YAML::Mark const& mark, std::string const& tag, YAML::anchor_t anchor,
                std::string const& value) override {
    check_tag(mark, tag);
    if (value.size() > kScalarBytesMax) {
      stop(mark,
           fmt::format("this value has {} bytes; the limit is {}", value.size(), kScalarBytesMax));
    }
    Node& node = make(mark, Node::Kind::Scalar);
    node.text = value;
    node.quoted = tag == "!" || tag.ends_with(":str");
    attach(node, anchor);
  }
  void OnSequenceStart(YAML::Mark const& mark, std::string const& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::List);
  }
  void OnSequenceEnd() override {
    Open const done = close();
    done.node->items = done.parts;
    attach(*done.node, done.anchor);
  }
  void OnMapStart(YAML::Mark const& mark, std::string const& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::Map);
  }
  void OnMapEnd() override {
    Open const done = close();
    fill_map(*done.node, done.parts);
    attach(*done.node, done.anchor);
  }

  [[nodiscard]] Node const* root() const { return root_; }

 private:
  struct Open {
    Node* node;
    YAML::anchor_t anchor;
    std::vector<Node const*> parts;
  };

  static void check_tag(YAML::Mark const& mark, std::string const& tag) {
    if (!is_known_tag(tag)) stop(mark, fmt::format("the tag {} is not known here; remove it", tag));
  }

  void count(YAML::Mark const& mark, std::size_t nodes) {
    nodes_ += nodes;
    if (nodes_ > kNodesMax)
      stop(mark, fmt::format("more than {} values; the file is too large", kNodesMax));
  }

  Node& make(YAML::Mark const& mark, Node::Kind kind) {
    count(mark, 1);
    Node& node = tree_.nodes_.emplace_back();
    node.kind = kind;
    node.place = place_of(mark);
    return node;
  }

  void open(YAML::Mark const& mark, std::string const& tag, YAML::anchor_t anchor,
            Node::Kind kind) {
    check_tag(mark, tag);
    if (open_.size() >= kNestingMax) {
      stop(mark, fmt::format("maps and lists are nested deeper than {} levels", kNestingMax));
    }
    open_.push_back({&make(mark, kind), anchor, {}});
  }

  Open close() {
    AETHER_CHECK(!open_.empty());
    Open done = std::move(open_.back());
    open_.pop_back();
    return done;
  }

  // An anchor is known only once its node is whole, so an alias cannot make a circle.
  void attach(Node const& node, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) anchors_[anchor] = &node;
    add(node);
  }

  void add(Node const& node) {
    if (open_.empty()) {
      root_ = &node;
    } else {
      open_.back().parts.push_back(&node);
    }
  }

  void fill_map(Node& map, std::vector<Node const*> const& parts) {
    std::map<std::string_view, Place> seen;
    std::vector<Node const*> merges;
    for (std::size_t i = 0; i + 1 < parts.size(); i += 2) {
      Node const& key = *parts[i];
      if (key.kind != Node::Kind::Scalar) {
        tree_.mistakes_.push_back(
            {key.place, fmt::format("a key must be text, not {}", key.kind_text())});
      } else if (auto const [first, is_new] = seen.emplace(key.text, key.place); !is_new) {
        tree_.mistakes_.push_back(
            {key.place, fmt::format("the key \"{}\" is given twice; first on line {}", key.text,
                                    first->second.line)});
      } else if (key.text == "<<") {
        merges.push_back(parts[i + 1]);
      } else {
        map.entries.push_back({key.text, key.place, parts[i + 1]});
      }
    }
    if (merges.empty()) return;
    std::set<std::string> known;
    for (Node::Entry const& entry : map.entries) known.insert(entry.key);
    for (Node const* source : merges) merge(map, known, *source);
  }

  // YAML 1.1 merge key: what the map says itself wins, then the first source that has the key.
  void merge(Node& map, std::set<std::string>& known, Node const& source) {
    if (source.kind == Node::Kind::List) {
      for (Node const* item : source.items) merge_one(map, known, *item);
    } else {
      merge_one(map, known, source);
    }
  }

  void merge_one(Node& map, std::set<std::string>& known, Node const& source) {
    if (source.kind != Node::Kind::Map) {
      tree_.mistakes_.push_back({source.place, "\"<<\" takes a map, or a list of maps"});
      return;
    }
    nodes_ += source.entries.size();
    if (nodes_ > kNodesMax) throw Stop{{map.place, "merge keys make the file too large"}};
    for (Node::Entry const& entry : source.entries) {
      if (known.insert(entry.key).second) map.entries.push_back(entry);
    }
  }

  Tree& tree_;
  std::map<YAML::anchor_t, Node const*> anchors_;
  std::vector<Open> open_;
  Node const* root_ = nullptr;
  std::size_t nodes_ = 0;
  int documents_ = 0;
};

Node const* Node::find(std::string_view key) const {
  auto const found = std::ranges::find(entries, key, &Entry::key);
  return found == entries.end() ? nullptr : found->value;
}

std::string_view Node::kind_text() const {
  switch (kind) {
    case Kind::Null:
      return "nothing";
    case Kind::Scalar:
      return "a value";
    case Kind::List:
      return "a list";
    case Kind::Map:
      return "a map";
  }
  return "something";
}

std::expected<Tree, Remark> Tree::parse(std::string_view text) {
  if (auto mistake = bytes_mistake(text)) return std::unexpected(std::move(*mistake));
  Tree tree;
  TreeBuilder builder(tree);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (Stop& stopped) {
    return std::unexpected(std::move(stopped.remark));
  } catch (YAML::Exception const& exception) {
    Place const place = place_of(exception.mark);
    return std::unexpected(Remark{place, explain(text, place, exception.msg)});
  }
  if (!builder.root() || builder.root()->kind == Node::Kind::Null) {
    return std::unexpected(
        Remark{{}, "the file is empty; it needs at least service: or functions:"});
  }
  tree.root_ = builder.root();
  return tree;
}

}  // namespace aether::config
