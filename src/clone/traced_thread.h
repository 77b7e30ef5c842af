// SPDX-License-Identifier: Apache-2.0
// TracedThread: one thread of another program, held still by ptrace (man 2 ptrace, PTRACE_SEIZE).
// Only the thread that took hold of it may ask it anything: all of clone/ runs on one thread, which
// may block for as long as its Patience lasts.
#pragma once
#include <sys/types.h>
#include <sys/user.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace aether::clone {

using Registers = user_regs_struct;

/// While it lives, waits of this thread end with Timeout once `limit` has passed since it was made.
/// One at a time for each thread. It is a POSIX timer that interrupts the thread's system call, so
/// that a wait costs one call (man 2 timer_create, SIGEV_THREAD_ID).
class Patience {
 public:
  [[nodiscard]] static Result<Patience> begin(Duration limit);
  Patience(Patience&& other) noexcept;
  Patience& operator=(Patience&&) = delete;
  ~Patience();

 private:
  explicit Patience(timer_t timer) : timer_(timer), armed_(true) {}
  timer_t timer_{};
  bool armed_ = false;
};

/// What the kernel knows of a thread's restartable sequences (man 2 ptrace,
/// PTRACE_GET_RSEQ_CONFIGURATION); address 0: none registered.
struct RseqRegistration {
  std::uint64_t address = 0;
  std::uint32_t size = 0;
  std::uint32_t signature = 0;
  bool operator==(RseqRegistration const&) const = default;
};

/// Move only. Destroyed while it holds: the thread stays traced, and dies with the tracing thread
/// (PTRACE_O_EXITKILL); release() lets go.
class TracedThread {
 public:
  /// Takes hold of a running thread; it is still once wait_stopped() has returned.
  [[nodiscard]] static Result<TracedThread> seize(pid_t tid);
  /// A thread or process made by a traced one with CLONE_PTRACE: it is traced from birth.
  [[nodiscard]] static TracedThread born_traced(pid_t tid) {
    TracedThread thread(tid, 0);
    thread.runs_ = true;  // It stops by itself, soon.
    return thread;
  }

  [[nodiscard]] pid_t tid() const { return tid_; }

  /// Asks it to stop where it is.
  Status interrupt();
  /// Until it stands still. ExitedEarly if it ended instead. Other signals' stops are kept out of
  /// its sight only when it is ours to run (run_to_trap).
  Status wait_stopped();
  /// After a fault: until it stands still, if it was let run and its stop has not been seen.
  Status settle();
  /// Goes on until the next breakpoint instruction. Signals that arrive meanwhile wait: the caller
  /// has blocked all but SIGTRAP (set_signal_mask).
  Status resume();
  Status wait_trapped();
  /// One instruction, which may be a system call.
  Status step();
  /// Goes on until it has made a process, and returns that one's number as it is seen from here;
  /// 0 if it came to the breakpoint without. The new process is traced and stops by itself; this
  /// thread goes on with resume().
  [[nodiscard]] Result<pid_t> resume_until_fork();
  /// Lets go: it runs on from its registers.
  Status release();

  [[nodiscard]] Result<Registers> registers() const;
  Status set_registers(Registers const& registers);
  /// SSE, AVX and whatever else the processor has (XSAVE area).
  [[nodiscard]] Result<std::vector<std::byte>> extended_state() const;
  Status set_extended_state(std::vector<std::byte> const& state);
  [[nodiscard]] Result<std::uint64_t> signal_mask() const;
  Status set_signal_mask(std::uint64_t mask);
  [[nodiscard]] Result<RseqRegistration> rseq() const;

 private:
  TracedThread(pid_t tid, std::uint64_t options) : tid_(tid), options_(options) {}
  /// What it stopped with: a signal, and ptrace's event above it (man 2 ptrace).
  [[nodiscard]] Result<int> wait_for_stop();
  Status set_options(std::uint64_t options);
  pid_t tid_;
  std::uint64_t options_;  ///< Of ptrace, as seized with.
  bool runs_ = false;      ///< Or may do so: nobody has seen it stop since.
};

/// Every signal blocked but SIGTRAP, with which injected calls report that they are done. A blocked
/// SIGTRAP would lose its handler in the program (force_sig in kernel/signal.c).
inline constexpr std::uint64_t kAllSignalsButTrap = ~(std::uint64_t{1} << (SIGTRAP - 1));

}  // namespace aether::clone
