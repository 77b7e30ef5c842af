// SPDX-License-Identifier: Apache-2.0
// Injection: how threads that are held are made to perform system calls, one or a list, from a
// small arena in their process's memory.
//
// The arena, one private mapping: a page with the call loop, a region for the lists of the process,
// then a page for each thread, so that several may run their lists at once.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <initializer_list>

#include "clone/call_list.h"
#include "clone/traced_thread.h"

namespace aether::clone {

/// Length of the `syscall` instruction.
inline constexpr std::uint64_t kCallBytes = 2;

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

/// Writes the list into the program.
Status write_calls(pid_t pid, CallList const& list);
/// Lets the thread begin a list that is in its memory; finish_calls() waits. The thread stands
/// still with all signals but SIGTRAP blocked.
Status begin_calls(Callee callee, Arena const& arena, CallList const& list);
enum class Trapped : std::uint8_t { No, Yes };
/// Waits (unless it has trapped already), reads the results back into `list`, and fails with the
/// first call that failed.
Status finish_calls(Callee callee, CallList& list, Trapped trapped = Trapped::No);
/// Both.
Status perform_calls(Callee callee, Arena const& arena, CallList& list);

/// One call made at the program's own `syscall` instruction, without an arena.
[[nodiscard]] Result<std::uint64_t> call_once(TracedThread& thread, Registers const& like,
                                              std::uint64_t instruction, long number,
                                              std::initializer_list<std::uint64_t> arguments);

/// The registers with which a thread goes on that was stopped in a system call: it makes the call
/// once more. A wait with a relative limit starts anew. Pure.
[[nodiscard]] Registers continuing(Registers registers);

/// Whether a process that this thread traces was just born of a list in this arena: it stands
/// behind the call that made it, where nobody else ever does. Waits for its first stop.
[[nodiscard]] bool is_newborn_of(pid_t pid, Arena const& arena);
/// The registers with which a thread begins a list: nothing of the call that it was in is left.
[[nodiscard]] Registers at_loop(Registers like, Arena const& arena, CallList const& list);

}  // namespace aether::clone
