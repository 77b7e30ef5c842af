// SPDX-License-Identifier: Apache-2.0
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "base/fault.h"
#include "os/child_setup.h"
#include "os/command.h"
#include "os/oom_score.h"
#include "os/sandbox_plan.h"

namespace aether::os {
namespace {

// Executing takes a millisecond; a minute-long stall of a disk is better met with an error.
constexpr Duration kExecutePatience = std::chrono::seconds(10);
// How long a child that was killed may take to let go of our memory.
constexpr Duration kKillPatience = std::chrono::seconds(1);

constexpr std::string_view kListenPid = "LISTEN_PID=";
constexpr std::string_view kListenPidfd = "LISTEN_PIDFDID=";
constexpr std::string_view kWatchdogPid = "WATCHDOG_PID=";
constexpr std::size_t kNumberDigitsMax = 20;

/// What the child reads: on the heap, because a child that cannot even be killed keeps it.
struct Launch {
  explicit Launch(ChildStack own_stack) : stack(std::move(own_stack)) {}
  ChildStack stack;
  std::atomic<std::uint32_t> alive = 0;
  ChildPlan plan;
  std::string path;
  std::string workdir;
  std::string listen_pid;
  std::string listen_pidfd;
  std::string watchdog_pid;
  std::vector<char const*> argv;
  std::vector<char const*> environment;
  std::vector<ChildFd> fds;
  std::vector<int> scratch;
  std::optional<Sandbox> sandbox;
};

/// Blocks every signal for the life of this object: the child must not run a handler of ours.
class AllSignalsBlocked {
 public:
  AllSignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~AllSignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  AllSignalsBlocked(AllSignalsBlocked const&) = delete;
  AllSignalsBlocked& operator=(AllSignalsBlocked const&) = delete;

 private:
  sigset_t before_{};
};

/// When the child changes its ids, the kernel marks the memory it shares with us as not dumpable
/// (man 2 PR_SET_DUMPABLE), which would hide our /proc entries from ourselves: undone afterwards.
class DumpableKept {
 public:
  DumpableKept() : before_(::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)) {}
  ~DumpableKept() {
    if (before_ == 1 && ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 1)
      ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  }
  DumpableKept(DumpableKept const&) = delete;
  DumpableKept& operator=(DumpableKept const&) = delete;

 private:
  int before_;
};

Status check_text(std::vector<std::string> const& words, std::string_view what) {
  for (std::string const& word : words) {
    if (word.find('\0') != std::string::npos)
      return fail(ErrorCode::SpawnFailed,
                  fmt::format("{} \"{}...\" contains a NUL byte", what, word.c_str()));
  }
  return {};
}

/// No descriptor of ours has this number or a higher one (man 2 setrlimit, RLIMIT_NOFILE).
int descriptor_end() {
  constexpr long kUnlimited = 1024 * 1024;  // the default of fs.nr_open
  long const limit = ::sysconf(_SC_OPEN_MAX);
  return static_cast<int>(limit > 0 ? std::min(limit, kUnlimited) : kUnlimited);
}

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

/// The child's descriptors sorted by target, 0, 1 and 2 always among them. `null_device` stands
/// for those that nobody gave; it is opened by the caller.
Result<std::vector<ChildFd>> plan_descriptors(std::vector<ChildFd> fds, int null_device) {
  auto given = [&](int target) {
    return std::ranges::find(fds, target, &ChildFd::target) != fds.end();
  };
  if (!given(STDIN_FILENO)) fds.push_back({.source = null_device, .target = STDIN_FILENO});
  for (int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    if (!given(fd)) fds.push_back({.source = is_open(fd) ? fd : null_device, .target = fd});
  }
  std::ranges::sort(fds, {}, &ChildFd::target);
  auto twice = std::ranges::adjacent_find(fds, {}, &ChildFd::target);
  if (twice != fds.end() || fds.front().target < 0)
    return fail(ErrorCode::Internal, "a child was to get two descriptors of one number");
  return fds;
}

/// True if the child must change its ids. Our own ids need no rights and no change.
bool must_change_user(std::optional<Credentials> const& user) {
  if (!user) return false;
  return ::geteuid() == 0 || user->uid != ::geteuid() || user->gid != ::getegid();
}

/// Whether pidfds have inodes of their own: asked of ours, for the child will find the same.
bool has_pidfd_ids() {
  UniqueFd const pidfd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  return pidfd && pidfd_id(pidfd.get()).has_value();
}

/// An entry of the environment whose value the child writes. Returns where.
char* plan_number(std::string_view name, std::string& entry, Launch& launch) {
  entry.assign(name.size() + kNumberDigitsMax + 1, '\0');
  std::ranges::copy(name, entry.begin());
  launch.environment.push_back(entry.c_str());
  return entry.data() + name.size();
}

void plan_environment(SpawnSpec const& spec, Launch& launch) {
  for (std::string const& entry : spec.environment) {
    bool const written_by_child = (spec.set_listen_pid && (entry.starts_with(kListenPid) ||
                                                           entry.starts_with(kListenPidfd))) ||
                                  (spec.set_watchdog_pid && entry.starts_with(kWatchdogPid));
    if (!written_by_child) launch.environment.push_back(entry.c_str());
  }
  ChildPlan& plan = launch.plan;
  if (spec.set_listen_pid)
    plan.listen_pid_digits = plan_number(kListenPid, launch.listen_pid, launch);
  if (spec.set_listen_pid && has_pidfd_ids())
    plan.listen_pidfd_digits = plan_number(kListenPidfd, launch.listen_pidfd, launch);
  if (spec.set_watchdog_pid)
    plan.watchdog_pid_digits = plan_number(kWatchdogPid, launch.watchdog_pid, launch);
  launch.environment.push_back(nullptr);
}

Status make_plan(SpawnSpec const& spec, int null_device, Launch& launch) {
  TRY(check_text(spec.argv, "the argument"));
  TRY(check_text(spec.environment, "the environment entry"));
  std::string_view const argv0 = spec.argv.empty() ? std::string_view() : spec.argv.front();
  TRY_ASSIGN(launch.path, resolve_command(argv0, spec.environment, spec.workdir));
  TRY_ASSIGN(launch.fds, plan_descriptors(spec.fds, null_device));
  launch.scratch.resize(launch.fds.size());
  launch.workdir = spec.workdir;
  for (std::string const& argument : spec.argv) launch.argv.push_back(argument.c_str());
  launch.argv.push_back(nullptr);
  plan_environment(spec, launch);

  ChildPlan& plan = launch.plan;
  plan.path = launch.path.c_str();
  plan.argv = launch.argv.data();
  plan.environment = launch.environment.data();
  plan.fds = launch.fds.data();
  plan.scratch = launch.scratch.data();
  plan.fd_count = launch.fds.size();
  plan.descriptor_end = descriptor_end();
  plan.limits = spec.limits.data();
  plan.limit_count = spec.limits.size();
  plan.parent = ::getpid();
  plan.workdir = launch.workdir.empty() ? nullptr : launch.workdir.c_str();
  plan.new_session = spec.new_session;
  plan.change_user = must_change_user(spec.user);
  if (plan.change_user) {
    plan.uid = spec.user->uid;
    plan.gid = spec.user->gid;
    plan.groups = spec.user->groups.data();
    plan.group_count = spec.user->groups.size();
  }
  if (spec.sandbox.level == SandboxLevel::None) return {};
  TRY_ASSIGN(launch.sandbox, Sandbox::prepare(spec.sandbox, launch.path, launch.workdir));
  plan.confined = true;
  plan.sandbox = launch.sandbox->plan();
  return {};
}

Error explain_clone_failure(Error error, SpawnSpec const& spec) {
  std::string hint;
  if (error.errno_value() == EAGAIN)
    hint = "; too many processes: see `ulimit -u` and pids.max of the cgroup";
  if (error.errno_value() == EPERM && spec.new_pid_namespace)
    hint = "; a pid namespace needs CAP_SYS_ADMIN: start Aether as root";
  if (spec.cgroup >= 0 && (error.errno_value() == ENODEV || error.errno_value() == EBUSY))
    hint = "; its cgroup is being removed, or has controllers that forbid processes in it";
  return {ErrorCode::SpawnFailed,
          fmt::format("no process for {} could be made: {}{}", spec.argv.front(), error.message(),
                      hint),
          error.errno_value()};
}

Error explain_user_failure(SpawnSpec const& spec, int reason) {
  return {ErrorCode::UserUnknown,
          fmt::format("{} cannot run as user {} (uid {}, gid {}): {}", spec.argv.front(),
                      spec.user->name, spec.user->uid, spec.user->gid,
                      reason == EPERM ? fmt::format("Aether runs as uid {} and may not become "
                                                    "another user; start it as root",
                                                    ::geteuid())
                                      : system_error_from(reason, "setuid").message()),
          reason};
}

/// The child's report in words.
Error explain_child_failure(SpawnSpec const& spec, Launch const& launch) {
  ChildPlan const& plan = launch.plan;
  int const reason = plan.failed_errno;
  auto failed = [&](std::string const& step) {
    Error const cause = system_error_from(reason, step);
    return Error(ErrorCode::SpawnFailed,
                 fmt::format("{} could not be started: {}", spec.argv.front(), cause.message()),
                 reason);
  };
  switch (plan.failed_step) {
    case SpawnStep::Execute:
      return explain_exec_failure(launch.path, launch.workdir, reason);
    case SpawnStep::Workdir:
      return {ErrorCode::WorkdirInvalid,
              fmt::format("{} cannot run in the folder {}: {}", spec.argv.front(), spec.workdir,
                          system_error_from(reason, "chdir").message()),
              reason};
    case SpawnStep::Groups:
    case SpawnStep::Group:
    case SpawnStep::User:
      return explain_user_failure(spec, reason);
    case SpawnStep::Descriptors:
      return failed(fmt::format("give it descriptor {}", plan.failed_descriptor));
    case SpawnStep::Limits:
      return failed(fmt::format("set resource limit {}", plan.failed_descriptor));
    case SpawnStep::Cgroup:
      return failed("enter its cgroup");
    case SpawnStep::Session:
      return failed("make a session");
    case SpawnStep::Sandbox:
      return failed(fmt::format("confine it (sandbox: {})", sandbox_name(spec.sandbox.level)));
    case SpawnStep::None:
      break;
  }
  return {ErrorCode::Internal, "a child reported a failure without a step"};
}

/// Whether clone3, or its CLONE_INTO_CGROUP, is what this kernel or sandbox lacks: sandboxes that
/// cannot look into clone3's arguments say ENOSYS, older ones EPERM; kernels before 5.7 do not know
/// the flag (EINVAL) or the longer arguments (E2BIG). clone() and a write to cgroup.procs do then.
bool lacks_clone3(int reason) {
  return reason == ENOSYS || reason == EPERM || reason == EINVAL || reason == E2BIG;
}

Result<Child> make_process(SpawnSpec const& spec, Launch& launch, CloneCall call) {
  AllSignalsBlocked const blocked;
  Birthplace where{.cgroup = spec.cgroup, .new_pid_namespace = spec.new_pid_namespace};
  if (call == CloneCall::Clone3) {
    auto child = clone_process(call, run_child, &launch.plan, launch.stack, launch.alive, where);
    if (child || !lacks_clone3(child.error().errno_value())) return child;
  }
  launch.plan.cgroup = spec.cgroup;
  where.cgroup = -1;
  return clone_process(CloneCall::Clone, run_child, &launch.plan, launch.stack, launch.alive,
                       where);
}

/// The child did not execute in time: it is ended, and what it shares with us is kept if it still
/// does not let go (uninterruptible sleep): its memory must never become somebody else's.
Error give_up_on(Child& child, std::unique_ptr<Launch> launch) {
  [[maybe_unused]] Status const ignored = child.signal(SIGKILL);  // it may have ended just now
  std::string const path = launch->path;
  if (wait_left(launch->alive, kKillPatience)) {
    [[maybe_unused]] auto const status = child.reap_within(kKillPatience);
  } else {
    [[maybe_unused]] Launch* kept = launch.release();
  }
  return {ErrorCode::SpawnFailed,
          fmt::format("{} was not executed in time: its file system hangs, or somebody stopped "
                      "the new process; it was killed",
                      path),
          ETIMEDOUT};
}

}  // namespace

Result<Child> spawn_with(SpawnSpec const& spec, CloneCall first_call, Duration patience) {
  TRY(fault::pass(fault::Point::SpawnBeforeFork));
  UniqueFd const null_device(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null_device) return fail(system_error("open /dev/null for a child"));
  TRY_ASSIGN(ChildStack stack, ChildStack::create());
  auto launch = std::make_unique<Launch>(std::move(stack));
  TRY(make_plan(spec, null_device.get(), *launch));

  GivenOomScore const as_given;
  std::optional<DumpableKept> dumpable;
  if (launch->plan.change_user) dumpable.emplace();
  Result<Child> child = make_process(spec, *launch, first_call);
  if (!child) return fail(explain_clone_failure(std::move(child).error(), spec));
  if (!wait_left(launch->alive, patience)) return fail(give_up_on(*child, std::move(launch)));
  if (launch->plan.failed_step == SpawnStep::None) return child;
  // It exits right after its report: take its status, so that no zombie is left.
  [[maybe_unused]] auto const status = child->reap_within(kKillPatience);
  return fail(explain_child_failure(spec, *launch));
}

Result<Child> spawn(SpawnSpec const& spec) {
  return spawn_with(spec, CloneCall::Clone3, kExecutePatience);
}

}  // namespace aether::os
