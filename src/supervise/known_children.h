// SPDX-License-Identifier: Apache-2.0
// KnownChildren: the processes whose exit status somebody in this room waits for. Whoever reaps
// orphans (PID 1, a subreaper) asks it, so that no status is ever taken from its owner:
//   os::reap_orphans([&](pid_t pid) { return known.contains(pid); })
// Loop thread only.
#pragma once
#include <sys/types.h>

#include <unordered_set>
#include <utility>

namespace aether::supervise {

class KnownChildren {
 public:
  /// Keeps a pid known for its own life. Move only; the registry outlives it.
  class Entry {
   public:
    Entry() = default;
    Entry(KnownChildren* known, pid_t pid) : known_(known), pid_(pid) {
      if (known_ != nullptr) known_->pids_.insert(pid_);
    }
    Entry(Entry&& other) noexcept
        : known_(std::exchange(other.known_, nullptr)), pid_(other.pid_) {}
    Entry& operator=(Entry&& other) noexcept {
      std::swap(known_, other.known_);
      std::swap(pid_, other.pid_);
      return *this;
    }
    ~Entry() {
      if (known_ != nullptr) known_->pids_.erase(pid_);
    }

   private:
    KnownChildren* known_ = nullptr;
    pid_t pid_ = 0;
  };

  [[nodiscard]] bool contains(pid_t pid) const { return pids_.contains(pid); }
  [[nodiscard]] std::size_t size() const { return pids_.size(); }

 private:
  std::unordered_set<pid_t> pids_;
};

}  // namespace aether::supervise
