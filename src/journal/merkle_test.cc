// SPDX-License-Identifier: Apache-2.0
#include "journal/merkle.h"

#include <gtest/gtest.h>

#include "journal/testing.h"

namespace aether::journal {
namespace {

using testing::value_of;

/// A tree in lists; every kept node by its level and index.
class ListedNodes final : public TreeNodes {
 public:
  explicit ListedNodes(std::uint64_t size) {
    GrowingTree tree;
    for (std::uint64_t at = 0; at < size; ++at) {
      leaves_.push_back(leaf_hash(std::to_string(at)));
      tree.add(leaves_.back(), kept_);
    }
    root = tree.root();
  }
  Result<std::vector<Hash>> leaves(std::uint64_t first, std::size_t count) override {
    auto const begin = leaves_.begin() + static_cast<std::ptrdiff_t>(first);
    return std::vector<Hash>(begin, begin + static_cast<std::ptrdiff_t>(count));
  }
  Result<std::optional<Hash>> node(unsigned level, std::uint64_t index) override {
    for (TreeNode const& each : kept_) {
      if (each.level == level && each.index == index) return each.hash;
    }
    return std::nullopt;
  }
  Hash leaf(std::uint64_t at) { return leaves_[at]; }
  Hash root;

 private:
  std::vector<Hash> leaves_;
  std::vector<TreeNode> kept_;
};

/// RFC 6962 section 2.1, word by word.
Hash defined_root(std::vector<std::string> const& leaves) {
  if (leaves.empty()) return sha256({});
  if (leaves.size() == 1) return leaf_hash(leaves[0]);
  std::size_t split = 1;
  while (split * 2 < leaves.size()) split *= 2;
  auto const middle = leaves.begin() + static_cast<std::ptrdiff_t>(split);
  return node_hash(defined_root({leaves.begin(), middle}), defined_root({middle, leaves.end()}));
}

// The vectors of the certificate-transparency reference implementation.
TEST(Merkle, GivesTheRootsOfTheReferenceImplementation) {
  std::vector<std::string> const leaves = {
      std::string(),
      std::string("\x00", 1),
      "\x10",
      "\x20\x21",
      "\x30\x31",
      "\x40\x41\x42\x43",
      "\x50\x51\x52\x53\x54\x55\x56\x57",
      "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f"};
  char const* const roots[] = {"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                               "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                               "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                               "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                               "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                               "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                               "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                               "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  GrowingTree tree;
  EXPECT_EQ(tree.root(), sha256({}));
  std::vector<TreeNode> kept;
  for (std::size_t at = 0; at < leaves.size(); ++at) {
    tree.add(leaf_hash(leaves[at]), kept);
    EXPECT_EQ(to_hex(tree.root().view()), roots[at]);
    EXPECT_EQ(tree.root(), defined_root({leaves.begin(), leaves.begin() + at + 1}));
  }
}

TEST(Merkle, ProvesEveryLeafOfEverySize) {
  ListedNodes nodes(70);
  for (std::uint64_t size = 1; size <= 70; ++size) {
    Hash const root = value_of(tree_root(nodes, size));
    for (std::uint64_t leaf = 0; leaf < size; ++leaf) {
      std::vector<Hash> proof = value_of(inclusion_proof(nodes, leaf, size));
      EXPECT_TRUE(verify_inclusion(nodes.leaf(leaf), leaf, size, proof, root));
      EXPECT_FALSE(verify_inclusion(nodes.leaf(leaf), (leaf + 1) % (size + 1), size, proof, root));
      if (!proof.empty()) {
        proof.pop_back();
        EXPECT_FALSE(verify_inclusion(nodes.leaf(leaf), leaf, size, proof, root));
      }
    }
  }
}

TEST(Merkle, ProvesThatItOnlyGrew) {
  ListedNodes nodes(70);
  for (std::uint64_t size = 1; size <= 70; ++size) {
    Hash const root = value_of(tree_root(nodes, size));
    for (std::uint64_t old_size = 1; old_size <= size; ++old_size) {
      Hash const old_root = value_of(tree_root(nodes, old_size));
      std::vector<Hash> const proof = value_of(consistency_proof(nodes, old_size, size));
      EXPECT_TRUE(verify_consistency(old_size, old_root, size, root, proof));
      EXPECT_FALSE(verify_consistency(old_size, leaf_hash("another"), size, root, proof));
      EXPECT_FALSE(verify_consistency(old_size, old_root, size, leaf_hash("another"), proof));
    }
  }
}

TEST(Merkle, LargeTreesAreReadFromTheirKeptNodes) {
  ListedNodes nodes(70'000);
  EXPECT_EQ(value_of(tree_root(nodes, 70'000)), nodes.root);
  GrowingTree const loaded = value_of(GrowingTree::load(nodes, 70'000));
  EXPECT_EQ(loaded.root(), nodes.root);
  EXPECT_EQ(loaded.size(), 70'000U);
  std::vector<Hash> const proof = value_of(consistency_proof(nodes, 65'537, 70'000));
  EXPECT_TRUE(
      verify_consistency(65'537, value_of(tree_root(nodes, 65'537)), 70'000, nodes.root, proof));
}

TEST(Merkle, OneProofHoldsForManyLeaves) {
  ListedNodes nodes(1000);
  Chance chance(7);
  for (int round = 0; round < 200; ++round) {
    std::uint64_t const size = 1 + chance.below(1000);
    std::vector<std::uint64_t> numbers;
    for (std::uint64_t at = 0; at < size; ++at) {
      if (chance.one_in(1 + static_cast<std::uint64_t>(round))) numbers.push_back(at);
    }
    std::vector<Hash> proof = value_of(bundle_proof(nodes, numbers, size));
    std::vector<NumberedLeaf> leaves;
    for (std::uint64_t const at : numbers) leaves.push_back({.number = at, .hash = nodes.leaf(at)});
    Hash const root = value_of(tree_root(nodes, size));
    EXPECT_EQ(bundle_root(leaves, size, proof), root);
    if (!leaves.empty()) {
      leaves.back().hash.bytes[5] ^= 1U;
      EXPECT_NE(bundle_root(leaves, size, proof), root);
    }
    proof.emplace_back();
    EXPECT_EQ(bundle_root(leaves, size, proof), std::nullopt);
  }
}

TEST(Base64, TakesOnlyWhatItGives) {
  Chance chance(3);
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    for (std::uint64_t left = chance.below(40); left > 0; --left) {
      bytes += static_cast<char>(chance.below(256));
    }
    std::string const text = to_base64(bytes);
    EXPECT_EQ(from_base64(text), bytes);
    if (text.ends_with('=')) EXPECT_EQ(from_base64(text.substr(0, text.size() - 1)), std::nullopt);
  }
  for (char const* text :
       {"A", "AB", "ABC", "====", "A===", "AB=C", "AR==", "AAB=", "A A=", "AA-_"}) {
    EXPECT_EQ(from_base64(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace aether::journal
