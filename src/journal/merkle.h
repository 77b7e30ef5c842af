// SPDX-License-Identifier: Apache-2.0
// The Merkle tree of RFC 6962 section 2.1: whoever keeps 32 bytes of it can later be shown that an
// event is in the journal, and that the journal only grew.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "journal/hash.h"

namespace aether::journal {

/// SHA-256 of nothing: the root of the tree without leaves.
inline constexpr Hash kEmptyRoot{{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14,  //
                                  0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,  //
                                  0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c,  //
                                  0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};

/// SHA-256(0x00 || bytes) and SHA-256(0x01 || left || right).
[[nodiscard]] Hash leaf_hash(std::string_view bytes);
[[nodiscard]] Hash node_hash(Hash const& left, Hash const& right);

/// A node over 2^level leaves, the index-th of its level.
struct TreeNode {
  unsigned level = 0;
  std::uint64_t index = 0;
  Hash hash;
  bool operator==(TreeNode const&) const = default;
};
/// Only nodes of every eighth level are kept: 1 for 256 leaves. What is between is computed again.
inline constexpr unsigned kKeptLevels = 8;

/// Where leaves and kept nodes are read from.
class TreeNodes {
 public:
  virtual ~TreeNodes() = default;
  /// The hashes of the leaves first, first + 1, ... (counted from 0): exactly `count`.
  [[nodiscard]] virtual Result<std::vector<Hash>> leaves(std::uint64_t first,
                                                         std::size_t count) = 0;
  /// A kept node. Nothing: it is not kept here, and can be computed from the leaves.
  [[nodiscard]] virtual Result<std::optional<Hash>> node(unsigned level, std::uint64_t index) = 0;
};

/// The right edge of a tree: all that is needed to add leaves and to know the root.
class GrowingTree {
 public:
  GrowingTree() = default;
  /// The tree of `size` leaves that are stored already.
  static Result<GrowingTree> load(TreeNodes& nodes, std::uint64_t size);

  /// @param kept Gets the nodes that are complete now and that a store keeps.
  void add(Hash const& leaf, std::vector<TreeNode>& kept);
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] Hash root() const;

 private:
  std::uint64_t size_ = 0;
  std::vector<TreeNode> peaks_;  ///< The largest whole subtrees, from left to right.
};

/// The root of the first `size` leaves.
[[nodiscard]] Result<Hash> tree_root(TreeNodes& nodes, std::uint64_t size);

/// RFC 6962 section 2.1.1: from the leaf upward.
[[nodiscard]] Result<std::vector<Hash>> inclusion_proof(TreeNodes& nodes, std::uint64_t leaf,
                                                        std::uint64_t size);
[[nodiscard]] bool verify_inclusion(Hash const& leaf_hash, std::uint64_t leaf, std::uint64_t size,
                                    std::span<Hash const> proof, Hash const& root);

/// RFC 6962 section 2.1.2, for 0 < old_size <= size.
[[nodiscard]] Result<std::vector<Hash>> consistency_proof(TreeNodes& nodes, std::uint64_t old_size,
                                                          std::uint64_t size);
[[nodiscard]] bool verify_consistency(std::uint64_t old_size, Hash const& old_root,
                                      std::uint64_t size, Hash const& root,
                                      std::span<Hash const> proof);

/// One proof for many leaves: the hashes of the largest subtrees that hold none of them, from left
/// to right. `leaves` ascend.
[[nodiscard]] Result<std::vector<Hash>> bundle_proof(TreeNodes& nodes,
                                                     std::span<std::uint64_t const> leaves,
                                                     std::uint64_t size);
struct NumberedLeaf {
  std::uint64_t number = 0;
  Hash hash;
};
/// The root that leaves (ascending) and proof give; nothing if they do not fit each other.
[[nodiscard]] std::optional<Hash> bundle_root(std::span<NumberedLeaf const> leaves,
                                              std::uint64_t size, std::span<Hash const> proof);

}  // namespace aether::journal
