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

#include <fmt/format.h>

#include "base/fault.h"
#include "clone/memory.h"
#include "os/file.h"
#include "os/proc.h"

namespace aether::clone {
namespace {

constexpr std::array kCallCode{std::byte{0x0f}, std::byte{0x05}};

/// A program that starts threads faster than they are held is not quiet.
constexpr int kHoldRoundsMax = 16;
constexpr std::size_t kNameBytesMax = 64;

/// Together 100 ms.
constexpr int kDyingRoundsMax = 500;
constexpr unsigned kDyingPauseUs = 200;

enum class Standing : std::uint8_t { Still, Runs, Ended };

Standing standing_of(pid_t tid) {
  siginfo_t info{};
  constexpr int kWhat = WEXITED | WNOHANG | WNOWAIT | __WALL;
  if (waitid(P_PID, static_cast<id_t>(tid), &info, kWhat) != 0) return Standing::Ended;
  if (info.si_pid == 0) return Standing::Runs;
  // A stop of what is traced is shown whether it was asked for or not.
  auto const stopped = info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED;
  return stopped ? Standing::Still : Standing::Ended;
}

std::string read_name(pid_t pid, pid_t tid) {
  auto name = os::read_file(fmt::format("/proc/{}/task/{}/comm", pid, tid), kNameBytesMax);
  if (!name) return {};
  if (name->ends_with('\n')) name->pop_back();
  return *name;
}

}  // namespace

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
    return frozen.change_for_copies();
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

Status FrozenProcess::hold(pid_t tid) {
  TRY(fault::pass(fault::Point::CloneSeize));
  TRY_ASSIGN(auto thread, TracedThread::seize(tid));
  held_.push_back(std::move(thread));
  TRY(held_.back().interrupt());
  return held_.back().wait_stopped();
}

Status FrozenProcess::hold_all_threads() {
  for (int round = 0; round < kHoldRoundsMax; ++round) {
    TRY_ASSIGN(auto const tids, list_threads(pid_));
    auto const before = held_.size();
    for (auto const tid : tids) {
      if (std::ranges::find(held_, tid, &TracedThread::tid) != held_.end()) continue;
      auto held = hold(tid);
      if (held) continue;
      // A program may end threads of its own while the others are held; its main thread is itself.
      if (tid == pid_ || !has_ended(tid)) return held;
      if (!held_.empty() && held_.back().tid() == tid) {
        held_.pop_back();
        reap_threads({tid});
      }
    }
    if (held_.size() == before) return {};
  }
  return fail(ErrorCode::NotReady,
              fmt::format("process {} starts threads again and again: it is not at rest", pid_));
}

Status FrozenProcess::capture() {
  for (auto& thread : held_) {
    TRY(fault::pass(fault::Point::CloneCapture));
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
    return fail(ErrorCode::NotReady,
                fmt::format("the main thread of process {} is not waiting in a system call", pid_));
  }
  call_instruction_ = address;
  return {};
}

Status FrozenProcess::make_arena() {
  TRY(fault::pass(fault::Point::CloneArena));
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
  TRY(fault::pass(fault::Point::CloneAsk));
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
    TRY(write_calls(pid_, list));
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

void FrozenProcess::add_child_action(SignalAction const& action, CallList& list) {
  list.call("rt_sigaction(SIGCHLD)", SYS_rt_sigaction,
            {SIGCHLD, list.place_value(action), 0, sizeof(std::uint64_t)});
}

Status FrozenProcess::change_for_copies() {
  auto list = arena_.process_list();
  for (auto const& area : mappings_) {
    if (!area.absent_after_fork) continue;
    list.call(fmt::format("madvise(MADV_DOFORK) of {:#x}", area.begin), SYS_madvise,
              {area.begin, area.size(), MADV_DOFORK});
  }
  if (!is_namespace_init()) return perform(list);
  // Ignored: its copies leave no zombie, and their ends can still be had by their pidfds.
  SignalAction const ignored{reinterpret_cast<std::uint64_t>(SIG_IGN)};
  auto const before = list.place_value(SignalAction{});
  list.call("rt_sigaction(SIGCHLD)", SYS_rt_sigaction,
            {SIGCHLD, list.place_value(ignored), before, sizeof(std::uint64_t)});
  TRY(perform(list));
  child_action_ = list.value_at<SignalAction>(before);
  return {};
}

Callee FrozenProcess::callee(std::size_t thread) {
  return {.pid = pid_, .thread = held_[thread], .like = images_[thread].registers};
}

Status FrozenProcess::perform(CallList& list) {
  return perform_calls(callee(0), arena_, list);
}

Result<pid_t> FrozenProcess::fork_once(CallList& list, std::size_t place) {
  TRY(fault::pass(fault::Point::CloneFork));
  TRY(write_calls(pid_, list));
  if (shares_our_numbers()) {
    TRY(begin_calls(callee(0), arena_, list));
    TRY(finish_calls(callee(0), list));
    TRY(fault::pass(fault::Point::CloneBorn));
    return static_cast<pid_t>(list.result(place));
  }
  auto& leader = held_.front();
  TRY(leader.set_registers(at_loop(images_.front().registers, arena_, list)));
  TRY_ASSIGN(auto const made, leader.resume_until_fork());
  TRY(fault::pass(fault::Point::CloneBorn));
  if (made != 0) TRY(leader.resume());
  TRY(finish_calls(callee(0), list, made == 0 ? Trapped::Yes : Trapped::No));
  return made;
}

Result<pid_t> FrozenProcess::perform_fork(CallList& list, std::size_t place) {
  auto made = fork_once(list, place);
  if (!made) end_newborn();
  return made;
}

// Rare and slow: something went wrong between a birth and the moment its number was known.
void FrozenProcess::end_newborn() const {
  auto const all = os::list_pids();
  if (!all) return;
  for (auto const pid : *all) {
    auto const is_held = std::ranges::find(held_, pid, &TracedThread::tid) != held_.end();
    if (is_held || read_tracer(pid) != gettid() || !is_newborn_of(pid, arena_)) continue;
    kill(pid, SIGKILL);  // It is held by us, so the number is its own.
    reap_threads({pid});
  }
}

Status FrozenProcess::settle() {
  for (auto& thread : held_) TRY(thread.settle());
  end_newborn();
  return {};
}

void FrozenProcess::end() {
  syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  for (int round = 0; lives() && round < kDyingRoundsMax; ++round) usleep(kDyingPauseUs);
}

bool FrozenProcess::lives() {
  if (held_.empty()) return false;
  auto const states = [this] {
    std::vector<Standing> all;
    for (auto const& thread : held_) all.push_back(standing_of(thread.tid()));
    return all;
  };
  // Between the blow and the end there is a moment in which it neither stands nor has ended.
  auto now = states();
  for (int round = 0; round < kDyingRoundsMax && now[0] == Standing::Runs; ++round) {
    usleep(kDyingPauseUs);
    now = states();
    if (std::ranges::find(now, Standing::Ended) != now.end()) break;
  }
  if (std::ranges::find(now, Standing::Ended) == now.end()) return true;
  // What is held does not end by itself: the whole process was killed. Of the first thread the end
  // is its process's, for who owns that.
  std::vector<pid_t> others;
  for (auto it = held_.begin() + 1; it != held_.end(); ++it) others.push_back(it->tid());
  auto const left = reap_threads(std::move(others));
  // Whoever asks again finds those that needed longer.
  std::erase_if(held_, [&](TracedThread const& one) {
    return one.tid() != pid_ && std::ranges::find(left, one.tid()) == left.end();
  });
  return false;
}

Status FrozenProcess::remove_arena() {
  if (arena_.base == 0) return {};
  auto list = arena_.process_list();
  for (auto const& area : mappings_) {
    if (!area.absent_after_fork) continue;
    list.call("madvise(MADV_DONTFORK)", SYS_madvise, {area.begin, area.size(), MADV_DONTFORK});
  }
  if (child_action_) add_child_action(*child_action_, list);
  TRY(perform(list));
  TRY(call_once(held_.front(), images_.front().registers, call_instruction_, SYS_munmap,
                {arena_.base, arena_.size}));
  arena_ = {};
  return {};
}

Status FrozenProcess::thaw() {
  auto first = fault::pass(fault::Point::CloneThaw);
  for (auto& thread : held_) {
    if (auto done = thread.settle(); !done && first) first = std::move(done);
  }
  if (auto done = remove_arena(); !done && first) first = std::move(done);
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
