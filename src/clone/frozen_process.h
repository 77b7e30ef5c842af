// SPDX-License-Identifier: Apache-2.0
// FrozenProcess: a process whose threads are all held still, with everything that a copy of each
// thread needs, and a small arena in its memory from which its threads can be made to perform
// lists of system calls.
//
// The arena, one private mapping: a page with the call loop, a region for the lists of the process,
// then a page for each thread, so that several may run their lists at once.
#pragma once
#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "clone/call_list.h"
#include "clone/mappings.h"
#include "clone/traced_thread.h"
#include "os/unique_fd.h"

namespace aether::clone {

/// A thread as it stood when it was stopped.
struct ThreadImage {
  Registers registers{};
  std::vector<std::byte> extended_state;
  std::uint64_t signal_mask = 0;
  RseqRegistration rseq;
  std::uint64_t robust_list = 0;
  std::uint64_t robust_list_size = 0;
  std::uint64_t tid_address = 0;  ///< Where the C library keeps the thread's number.
  stack_t signal_stack{};
  std::string name;
  pid_t own_tid = 0;  ///< Its number in its own pid namespace.
};

/// Where lists lie in the process's memory.
struct Arena {
  std::uint64_t base = 0;
  std::size_t size = 0;
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kProcessBytes = std::size_t{256} * 1024;
  static constexpr std::size_t kThreadBytes = kPage;

  [[nodiscard]] static std::size_t size_for(std::size_t threads) {
    return kPage + kProcessBytes + threads * kThreadBytes;
  }
  [[nodiscard]] std::uint64_t loop() const { return base; }
  [[nodiscard]] CallList process_list() const { return {base + kPage, kProcessBytes}; }
  [[nodiscard]] CallList thread_list(std::size_t thread) const {
    return {base + kPage + kProcessBytes + thread * kThreadBytes, kThreadBytes};
  }
};

/// One thread of a traced process and what is needed to make it call.
struct Callee {
  pid_t pid;  ///< Of its process, for its memory.
  TracedThread& thread;
  Registers like;  ///< Segment registers and flags to run with.
};

/// Writes the list into the program and lets the thread begin it; finish_calls() waits. The thread
/// stands still with all signals but SIGTRAP blocked.
Status begin_calls(Callee callee, Arena const& arena, CallList const& list);
enum class Trapped : std::uint8_t { No, Yes };
/// Waits (unless it has trapped already), reads the results back into `list`, and fails with the
/// first call that failed.
Status finish_calls(Callee callee, CallList& list, Trapped trapped = Trapped::No);
/// Both.
Status perform_calls(Callee callee, Arena const& arena, CallList& list);

class FrozenProcess {
 public:
  /// Holds all threads, sets up the arena and captures. On a fault the process runs on, or is gone.
  /// Unsupported if its main thread is not waiting in a system call.
  [[nodiscard]] static Result<FrozenProcess> freeze(pid_t pid);
  FrozenProcess(FrozenProcess&&) = default;
  FrozenProcess& operator=(FrozenProcess&&) = delete;
  /// Not thawed: the process is killed, its main thread is left for its parent to reap.
  ~FrozenProcess();

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }
  [[nodiscard]] Arena const& arena() const { return arena_; }
  /// The main thread is the first.
  [[nodiscard]] std::vector<ThreadImage> const& threads() const { return images_; }
  [[nodiscard]] std::vector<Mapping> const& mappings() const { return mappings_; }
  [[nodiscard]] bool has_interval_timer() const { return has_interval_timer_; }
  /// Address of a `syscall` instruction of the program's own.
  [[nodiscard]] std::uint64_t call_instruction() const { return call_instruction_; }

  /// Whether it is the first process of a pid namespace of its own.
  [[nodiscard]] bool is_namespace_init() const { return images_.front().own_tid == 1; }

  /// The main thread performs a list.
  Status perform(CallList& list);
  /// As perform(), of a list whose first call makes a process; its number as seen from here.
  [[nodiscard]] Result<pid_t> perform_fork(CallList& list);
  /// Everything as it was; the program runs on.
  Status thaw();

 private:
  FrozenProcess(pid_t pid, os::UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  Status hold_all_threads();
  Status capture();
  Status find_call_instruction();
  Status make_arena();
  Status ask_threads();
  Status keep_all_memory_over_fork();
  Status remove_arena();
  [[nodiscard]] Callee callee(std::size_t thread);

  pid_t pid_;
  os::UniqueFd pidfd_;
  std::vector<TracedThread> held_;
  std::vector<ThreadImage> images_;
  std::vector<Mapping> mappings_;
  Arena arena_;
  std::uint64_t call_instruction_ = 0;
  bool has_interval_timer_ = false;
};

/// Takes the ends of killed threads, which the kernel keeps for who traces them: before that, their
/// process cannot be reaped.
void reap_threads(std::vector<pid_t> tids);

/// Of a process: the main one first, then by number.
[[nodiscard]] Result<std::vector<pid_t>> list_threads(pid_t pid);
/// A thread's number in the innermost pid namespace that it is in.
[[nodiscard]] pid_t read_own_tid(pid_t pid, pid_t tid);

/// One call made at the program's own `syscall` instruction, without an arena.
[[nodiscard]] Result<std::uint64_t> call_once(TracedThread& thread, Registers const& like,
                                              std::uint64_t instruction, long number,
                                              std::initializer_list<std::uint64_t> arguments);

/// The registers with which a thread goes on that was stopped in a system call: it makes the call
/// once more. A wait with a relative limit starts anew. Pure.
[[nodiscard]] Registers continuing(Registers registers);

}  // namespace aether::clone
