// SPDX-License-Identifier: Apache-2.0
#include "steer/lane_index.h"

#include <algorithm>

#include "base/check.h"

namespace aether::steer {

std::size_t LaneIndex::join(Key key) {
  AETHER_CHECK(!contains(key), "socket {} joined twice", key);
  keys_.push_back(key);
  return keys_.size() - 1;
}

void LaneIndex::leave(Key key) {
  auto const found = index_of(key);
  if (!found) return;
  keys_[*found] = keys_.back();
  keys_.pop_back();
}

std::optional<std::size_t> LaneIndex::index_of(Key key) const {
  auto const found = std::ranges::find(keys_, key);
  if (found == keys_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - keys_.begin());
}

bool LaneIndex::leaves_cleanly(Key leaving, Key steered) const {
  auto const from = index_of(leaving);
  auto const to = index_of(steered);
  if (!from || !to || leaving == steered) return true;
  bool const steered_moves = *to == keys_.size() - 1;
  // With two, the one that is left is the only choice, whatever the program says.
  return !steered_moves || keys_.size() == 2;
}

}  // namespace aether::steer
