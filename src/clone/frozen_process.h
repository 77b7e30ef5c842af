// SPDX-License-Identifier: Apache-2.0
// FrozenProcess: a process whose threads are all held still, with everything that a copy of each
// thread needs, and an arena for injected calls.
#pragma once
#include <array>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "clone/injection.h"
#include "clone/mappings.h"
#include "clone/threads.h"
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

class FrozenProcess {
 public:
  /// Holds all threads, sets up the arena and captures. On a fault the process runs on, or is gone.
  /// NotReady if its main thread is not waiting in a system call.
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
  [[nodiscard]] bool is_namespace_init() const { return images_.front().own_tid == 1 && pid_ != 1; }
  /// Whether its threads have the numbers that we know them by.
  [[nodiscard]] bool shares_our_numbers() const { return images_.front().own_tid == pid_; }
  /// What it does with SIGCHLD (struct kernel_sigaction), where that was changed for the time that
  /// it is held: it is the parent of its copies if it is the first of a pid namespace, and cannot
  /// wait for them.
  using SignalAction = std::array<std::uint64_t, 4>;
  [[nodiscard]] std::optional<SignalAction> const& child_action() const { return child_action_; }
  static void add_child_action(SignalAction const& action, CallList& list);

  /// The main thread performs a list.
  Status perform(CallList& list);
  /// As perform(), of a list whose call at `place` makes a process; its number as seen from here.
  /// On a fault no new process is left.
  [[nodiscard]] Result<pid_t> perform_fork(CallList& list, std::size_t place);
  /// After a fault: waits for each thread that still makes calls of ours, and ends a process that
  /// was made meanwhile and that nobody knows.
  Status settle();
  /// Killed, for its owner to reap.
  void end();
  /// Everything as it was; the program runs on.
  Status thaw();
  /// Whether it still exists. If it was killed, the ends of its threads are taken, without which
  /// nobody could see its own.
  [[nodiscard]] bool lives();

 private:
  FrozenProcess(pid_t pid, os::UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  Status hold(pid_t tid);
  Status hold_all_threads();
  Status capture();
  Status find_call_instruction();
  Status make_arena();
  Status ask_threads();
  Status change_for_copies();
  [[nodiscard]] Result<pid_t> fork_once(CallList& list, std::size_t place);
  void end_newborn() const;
  Status remove_arena();
  [[nodiscard]] Callee callee(std::size_t thread);

  pid_t pid_;
  os::UniqueFd pidfd_;
  std::vector<TracedThread> held_;
  std::vector<ThreadImage> images_;
  std::vector<Mapping> mappings_;
  Arena arena_;
  std::uint64_t call_instruction_ = 0;
  std::optional<SignalAction> child_action_;
  bool has_interval_timer_ = false;
};

}  // namespace aether::clone
