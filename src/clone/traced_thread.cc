// SPDX-License-Identifier: Apache-2.0
#include "clone/traced_thread.h"

#include <linux/elf.h>
#include <linux/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/fault.h"
#include "clone/threads.h"

namespace aether::clone {
namespace {

/// Of a stop: the signal. Above it is ptrace's event.
constexpr int kSignalBits = 0xff;
constexpr int kForked = SIGTRAP | PTRACE_EVENT_FORK << 8;

// glibc's enum lacks the newer requests, and its functions take that enum.
long ptrace_call(long request, pid_t tid, void* address, void* data) {
  return syscall(SYS_ptrace, request, tid, address, data);
}

void* as_pointer(std::uint64_t value) {
  return reinterpret_cast<void*>(value);
}

Failure ptrace_failed(std::string_view request, pid_t tid) {
  return fail(system_error("ptrace", fmt::format("{} of thread {}", request, tid)));
}

/// SIGRTMAX is the last that a library would take for itself.
int patience_signal() {
  return SIGRTMAX - 1;
}

void interrupt_the_call(int) {}

/// When this thread's Patience is over; the latest possible while it has none.
thread_local Instant end_of_patience = Instant::max();

}  // namespace

Result<Patience> Patience::begin(Duration limit) {
  struct sigaction action{};
  action.sa_handler = interrupt_the_call;  // and no SA_RESTART: a wait must end
  sigaction(patience_signal(), &action, nullptr);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, patience_signal());
  pthread_sigmask(SIG_UNBLOCK, &mask, nullptr);

  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = patience_signal();
  event._sigev_un._tid = gettid();
  timer_t timer{};
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return fail(system_error("timer_create"));
  Patience patience(timer);
  auto const seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
  auto const rest = std::chrono::duration_cast<std::chrono::nanoseconds>(limit - seconds);
  // Again and again once it is over: the first may come between two calls.
  itimerspec const when{.it_interval = {.tv_sec = 0, .tv_nsec = 1'000'000},
                        .it_value = {.tv_sec = seconds.count(), .tv_nsec = rest.count()}};
  if (timer_settime(timer, 0, &when, nullptr) != 0) return fail(system_error("timer_settime"));
  end_of_patience = std::chrono::steady_clock::now() + limit;
  return patience;
}

Patience::Patience(Patience&& other) noexcept
    : timer_(other.timer_), armed_(std::exchange(other.armed_, false)) {}

Patience::~Patience() {
  if (!armed_) return;
  timer_delete(timer_);
  end_of_patience = Instant::max();
}

Result<TracedThread> TracedThread::seize(pid_t tid) {
  // A filter of the program's own must not judge what is injected. Needs CAP_SYS_ADMIN; without it
  // a program with a filter may refuse our calls, which is told when they fail.
  auto const options = std::uint64_t{PTRACE_O_EXITKILL};
  auto const unfiltered = options | PTRACE_O_SUSPEND_SECCOMP;
  if (ptrace_call(PTRACE_SEIZE, tid, nullptr, as_pointer(unfiltered)) == 0) {
    return TracedThread(tid, unfiltered);
  }
  if (errno == EPERM || errno == EINVAL) {
    if (ptrace_call(PTRACE_SEIZE, tid, nullptr, as_pointer(options)) == 0) {
      return TracedThread(tid, options);
    }
  }
  int const error = errno;
  // EPERM also of a thread that has ended, if nobody has taken its end yet.
  if (has_ended(tid)) return fail(ErrorCode::ExitedEarly, fmt::format("thread {} has ended", tid));
  if (error != EPERM) return fail(system_error_from(error, "ptrace", fmt::format("seize {}", tid)));
  return fail(ErrorCode::Unsupported,
              fmt::format("Aether may not trace thread {} (ptrace: {}): it is traced already, or "
                          "kernel.yama.ptrace_scope or a container's filter of system calls "
                          "forbids it",
                          tid, std::strerror(error)));
}

Status TracedThread::interrupt() {
  if (ptrace_call(PTRACE_INTERRUPT, tid_, nullptr, nullptr) != 0) {
    return ptrace_failed("interrupt", tid_);
  }
  runs_ = true;
  return {};
}

Status TracedThread::wait_stopped() {
  TRY(wait_for_stop());
  return {};
}

Status TracedThread::wait_trapped() {
  TRY_ASSIGN(auto const stop, wait_for_stop());
  if (stop == SIGTRAP) return {};
  return fail(ErrorCode::Internal,
              fmt::format("thread {} met signal {} in an injected call", tid_, stop & kSignalBits));
}

Status TracedThread::settle() {
  while (runs_) {
    TRY_ASSIGN(auto const stop, wait_for_stop());
    if (stop != kForked) continue;
    // It made a process, and is not at the end of its list yet.
    TRY(set_options(options_));
    TRY(resume());
  }
  return {};
}

Result<int> TracedThread::wait_for_stop() {
  TRY(fault::pass(fault::Point::CloneWait));
  // WNOWAIT: an end is left for who owns the process. A stop is forgotten when it runs again.
  constexpr int kWhat = WEXITED | WSTOPPED | WNOWAIT | __WALL;
  siginfo_t info{};
  while (waitid(P_PID, static_cast<id_t>(tid_), &info, kWhat) != 0) {
    if (errno != EINTR) return fail(system_error("waitid", fmt::format("thread {}", tid_)));
    if (std::chrono::steady_clock::now() < end_of_patience) continue;
    return fail(ErrorCode::Timeout, fmt::format("thread {} did not stop in time", tid_));
  }
  runs_ = false;
  if (info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED) return info.si_status;
  return fail(ErrorCode::ExitedEarly, fmt::format("thread {} ended while it was held", tid_));
}

Status TracedThread::resume() {
  if (ptrace_call(PTRACE_CONT, tid_, nullptr, nullptr) != 0) return ptrace_failed("resume", tid_);
  runs_ = true;
  return {};
}

Status TracedThread::set_options(std::uint64_t options) {
  if (ptrace_call(PTRACE_SETOPTIONS, tid_, nullptr, as_pointer(options)) == 0) return {};
  return ptrace_failed("set options", tid_);
}

Result<pid_t> TracedThread::resume_until_fork() {
  // Asked for here only: each event costs a stop.
  TRY(set_options(options_ | PTRACE_O_TRACEFORK));
  TRY(resume());
  TRY_ASSIGN(auto const stop, wait_for_stop());
  TRY(set_options(options_));
  if (stop != kForked) return 0;
  unsigned long message = 0;
  if (ptrace_call(PTRACE_GETEVENTMSG, tid_, nullptr, &message) != 0) {
    return ptrace_failed("read event", tid_);
  }
  return static_cast<pid_t>(message);
}

Status TracedThread::step() {
  if (ptrace_call(PTRACE_SINGLESTEP, tid_, nullptr, nullptr) != 0) {
    return ptrace_failed("step", tid_);
  }
  runs_ = true;
  return wait_trapped();
}

Status TracedThread::release() {
  if (ptrace_call(PTRACE_DETACH, tid_, nullptr, nullptr) == 0) return {};
  return ptrace_failed("release", tid_);
}

Result<Registers> TracedThread::registers() const {
  Registers registers{};
  iovec area{&registers, sizeof registers};
  if (ptrace_call(PTRACE_GETREGSET, tid_, as_pointer(NT_PRSTATUS), &area) == 0) return registers;
  return ptrace_failed("read registers", tid_);
}

Status TracedThread::set_registers(Registers const& registers) {
  auto copy = registers;
  iovec area{&copy, sizeof copy};
  if (ptrace_call(PTRACE_SETREGSET, tid_, as_pointer(NT_PRSTATUS), &area) == 0) return {};
  return ptrace_failed("set registers", tid_);
}

Result<std::vector<std::byte>> TracedThread::extended_state() const {
  // AMX needs 11 KiB; the kernel says how much it wrote.
  std::vector<std::byte> state(std::size_t{32} * 1024);
  iovec area{state.data(), state.size()};
  if (ptrace_call(PTRACE_GETREGSET, tid_, as_pointer(NT_X86_XSTATE), &area) != 0) {
    return ptrace_failed("read extended state", tid_);
  }
  state.resize(area.iov_len);
  return state;
}

Status TracedThread::set_extended_state(std::vector<std::byte> const& state) {
  iovec area{const_cast<std::byte*>(state.data()), state.size()};
  if (ptrace_call(PTRACE_SETREGSET, tid_, as_pointer(NT_X86_XSTATE), &area) == 0) return {};
  return ptrace_failed("set extended state", tid_);
}

Result<std::uint64_t> TracedThread::signal_mask() const {
  std::uint64_t mask = 0;
  if (ptrace_call(PTRACE_GETSIGMASK, tid_, as_pointer(sizeof mask), &mask) == 0) return mask;
  return ptrace_failed("read signal mask", tid_);
}

Status TracedThread::set_signal_mask(std::uint64_t mask) {
  if (ptrace_call(PTRACE_SETSIGMASK, tid_, as_pointer(sizeof mask), &mask) == 0) return {};
  return ptrace_failed("set signal mask", tid_);
}

Result<RseqRegistration> TracedThread::rseq() const {
  ptrace_rseq_configuration answer{};
  auto const size =
      ptrace_call(PTRACE_GET_RSEQ_CONFIGURATION, tid_, as_pointer(sizeof answer), &answer);
  if (size < 0) return ptrace_failed("read rseq", tid_);
  return RseqRegistration{.address = answer.rseq_abi_pointer,
                          .size = answer.rseq_abi_size,
                          .signature = answer.signature};
}

}  // namespace aether::clone
