// SPDX-License-Identifier: Apache-2.0
// A process that shares our memory until it executes. Private to spawn().
#pragma once
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "os/child.h"
#include "os/raw_syscall.h"

namespace aether::os {

/// A guarded stack for the child, in memory of its own.
class ChildStack {
 public:
  static Result<ChildStack> create();
  ChildStack(ChildStack&& other) noexcept;
  ChildStack& operator=(ChildStack&&) = delete;
  ~ChildStack();
  [[nodiscard]] std::byte* base() const { return base_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  ChildStack(std::byte* base, std::size_t size) : base_(base), size_(size) {}
  std::byte* base_;
  std::size_t size_;
};

/// Which system call makes the process: clone3 (Linux 5.7 with a cgroup), or clone, which every
/// kernel and sandbox knows, but which cannot make a process in another cgroup.
enum class CloneCall : std::uint8_t { Clone3, Clone };

/// Where a process is born.
struct Birthplace {
  int cgroup = -1;  ///< A folder; -1: ours. Borrowed.
  bool new_pid_namespace = false;
};

/// Makes a process that runs entry(argument) on the stack, in our memory, with our descriptors
/// copied. `alive` becomes 0, and its futex is woken, when the process has left our memory, by exec
/// or by its end (CLONE_CHILD_CLEARTID): until then stack, argument and `alive` must stay.
Result<Child> clone_process(CloneCall call, CloneEntry entry, void* argument,
                            ChildStack const& stack, std::atomic<std::uint32_t>& alive,
                            Birthplace where);

/// Waits until the process has left our memory. False if it has not done so in time.
bool wait_left(std::atomic<std::uint32_t>& alive, Duration patience);

}  // namespace aether::os
