// SPDX-License-Identifier: Apache-2.0
// KnownChildren: the processes whose exit status somebody in this room waits for. Whoever reaps
// orphans (PID 1, a subreaper) asks it, so that no status is ever taken from its owner:
//   os::reap_orphans([&](pid_t pid) { return known.contains(pid); })
// Any thread: jobs start their processes on a thread of their own.
#pragma once
#include <sys/types.h>

#include <mutex>
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
      if (known_ != nullptr) known_->insert(pid_);
    }
    Entry(Entry&& other) noexcept
        : known_(std::exchange(other.known_, nullptr)), pid_(other.pid_) {}
    Entry& operator=(Entry&& other) noexcept {
      std::swap(known_, other.known_);
      std::swap(pid_, other.pid_);
      return *this;
    }
    ~Entry() {
      if (known_ != nullptr) known_->erase(pid_);
    }

   private:
    KnownChildren* known_ = nullptr;
    pid_t pid_ = 0;
  };

  using Hold = std::unique_lock<std::recursive_mutex>;

  /// Held from before a child is made until its Entry is: a child that ends at once must not be
  /// taken for an orphan by another thread.
  [[nodiscard]] Hold hold() const { return Hold(mutex_); }
  [[nodiscard]] bool contains(pid_t pid) const {
    Hold const held = hold();
    return pids_.contains(pid);
  }
  [[nodiscard]] std::size_t size() const {
    Hold const held = hold();
    return pids_.size();
  }

 private:
  void insert(pid_t pid) {
    Hold const held = hold();
    pids_.insert(pid);
  }
  void erase(pid_t pid) {
    Hold const held = hold();
    pids_.erase(pid);
  }

  mutable std::recursive_mutex mutex_;
  std::unordered_set<pid_t> pids_;
};

}  // namespace aether::supervise
