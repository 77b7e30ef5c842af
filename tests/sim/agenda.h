// SPDX-License-Identifier: Apache-2.0
// Agenda: what is to happen, in the order of time; the manual clock is turned to each in turn.
#pragma once
#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "base/time.h"

namespace aether::sim {

class Agenda {
 public:
  void after(Duration wait, std::function<void()> what) {
    entries_.push(Entry{clock_.now() + wait, ++count_, std::move(what)});
  }
  /// Lets the next thing happen; false when nothing is planned.
  bool turn() {
    if (entries_.empty()) return false;
    // The queue hands out constants; the entry goes with the pop.
    Entry entry = std::move(const_cast<Entry&>(entries_.top()));
    entries_.pop();
    clock_.advance(entry.at - clock_.now());
    entry.what();
    return true;
  }
  [[nodiscard]] Instant now() const { return clock_.now(); }

 private:
  struct Entry {
    Instant at;
    std::uint64_t number = 0;  ///< First planned, first done.
    std::function<void()> what;
    bool operator<(Entry const& other) const {
      return std::pair(other.at, other.number) < std::pair(at, number);
    }
  };

  ManualClock clock_;
  std::priority_queue<Entry> entries_;
  std::uint64_t count_ = 0;
};

}  // namespace aether::sim
