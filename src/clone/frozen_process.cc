// SPDX-License-Identifier: Apache-2.0
#include "clone/frozen_process.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "clone/memory.h"
#include "os/file.h"

namespace aether::clone {
namespace {

// What a system call returns inside of the kernel when it is to be made again
// (include/linux/errno.h).
constexpr std::int64_t kRestartSystem = -512;
constexpr std::int64_t kRestartNoInterrupt = -513;
constexpr std::int64_t kRestartNoHandler = -514;
constexpr std::int64_t kRestartBlock = -516;

/// Length of the `syscall` instruction.
constexpr std::uint64_t kCallBytes = 2;
constexpr std::array kCallCode{std::byte{0x0f}, std::byte{0x05}};

/// A program that starts threads faster than they are held is not quiet.
constexpr int kHoldRoundsMax = 16;
/// Together 2 s for killed threads to be gone, which takes them well below a millisecond.
constexpr int kReapRoundsMax = 10'000;
constexpr unsigned kReapPauseUs = 200;
constexpr std::size_t kNameBytesMax = 64;
constexpr std::size_t kStatusMax = std::size_t{16} * 1024;

/// Waits that end with EINTR when their thread is stopped, although no signal came (man 7 signal).
bool gives_up_when_stopped(std::uint64_t number) {
  return number == SYS_epoll_wait || number == SYS_epoll_pwait || number == SYS_epoll_pwait2 ||
         number == SYS_rt_sigtimedwait || number == SYS_pause;
}

bool is_to_be_made_again(Registers const& registers) {
  auto const number = static_cast<std::int64_t>(registers.orig_rax);
  if (number < 0) return false;
  auto const result = static_cast<std::int64_t>(registers.rax);
  return result == kRestartSystem || result == kRestartNoInterrupt || result == kRestartNoHandler ||
         result == kRestartBlock || (result == -EINTR && gives_up_when_stopped(registers.orig_rax));
}

std::string read_name(pid_t pid, pid_t tid) {
  auto name = os::read_file(fmt::format("/proc/{}/task/{}/comm", pid, tid), kNameBytesMax);
  if (!name) return {};
  if (name->ends_with('\n')) name->pop_back();
  return *name;
}

/// Ready to run the loop: nothing of the system call that it was in is left.
Registers at_loop(Registers like, Arena const& arena, CallList const& list) {
  like.orig_rax = ~std::uint64_t{0};
  like.rip = arena.loop();
  like.rbx = list.entries_at();
  like.r12 = list.size();
  return like;
}

}  // namespace

Result<std::vector<pid_t>> list_threads(pid_t pid) {
  std::error_code error;
  std::vector<pid_t> tids;
  auto const folder = fmt::format("/proc/{}/task", pid);
  for (auto const& entry : std::filesystem::directory_iterator(folder, error)) {
    auto const name = entry.path().filename().string();
    pid_t tid = 0;
    std::from_chars(name.data(), name.data() + name.size(), tid);
    tids.push_back(tid);
  }
  if (error) return fail(system_error_from(error.value(), "opendir", folder));
  // The main thread has the process's number and comes first.
  std::ranges::sort(tids, {}, [pid](pid_t tid) { return std::pair(tid != pid, tid); });
  return tids;
}

// The last number of "NSpid:\t26985\t1" (man 5 proc_pid_status).
pid_t read_own_tid(pid_t pid, pid_t tid) {
  auto const status = os::read_file(fmt::format("/proc/{}/task/{}/status", pid, tid), kStatusMax);
  if (!status) return tid;
  auto const line = status->find("\nNSpid:");
  if (line == std::string::npos) return tid;
  auto const end = status->find('\n', line + 1);
  auto const last = status->rfind('\t', end) + 1;
  pid_t own = tid;
  std::from_chars(status->data() + last, status->data() + end, own);
  return own;
}

void reap_threads(std::vector<pid_t> tids) {
  // In no order: of the first process of a pid namespace, the last thread to end waits until the
  // numbers of all others are free again (zap_pid_ns_processes in kernel/pid_namespace.c).
  for (int round = 0; !tids.empty() && round < kReapRoundsMax; ++round) {
    std::erase_if(tids, [](pid_t tid) {
      int status = 0;
      auto const gone = waitpid(tid, &status, __WALL | WNOHANG);
      return gone < 0 || (gone == tid && !WIFSTOPPED(status));
    });
    usleep(kReapPauseUs);
  }
}

Registers continuing(Registers registers) {
  if (is_to_be_made_again(registers)) {
    registers.rip -= kCallBytes;
    registers.rax = registers.orig_rax;
  }
  registers.orig_rax = ~std::uint64_t{0};
  return registers;
}

Status begin_calls(Callee callee, Arena const& arena, CallList const& list) {
  auto const image = list.image();
  if (!image) {
    return fail(ErrorCode::LimitReached,
                fmt::format("copying process {}: {} system calls are more than fit", callee.pid,
                            list.size()));
  }
  TRY(write_memory(callee.pid, list.base(), *image));
  TRY(callee.thread.set_registers(at_loop(callee.like, arena, list)));
  return callee.thread.resume();
}

Status finish_calls(Callee callee, CallList& list, Trapped trapped) {
  if (trapped == Trapped::No) TRY(callee.thread.wait_trapped());
  std::vector<CallList::Entry> entries(list.size());
  TRY(read_memory(callee.pid, list.entries_at(), std::as_writable_bytes(std::span(entries))));
  list.set_results(entries);
  std::vector<std::byte> data(list.data().size());
  TRY(read_memory(callee.pid, list.base(), data));
  list.set_data(data);
  if (auto const failure = list.failure()) {
    return fail(ErrorCode::SystemCall, fmt::format("in process {}: {}", callee.pid, *failure));
  }
  return {};
}

Status perform_calls(Callee callee, Arena const& arena, CallList& list) {
  if (list.empty()) return {};
  TRY(begin_calls(callee, arena, list));
  return finish_calls(callee, list);
}

Result<std::uint64_t> call_once(TracedThread& thread, Registers const& like,
                                std::uint64_t instruction, long number,
                                std::initializer_list<std::uint64_t> arguments) {
  std::array<std::uint64_t, 6> values{};
  std::ranges::copy(arguments, values.begin());
  auto registers = like;
  registers.orig_rax = ~std::uint64_t{0};
  registers.rip = instruction;
  registers.rax = static_cast<std::uint64_t>(number);
  registers.rdi = values[0];
  registers.rsi = values[1];
  registers.rdx = values[2];
  registers.r10 = values[3];
  registers.r8 = values[4];
  registers.r9 = values[5];
  TRY(thread.set_registers(registers));
  TRY(thread.step());
  TRY_ASSIGN(auto const after, thread.registers());
  auto const result = static_cast<std::int64_t>(after.rax);
  if (result < 0 && result >= -4095) {
    return fail(system_error_from(static_cast<int>(-result), "injected system call",
                                  fmt::format("{} in thread {}", number, thread.tid())));
  }
  return after.rax;
}

Result<FrozenProcess> FrozenProcess::freeze(pid_t pid) {
  os::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return fail(system_error("pidfd_open", fmt::format("process {}", pid)));
  FrozenProcess frozen(pid, std::move(pidfd));
  auto const all = [&]() -> Status {
    TRY(frozen.hold_all_threads());
    TRY(frozen.capture());
    TRY(frozen.find_call_instruction());
    TRY(frozen.make_arena());
    TRY(frozen.ask_threads());
    return frozen.keep_all_memory_over_fork();
  };
  if (auto done = all(); !done) {
    (void)frozen.thaw();  // The first fault is the one that is told.
    return fail(std::move(done).error());
  }
  return frozen;
}

FrozenProcess::~FrozenProcess() {
  if (held_.empty()) return;
  syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  std::vector<pid_t> others;
  for (std::size_t place = 1; place < held_.size(); ++place) others.push_back(held_[place].tid());
  reap_threads(std::move(others));
}

Status FrozenProcess::hold_all_threads() {
  for (int round = 0; round < kHoldRoundsMax; ++round) {
    TRY_ASSIGN(auto const tids, list_threads(pid_));
    auto const before = held_.size();
    for (auto const tid : tids) {
      if (std::ranges::find(held_, tid, &TracedThread::tid) != held_.end()) continue;
      TRY_ASSIGN(auto thread, TracedThread::seize(tid));
      TRY(thread.interrupt());
      TRY(thread.wait_stopped());
      held_.push_back(std::move(thread));
    }
    if (held_.size() == before) return {};
  }
  return fail(ErrorCode::NotReady,
              fmt::format("process {} starts threads again and again: it is not at rest", pid_));
}

Status FrozenProcess::capture() {
  for (auto& thread : held_) {
    ThreadImage image;
    TRY_ASSIGN(image.registers, thread.registers());
    TRY_ASSIGN(image.extended_state, thread.extended_state());
    TRY_ASSIGN(image.signal_mask, thread.signal_mask());
    TRY_ASSIGN(image.rseq, thread.rseq());
    if (syscall(SYS_get_robust_list, thread.tid(), &image.robust_list, &image.robust_list_size) !=
        0) {
      return fail(system_error("get_robust_list", fmt::format("thread {}", thread.tid())));
    }
    image.name = read_name(pid_, thread.tid());
    image.own_tid = read_own_tid(pid_, thread.tid());
    images_.push_back(std::move(image));
    TRY(thread.set_signal_mask(kAllSignalsButTrap));
  }
  TRY_ASSIGN(mappings_, read_mappings(pid_));
  return {};
}

Status FrozenProcess::find_call_instruction() {
  auto const address = images_.front().registers.rip - kCallBytes;
  std::array<std::byte, kCallBytes> code{};
  TRY(read_memory(pid_, address, code));
  if (code != kCallCode) {
    return fail(ErrorCode::Unsupported,
                fmt::format("the main thread of process {} is not waiting in a system call", pid_));
  }
  call_instruction_ = address;
  return {};
}

Status FrozenProcess::make_arena() {
  auto const size = Arena::size_for(held_.size());
  auto& leader = held_.front();
  auto const& like = images_.front().registers;
  TRY_ASSIGN(auto const base, call_once(leader, like, call_instruction_, SYS_mmap,
                                        {0, size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, ~std::uint64_t{0}, 0}));
  arena_ = {.base = base, .size = size};
  TRY(write_memory(pid_, arena_.loop(), call_loop()));
  TRY(call_once(leader, like, call_instruction_, SYS_mprotect,
                {base, Arena::kPage, PROT_READ | PROT_EXEC}));
  return {};
}

Status FrozenProcess::ask_threads() {
  struct Question {
    CallList list;
    std::uint64_t tid_address_at;
    std::uint64_t stack_at;
    std::array<std::uint64_t, 3> timers_at;
  };
  std::vector<Question> questions;
  for (std::size_t place = 0; place < held_.size(); ++place) {
    Question question{.list = arena_.thread_list(place)};
    auto& list = question.list;
    question.tid_address_at = list.place_value(std::uint64_t{0});
    question.stack_at = list.place_value(stack_t{});
    list.call("prctl(PR_GET_TID_ADDRESS)", SYS_prctl,
              {PR_GET_TID_ADDRESS, question.tid_address_at});
    list.call("sigaltstack", SYS_sigaltstack, {0, question.stack_at});
    for (std::uint64_t which = 0; which < 3 && place == 0; ++which) {
      question.timers_at[which] = list.place_value(itimerval{});
      list.call("getitimer", SYS_getitimer, {which, question.timers_at[which]});
    }
    TRY(begin_calls(callee(place), arena_, list));
    questions.push_back(std::move(question));
  }
  for (std::size_t place = 0; place < held_.size(); ++place) {
    auto& question = questions[place];
    TRY(finish_calls(callee(place), question.list));
    images_[place].tid_address = question.list.value_at<std::uint64_t>(question.tid_address_at);
    images_[place].signal_stack = question.list.value_at<stack_t>(question.stack_at);
  }
  for (auto const at : questions.front().timers_at) {
    auto const timer = questions.front().list.value_at<itimerval>(at);
    if (timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0) has_interval_timer_ = true;
  }
  return {};
}

Status FrozenProcess::keep_all_memory_over_fork() {
  auto list = arena_.process_list();
  for (auto const& area : mappings_) {
    if (!area.absent_after_fork) continue;
    list.call(fmt::format("madvise(MADV_DOFORK) of {:#x}", area.begin), SYS_madvise,
              {area.begin, area.size(), MADV_DOFORK});
  }
  return perform(list);
}

Callee FrozenProcess::callee(std::size_t thread) {
  return {.pid = pid_, .thread = held_[thread], .like = images_[thread].registers};
}

Status FrozenProcess::perform(CallList& list) {
  return perform_calls(callee(0), arena_, list);
}

Result<pid_t> FrozenProcess::perform_fork(CallList& list) {
  auto const image = list.image();
  if (!image) return fail(ErrorCode::LimitReached, "a list of system calls does not fit");
  TRY(write_memory(pid_, list.base(), *image));
  auto& leader = held_.front();
  TRY(leader.set_registers(at_loop(images_.front().registers, arena_, list)));
  TRY_ASSIGN(auto const made, leader.resume_until_fork());
  if (made != 0) TRY(leader.resume());
  TRY(finish_calls(callee(0), list, made == 0 ? Trapped::Yes : Trapped::No));
  return made;
}

Status FrozenProcess::remove_arena() {
  if (arena_.base == 0) return {};
  auto list = arena_.process_list();
  for (auto const& area : mappings_) {
    if (!area.absent_after_fork) continue;
    list.call("madvise(MADV_DONTFORK)", SYS_madvise, {area.begin, area.size(), MADV_DONTFORK});
  }
  TRY(perform(list));
  TRY(call_once(held_.front(), images_.front().registers, call_instruction_, SYS_munmap,
                {arena_.base, arena_.size}));
  arena_ = {};
  return {};
}

Status FrozenProcess::thaw() {
  auto first = remove_arena();
  for (std::size_t place = 0; place < held_.size(); ++place) {
    auto& thread = held_[place];
    if (place < images_.size()) {
      auto const& image = images_[place];
      if (auto done = thread.set_registers(continuing(image.registers)); !done && first) {
        first = std::move(done);
      }
      if (auto done = thread.set_signal_mask(image.signal_mask); !done && first) {
        first = std::move(done);
      }
    }
    if (auto done = thread.release(); !done && first) first = std::move(done);
  }
  held_.clear();
  return first;
}

}  // namespace aether::clone
