// SPDX-License-Identifier: Apache-2.0
// YAML text as a tree with places, bounded in every direction. Knows nothing of the schema.
// Aliases are shared, not copied; merge keys (<<) are resolved; a key given twice is a mistake.
#pragma once
#include <cstdint>
#include <deque>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace aether::config {

struct Place {
  int line = 0;    ///< From 1; 0 is the whole file.
  int column = 0;  ///< From 1, in bytes.
  auto operator<=>(Place const&) const = default;
};

/// One thing that is wrong, or that the user should know.
struct Remark {
  Place place;
  std::string message;
  auto operator<=>(Remark const&) const = default;
};

struct Node {
  enum class Kind : std::uint8_t { Null, Scalar, List, Map };
  struct Entry {
    std::string key;
    Place place;
    Node const* value;
  };

  Kind kind = Kind::Null;
  Place place;
  std::string text;                ///< Of a scalar, before variables are expanded.
  bool quoted = false;             ///< Of a scalar: text, whatever it looks like.
  std::vector<Node const*> items;  ///< Of a list.
  std::vector<Entry> entries;      ///< Of a map, each key once.

  [[nodiscard]] Node const* find(std::string_view key) const;
  /// "a map", "a list", "a value", "nothing": for messages.
  [[nodiscard]] std::string_view kind_text() const;
};

/// Owns its nodes. Move only: nodes point at each other.
class Tree {
 public:
  Tree() = default;
  Tree(Tree&&) = default;
  Tree& operator=(Tree&&) = default;
  Tree(Tree const&) = delete;
  Tree& operator=(Tree const&) = delete;

  /// The first syntax mistake, or the tree with its lesser mistakes (keys given twice).
  [[nodiscard]] static std::expected<Tree, Remark> parse(std::string_view text);

  [[nodiscard]] Node const& root() const { return *root_; }
  [[nodiscard]] std::vector<Remark> const& mistakes() const { return mistakes_; }

 private:
  friend class TreeBuilder;
  std::deque<Node> nodes_;
  Node const* root_ = nullptr;
  std::vector<Remark> mistakes_;
};

}  // namespace aether::config
