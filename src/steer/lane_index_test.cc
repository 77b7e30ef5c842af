// SPDX-License-Identifier: Apache-2.0
#include "steer/lane_index.h"

#include <gtest/gtest.h>

#include "steer/testing.h"

namespace aether::steer {
namespace {

LaneIndex index_with(std::vector<LaneIndex::Key> const& keys) {
  LaneIndex index;
  for (auto const key : keys) index.join(key);
  return index;
}

TEST(LaneIndex, GivesPlacesInOrderOfJoining) {
  auto const index = index_with({7, 8, 9});
  EXPECT_EQ(index.index_of(7), 0U);
  EXPECT_EQ(index.index_of(9), 2U);
  EXPECT_EQ(index.index_of(10), std::nullopt);
}

TEST(LaneIndex, PutsTheLastOneInThePlaceOfOneThatLeaves) {
  auto index = index_with({1, 2, 3});
  index.leave(1);
  EXPECT_EQ(index.keys(), (std::vector<LaneIndex::Key>{3, 2}));
  index.leave(2);
  index.leave(2);
  EXPECT_EQ(index.keys(), (std::vector<LaneIndex::Key>{3}));
}

TEST(LaneIndex, KnowsWhenLeavingWouldOpenAWindow) {
  auto const two = index_with({1, 2});
  EXPECT_TRUE(two.leaves_cleanly(1, 2));
  EXPECT_TRUE(two.leaves_cleanly(2, 1));
  auto const three = index_with({1, 2, 3});
  EXPECT_FALSE(three.leaves_cleanly(1, 3));
  EXPECT_FALSE(three.leaves_cleanly(2, 3));
  EXPECT_TRUE(three.leaves_cleanly(1, 2));
  EXPECT_TRUE(three.leaves_cleanly(3, 1));
}

/// Whatever leaves first, middle or last out of up to five lanes, and whichever is steered: the
/// kernel's group behaves as the model says.
TEST(LaneIndex, IsWhatTheKernelDoesForEveryOrderOfLeaving) {
  using namespace testing;
  for (std::uint64_t const size : {2U, 3U, 4U, 5U}) {
    for (std::uint64_t leaving = 1; leaving <= size; ++leaving) {
      auto group = open_group("127.0.0.1:0");
      std::vector<std::uint64_t> numbers;
      for (std::uint64_t n = 1; n <= size; ++n) numbers.push_back(n);
      for (auto const n : numbers) lane(group, n);
      std::uint64_t const other = leaving == 1 ? 2 : 1;
      ASSERT_TRUE(group.steer_to(revision(other)));
      ASSERT_TRUE(group.retire(revision(leaving)));
      std::erase(numbers, leaving);
      for (auto const n : numbers) {
        ASSERT_TRUE(group.steer_to(revision(n)));
        for (int i = 0; i < 8; ++i)
          ASSERT_EQ(lands_on(group, numbers), n) << leaving << " of " << size << " left";
      }
    }
  }
}

}  // namespace
}  // namespace aether::steer
