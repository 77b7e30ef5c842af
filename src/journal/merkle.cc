// SPDX-License-Identifier: Apache-2.0
#include "journal/merkle.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace aether::journal {
namespace {

constexpr std::uint64_t kLeavesAtOnce = std::uint64_t{1} << kKeptLevels;

/// The largest power of two below `count`: where RFC 6962 splits a tree.
std::uint64_t split_of(std::uint64_t count) {
  return std::bit_floor(count - 1);
}

Hash root_of(std::span<Hash const> leaves) {
  if (leaves.size() == 1) return leaves.front();
  auto const split = static_cast<std::size_t>(split_of(leaves.size()));
  return node_hash(root_of(leaves.first(split)), root_of(leaves.subspan(split)));
}

/// The hash over `count` > 0 leaves from `first` on, which is where a subtree of that size begins.
Result<Hash> subtree(TreeNodes& nodes, std::uint64_t first, std::uint64_t count) {
  if (std::has_single_bit(count) && count >= kLeavesAtOnce) {
    auto const level = static_cast<unsigned>(std::countr_zero(count));
    if (level % kKeptLevels == 0) {
      TRY_ASSIGN(std::optional<Hash> const kept, nodes.node(level, first >> level));
      if (kept) return *kept;
    }
  }
  if (count <= kLeavesAtOnce) {
    TRY_ASSIGN(std::vector<Hash> const leaves, nodes.leaves(first, count));
    return root_of(leaves);
  }
  std::uint64_t const split = split_of(count);
  TRY_ASSIGN(Hash const left, subtree(nodes, first, split));
  TRY_ASSIGN(Hash const right, subtree(nodes, first + split, count - split));
  return node_hash(left, right);
}

/// SUBPROOF of RFC 6962 section 2.1.2.
Status consistency(TreeNodes& nodes, std::uint64_t old_size, std::uint64_t first,
                   std::uint64_t count, bool old_root_is_known, std::vector<Hash>& proof) {
  if (old_size == count) {
    if (old_root_is_known) return {};
    TRY_ASSIGN(Hash const whole, subtree(nodes, first, count));
    proof.push_back(whole);
    return {};
  }
  std::uint64_t const split = split_of(count);
  if (old_size <= split) {
    TRY(consistency(nodes, old_size, first, split, old_root_is_known, proof));
    TRY_ASSIGN(Hash const right, subtree(nodes, first + split, count - split));
    proof.push_back(right);
    return {};
  }
  TRY(consistency(nodes, old_size - split, first + split, count - split, false, proof));
  TRY_ASSIGN(Hash const left, subtree(nodes, first, split));
  proof.push_back(left);
  return {};
}

Status bundle(TreeNodes& nodes, std::span<std::uint64_t const> leaves, std::uint64_t first,
              std::uint64_t count, std::vector<Hash>& proof) {
  if (leaves.empty()) {
    TRY_ASSIGN(Hash const whole, subtree(nodes, first, count));
    proof.push_back(whole);
    return {};
  }
  if (count == 1) return {};
  std::uint64_t const split = split_of(count);
  auto const cut = std::ranges::lower_bound(leaves, first + split) - leaves.begin();
  auto const left_count = static_cast<std::size_t>(cut);
  TRY(bundle(nodes, leaves.first(left_count), first, split, proof));
  return bundle(nodes, leaves.subspan(left_count), first + split, count - split, proof);
}

/// Takes from `proof` what it needs.
std::optional<Hash> bundle_hash(std::span<NumberedLeaf const> leaves, std::uint64_t first,
                                std::uint64_t count, std::span<Hash const>& proof) {
  if (leaves.empty()) {
    if (proof.empty()) return std::nullopt;
    Hash const hash = proof.front();
    proof = proof.subspan(1);
    return hash;
  }
  if (count == 1) return leaves.size() == 1 ? std::optional(leaves.front().hash) : std::nullopt;
  std::uint64_t const split = split_of(count);
  auto const cut = std::ranges::lower_bound(leaves, first + split, {}, &NumberedLeaf::number);
  auto const left_count = static_cast<std::size_t>(cut - leaves.begin());
  auto const left = bundle_hash(leaves.first(left_count), first, split, proof);
  if (!left) return std::nullopt;
  auto const right = bundle_hash(leaves.subspan(left_count), first + split, count - split, proof);
  if (!right) return std::nullopt;
  return node_hash(*left, *right);
}

}  // namespace

Hash leaf_hash(std::string_view bytes) {
  return sha256({std::string_view("\0", 1), bytes});
}

Hash node_hash(Hash const& left, Hash const& right) {
  return sha256({std::string_view("\1", 1), left.view(), right.view()});
}

Result<GrowingTree> GrowingTree::load(TreeNodes& nodes, std::uint64_t size) {
  GrowingTree tree;
  for (unsigned level = 64; level-- > 0;) {
    std::uint64_t const count = std::uint64_t{1} << level;
    if ((size & count) == 0) continue;
    TRY_ASSIGN(Hash const hash, subtree(nodes, tree.size_, count));
    tree.peaks_.push_back({.level = level, .index = tree.size_ >> level, .hash = hash});
    tree.size_ += count;
  }
  return tree;
}

void GrowingTree::add(Hash const& leaf, std::vector<TreeNode>& kept) {
  peaks_.push_back({.level = 0, .index = size_++, .hash = leaf});
  while (peaks_.size() > 1 && peaks_[peaks_.size() - 2].level == peaks_.back().level) {
    TreeNode const right = peaks_.back();
    peaks_.pop_back();
    TreeNode& left = peaks_.back();
    left = {.level = right.level + 1,
            .index = right.index >> 1U,
            .hash = node_hash(left.hash, right.hash)};
    if (left.level % kKeptLevels == 0) kept.push_back(left);
  }
}

Hash GrowingTree::root() const {
  if (peaks_.empty()) return kEmptyRoot;
  Hash hash = peaks_.back().hash;
  for (auto peak = peaks_.rbegin() + 1; peak != peaks_.rend(); ++peak) {
    hash = node_hash(peak->hash, hash);
  }
  return hash;
}

Result<Hash> tree_root(TreeNodes& nodes, std::uint64_t size) {
  if (size == 0) return kEmptyRoot;
  return subtree(nodes, 0, size);
}

Result<std::vector<Hash>> inclusion_proof(TreeNodes& nodes, std::uint64_t leaf,
                                          std::uint64_t size) {
  AETHER_CHECK(leaf < size, "leaf {} of {}", leaf, size);
  std::vector<Hash> proof;
  std::uint64_t first = 0;
  std::uint64_t count = size;
  while (count > 1) {
    std::uint64_t const split = split_of(count);
    bool const is_left = leaf - first < split;
    TRY_ASSIGN(Hash const other, is_left ? subtree(nodes, first + split, count - split)
                                         : subtree(nodes, first, split));
    proof.push_back(other);
    first += is_left ? 0 : split;
    count = is_left ? split : count - split;
  }
  std::ranges::reverse(proof);
  return proof;
}

// RFC 9162 section 2.1.3.2, which says how to check what RFC 6962 describes.
bool verify_inclusion(Hash const& leaf_hash, std::uint64_t leaf, std::uint64_t size,
                      std::span<Hash const> proof, Hash const& root) {
  if (leaf >= size) return false;
  std::uint64_t number = leaf;
  std::uint64_t last = size - 1;
  Hash hash = leaf_hash;
  for (Hash const& other : proof) {
    if (last == 0) return false;
    if ((number & 1U) == 0 && number != last) {
      hash = node_hash(hash, other);
    } else {
      hash = node_hash(other, hash);
      while ((number & 1U) == 0 && number != 0) {
        number >>= 1U;
        last >>= 1U;
      }
    }
    number >>= 1U;
    last >>= 1U;
  }
  return last == 0 && hash == root;
}

Result<std::vector<Hash>> consistency_proof(TreeNodes& nodes, std::uint64_t old_size,
                                            std::uint64_t size) {
  AETHER_CHECK(old_size > 0 && old_size <= size, "from {} to {}", old_size, size);
  std::vector<Hash> proof;
  TRY(consistency(nodes, old_size, 0, size, true, proof));
  return proof;
}

// RFC 9162 section 2.1.4.2.
bool verify_consistency(std::uint64_t old_size, Hash const& old_root, std::uint64_t size,
                        Hash const& root, std::span<Hash const> proof) {
  if (old_size == 0 || old_size > size) return false;
  if (old_size == size) return proof.empty() && old_root == root;
  std::vector<Hash> path;
  if (std::has_single_bit(old_size)) path.push_back(old_root);
  path.insert(path.end(), proof.begin(), proof.end());
  if (path.empty()) return false;
  std::uint64_t number = old_size - 1;
  std::uint64_t last = size - 1;
  while ((number & 1U) != 0) {
    number >>= 1U;
    last >>= 1U;
  }
  Hash old_hash = path.front();
  Hash hash = path.front();
  for (Hash const& other : std::span(path).subspan(1)) {
    if (last == 0) return false;
    if ((number & 1U) != 0 || number == last) {
      old_hash = node_hash(other, old_hash);
      hash = node_hash(other, hash);
      while ((number & 1U) == 0 && number != 0) {
        number >>= 1U;
        last >>= 1U;
      }
    } else {
      hash = node_hash(hash, other);
    }
    number >>= 1U;
    last >>= 1U;
  }
  return last == 0 && old_hash == old_root && hash == root;
}

Result<std::vector<Hash>> bundle_proof(TreeNodes& nodes, std::span<std::uint64_t const> leaves,
                                       std::uint64_t size) {
  AETHER_CHECK(size > 0 && (leaves.empty() || leaves.back() < size));
  std::vector<Hash> proof;
  TRY(bundle(nodes, leaves, 0, size, proof));
  return proof;
}

std::optional<Hash> bundle_root(std::span<NumberedLeaf const> leaves, std::uint64_t size,
                                std::span<Hash const> proof) {
  auto const not_ascending = [](NumberedLeaf const& a, NumberedLeaf const& b) {
    return a.number >= b.number;
  };
  if (size == 0 || std::ranges::adjacent_find(leaves, not_ascending) != leaves.end()) {
    return std::nullopt;
  }
  if (!leaves.empty() && leaves.back().number >= size) return std::nullopt;
  std::optional<Hash> root = bundle_hash(leaves, 0, size, proof);
  return proof.empty() ? root : std::nullopt;
}

}  // namespace aether::journal
