// SPDX-License-Identifier: Apache-2.0
#include "os/clone_process.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <utility>

namespace aether::os {
namespace {

// run_child needs less than 1 KiB; sanitizers and signal frames get room to spare.
constexpr std::size_t kStackSize = std::size_t{64} * 1024;

// Not CLONE_VFORK: that wait has no deadline, and a process of the same user could SIGSTOP the
// child just before it executes and with it freeze us.
constexpr std::uint64_t kFlags = CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID;

std::uint64_t namespace_flag(Birthplace where) {
  return where.new_pid_namespace ? std::uint64_t{CLONE_NEWPID} : 0;
}

long call_clone3(CloneEntry entry, void* argument, ChildStack const& stack,
                 std::atomic<std::uint32_t>& alive, Birthplace where, int& pidfd) {
  clone_args args{};
  args.flags = kFlags | namespace_flag(where);
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.child_tid = reinterpret_cast<std::uint64_t>(&alive);
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<std::uint64_t>(stack.base());
  args.stack_size = stack.size();
  if (where.cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(where.cgroup);
  }
  return clone_syscall(SYS_clone3, reinterpret_cast<long>(&args), sizeof(args), 0, 0, 0, entry,
                       argument);
}

long call_clone(CloneEntry entry, void* argument, ChildStack const& stack,
                std::atomic<std::uint32_t>& alive, Birthplace where, int& pidfd) {
  long flags = static_cast<long>(kFlags | namespace_flag(where)) | SIGCHLD;
  long top = reinterpret_cast<long>(stack.base() + stack.size());
  long pidfd_at = reinterpret_cast<long>(&pidfd);
  long alive_at = reinterpret_cast<long>(&alive);
#if defined(__x86_64__)
  return clone_syscall(SYS_clone, flags, top, pidfd_at, alive_at, 0, entry, argument);
#else  // the order of the last two differs (man 2 clone, "C library/kernel differences")
  return clone_syscall(SYS_clone, flags, top, pidfd_at, 0, alive_at, entry, argument);
#endif
}

}  // namespace

Result<ChildStack> ChildStack::create() {
  auto const page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* memory = ::mmap(nullptr, kStackSize + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return fail(system_error("mmap a stack for a child"));
  ChildStack stack(static_cast<std::byte*>(memory), kStackSize + page);
  if (::mprotect(memory, page, PROT_NONE) != 0) return fail(system_error("mprotect"));
  return stack;
}

ChildStack::ChildStack(ChildStack&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), size_(other.size_) {}

ChildStack::~ChildStack() {
  if (base_ != nullptr) ::munmap(base_, size_);
}

Result<Child> clone_process(CloneCall call, CloneEntry entry, void* argument,
                            ChildStack const& stack, std::atomic<std::uint32_t>& alive,
                            Birthplace where) {
  int pidfd = -1;
  alive = 1;
  long pid = call == CloneCall::Clone3 ? call_clone3(entry, argument, stack, alive, where, pidfd)
                                       : call_clone(entry, argument, stack, alive, where, pidfd);
  if (pid < 0) return fail(system_error_from(static_cast<int>(-pid), "clone"));
  return Child(static_cast<pid_t>(pid), UniqueFd(pidfd));
}

bool wait_left(std::atomic<std::uint32_t>& alive, Duration patience) {
  Instant const deadline = std::chrono::steady_clock::now() + patience;
  while (alive.load(std::memory_order_acquire) != 0) {
    Duration const left = deadline - std::chrono::steady_clock::now();
    if (left <= Duration::zero()) return false;
    auto const seconds = std::chrono::floor<std::chrono::seconds>(left);
    timespec const limit{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
    // Not FUTEX_PRIVATE: the kernel wakes the shared kind when it clears the word.
    ::syscall(SYS_futex, &alive, FUTEX_WAIT, 1, &limit, nullptr, 0);
  }
  return true;
}

}  // namespace aether::os
