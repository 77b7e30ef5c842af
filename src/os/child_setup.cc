// SPDX-License-Identifier: Apache-2.0
#include "os/child_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "os/raw_syscall.h"

// The child leaves these functions by execve: a sanitizer would wait for ever for them to return,
// and keep their stack marked as used.
#define AETHER_IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

namespace aether::os {
namespace {

/// struct sigaction as the kernel has it; all zero is "default, no flags, empty mask".
struct KernelSigaction {
  void* handler = nullptr;
  unsigned long flags = 0;
  void* restorer = nullptr;
  unsigned long mask = 0;
};

template <class Pointer>
AETHER_IN_CHILD long address(Pointer* pointer) {
  return reinterpret_cast<long>(pointer);
}

[[noreturn]] AETHER_IN_CHILD void give_up(ChildPlan& plan, SpawnStep step, long result) {
  plan.failed_step = step;
  plan.failed_errno = static_cast<int>(-result);
  while (true) raw_syscall(SYS_exit_group, 127);
}

AETHER_IN_CHILD void reset_signals() {
  constexpr int kSignals = 64;
  KernelSigaction const by_default;
  for (int signal = 1; signal <= kSignals;
       ++signal)  // KILL and STOP refuse: nothing to reset there
    raw_syscall(SYS_rt_sigaction, signal, address(&by_default), 0, sizeof(by_default.mask));
}

AETHER_IN_CHILD void empty_signal_mask() {
  unsigned long const none = 0;
  raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, address(&none), 0, sizeof(none));
}

AETHER_IN_CHILD void enter_cgroup(ChildPlan& plan) {
  long procs = raw_syscall(SYS_openat, plan.cgroup, address("cgroup.procs"), O_WRONLY | O_CLOEXEC);
  if (procs < 0) give_up(plan, SpawnStep::Cgroup, procs);
  long result = raw_syscall(SYS_write, procs, address("0"), 1);  // 0 is the writer itself
  if (result < 0) give_up(plan, SpawnStep::Cgroup, result);
}

AETHER_IN_CHILD void close_on_exec(ChildPlan const& plan, unsigned first, unsigned last) {
  if (first > last) return;
  if (raw_syscall(SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) == 0) return;
  // Before Linux 5.11, or a sandbox that does not know the call.
  unsigned end = static_cast<unsigned>(plan.descriptor_end);
  for (unsigned fd = first; fd <= last && fd < end; ++fd)
    raw_syscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
}

/// Gives every target its source. First all sources move above the highest target, so that no
/// target overwrites a source that is still needed; then each goes to its place, where dup3 makes a
/// descriptor that survives exec (dup2(n, n) would keep close-on-exec: the classic mistake).
AETHER_IN_CHILD void place_descriptors(ChildPlan& plan) {
  int const above = plan.fds[plan.fd_count - 1].target + 1;
  for (std::size_t i = 0; i < plan.fd_count; ++i) {
    long copy = raw_syscall(SYS_fcntl, plan.fds[i].source, F_DUPFD_CLOEXEC, above);
    plan.failed_descriptor = plan.fds[i].source;
    if (copy < 0) give_up(plan, SpawnStep::Descriptors, copy);
    plan.scratch[i] = static_cast<int>(copy);
  }
  unsigned next = 0;
  for (std::size_t i = 0; i < plan.fd_count; ++i) {
    int target = plan.fds[i].target;
    long result = raw_syscall(SYS_dup3, plan.scratch[i], target, 0);
    plan.failed_descriptor = target;
    if (result < 0) give_up(plan, SpawnStep::Descriptors, result);
    if (target > 0) close_on_exec(plan, next, static_cast<unsigned>(target) - 1);
    next = static_cast<unsigned>(target) + 1;
  }
  close_on_exec(plan, next, ~0U);
}

AETHER_IN_CHILD void set_limits(ChildPlan& plan) {
  for (std::size_t i = 0; i < plan.limit_count; ++i) {
    rlimit const limit{.rlim_cur = plan.limits[i].soft, .rlim_max = plan.limits[i].hard};
    long result = raw_syscall(SYS_prlimit64, 0, plan.limits[i].resource, address(&limit), 0);
    plan.failed_descriptor = plan.limits[i].resource;
    if (result < 0) give_up(plan, SpawnStep::Limits, result);
  }
}

AETHER_IN_CHILD void become_user(ChildPlan& plan) {
  long result =
      raw_syscall(SYS_setgroups, static_cast<long>(plan.group_count), address(plan.groups));
  if (result < 0) give_up(plan, SpawnStep::Groups, result);
  result = raw_syscall(SYS_setresgid, plan.gid, plan.gid, plan.gid);
  if (result < 0) give_up(plan, SpawnStep::Group, result);
  result = raw_syscall(SYS_setresuid, plan.uid, plan.uid, plan.uid);
  if (result < 0) give_up(plan, SpawnStep::User, result);
}

AETHER_IN_CHILD void write_number(char* digits, unsigned long number) {
  char reversed[20];
  int count = 0;
  for (; number > 0; number /= 10) reversed[count++] = static_cast<char>('0' + number % 10);
  while (count > 0) *digits++ = reversed[--count];
  *digits = '\0';
}

/// What only the child can know: its own number, and the inode of its own pidfd. Without a pidfd
/// the variable stays empty, which no program takes for a number.
AETHER_IN_CHILD void write_own_identity(ChildPlan& plan) {
  long const pid = raw_syscall(SYS_getpid);
  if (plan.listen_pid_digits != nullptr)
    write_number(plan.listen_pid_digits, static_cast<unsigned long>(pid));
  if (plan.watchdog_pid_digits != nullptr)
    write_number(plan.watchdog_pid_digits, static_cast<unsigned long>(pid));
  if (plan.listen_pidfd_digits == nullptr) return;
  long const pidfd = raw_syscall(SYS_pidfd_open, pid, 0);  // close-on-exec by birth
  if (pidfd < 0) return;
  struct stat file;  // NOLINT: the kernel fills it
  if (raw_syscall(SYS_newfstatat, pidfd, address(""), address(&file), AT_EMPTY_PATH) == 0)
    write_number(plan.listen_pidfd_digits, file.st_ino);
  raw_syscall(SYS_close, pidfd);
}

/// From here on no program that it executes has more rights than it has.
AETHER_IN_CHILD void renounce_new_privileges(ChildPlan& plan) {
  long result = raw_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
  if (result < 0) give_up(plan, SpawnStep::Sandbox, result);
}

/// Before the descriptors are placed, because one of them may get the ruleset's number.
AETHER_IN_CHILD void hide_files(ChildPlan& plan) {
  if (plan.sandbox.landlock < 0) return;
  long result = raw_syscall(SYS_landlock_restrict_self, plan.sandbox.landlock, 0);
  if (result < 0) give_up(plan, SpawnStep::Sandbox, result);
}

/// What execve() could give back to root (man 7 capabilities). Needs a right that is lost with the
/// change of user.
AETHER_IN_CHILD void lower_bounding_set(ChildPlan& plan) {
  constexpr int kCapabilities = 64;
  for (int one = 0; plan.sandbox.drop_bounding && one < kCapabilities; ++one) {
    if ((plan.sandbox.kept_capabilities >> one & 1) != 0) continue;
    long result = raw_syscall(SYS_prctl, PR_CAPBSET_DROP, one);
    if (result == -EINVAL) break;  // the kernel knows no more
    if (result < 0) give_up(plan, SpawnStep::Sandbox, result);
  }
}

AETHER_IN_CHILD void drop_capabilities(ChildPlan& plan) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2];  // NOLINT: the kernel fills it
  long result = raw_syscall(SYS_capget, address(&header), address(data));
  if (result < 0) give_up(plan, SpawnStep::Sandbox, result);
  for (int half = 0; half < 2; ++half) {
    auto const kept = static_cast<std::uint32_t>(plan.sandbox.kept_capabilities >> (32 * half));
    data[half].permitted &= kept;
    data[half].effective &= kept;
    data[half].inheritable = 0;  // and with it the ambient ones
  }
  result = raw_syscall(SYS_capset, address(&header), address(data));
  if (result < 0) give_up(plan, SpawnStep::Sandbox, result);
}

/// A child whose parent is killed before it executes would do so afterwards, with the parent's
/// listeners, and nobody would know of it. From execve() on it may live as long as it likes.
AETHER_IN_CHILD void die_with_parent(ChildPlan& plan, bool yes) {
  raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, yes ? SIGKILL : 0);
  // In a PID namespace of its own it has no parent that it could see.
  long const parent = yes ? raw_syscall(SYS_getppid) : 0;
  if (parent != 0 && parent != plan.parent) give_up(plan, SpawnStep::Session, -ESRCH);
}

/// Last: nothing that comes before needs to be allowed by it.
AETHER_IN_CHILD void filter_calls(ChildPlan& plan) {
  struct {
    unsigned short length;
    sock_filter const* filter;
  } const program{.length = plan.sandbox.filter_length, .filter = plan.sandbox.filter};
  long result = raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, address(&program));
  if (result < 0) give_up(plan, SpawnStep::Sandbox, result);
}

}  // namespace

AETHER_IN_CHILD void run_child(void* argument) {
  ChildPlan& plan = *static_cast<ChildPlan*>(argument);
  die_with_parent(plan, true);
  reset_signals();
  if (plan.new_session) {
    long result = raw_syscall(SYS_setsid);
    if (result < 0) give_up(plan, SpawnStep::Session, result);
  }
  if (plan.cgroup >= 0) enter_cgroup(plan);
  if (plan.confined) {
    renounce_new_privileges(plan);
    hide_files(plan);
  }
  place_descriptors(plan);
  write_own_identity(plan);  // before a limit could refuse it a descriptor
  set_limits(plan);  // while we still may raise them, and after the descriptors they might forbid
  if (plan.confined) lower_bounding_set(plan);
  if (plan.change_user) become_user(plan);
  if (plan.confined) drop_capabilities(plan);
  if (plan.workdir != nullptr) {  // as the user: a folder it may not enter is found here
    long result = raw_syscall(SYS_chdir, address(plan.workdir));
    if (result < 0) give_up(plan, SpawnStep::Workdir, result);
  }
  die_with_parent(plan, false);
  empty_signal_mask();
  if (plan.confined) filter_calls(plan);
  long result =
      raw_syscall(SYS_execve, address(plan.path), address(plan.argv), address(plan.environment));
  give_up(plan, SpawnStep::Execute, result);
}

}  // namespace aether::os
