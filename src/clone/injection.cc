// SPDX-License-Identifier: Apache-2.0
#include "clone/injection.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <fmt/format.h>

#include "clone/memory.h"

namespace aether::clone {
namespace {

// What a system call returns inside of the kernel when it is to be made again
// (include/linux/errno.h).
constexpr std::int64_t kRestartSystem = -512;
constexpr std::int64_t kRestartNoInterrupt = -513;
constexpr std::int64_t kRestartNoHandler = -514;
constexpr std::int64_t kRestartBlock = -516;

/// Where the loop goes on after a call (kCallLoop in call_list.cc).
constexpr std::uint64_t kBehindLoopCall = 34;

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

}  // namespace

Registers at_loop(Registers like, Arena const& arena, CallList const& list) {
  like.orig_rax = ~std::uint64_t{0};
  like.rip = arena.loop();
  like.rbx = list.entries_at();
  like.r12 = list.size();
  return like;
}

bool is_newborn_of(pid_t pid, Arena const& arena) {
  auto thread = TracedThread::born_traced(pid);
  if (!thread.wait_stopped()) return false;
  auto const registers = thread.registers();
  return registers && registers->rip == arena.loop() + kBehindLoopCall && registers->rax == 0 &&
         registers->rbx > arena.base && registers->rbx < arena.base + arena.size;
}

Registers continuing(Registers registers) {
  if (is_to_be_made_again(registers)) {
    registers.rip -= kCallBytes;
    registers.rax = registers.orig_rax;
  }
  registers.orig_rax = ~std::uint64_t{0};
  return registers;
}

Status write_calls(pid_t pid, CallList const& list) {
  auto const image = list.image();
  if (image) return write_memory(pid, list.base(), *image);
  return fail(
      ErrorCode::LimitReached,
      fmt::format("copying process {}: {} system calls are more than fit", pid, list.size()));
}

Status begin_calls(Callee callee, Arena const& arena, CallList const& list) {
  TRY(callee.thread.set_registers(at_loop(callee.like, arena, list)));
  return callee.thread.resume();
}

Status finish_calls(Callee callee, CallList& list, Trapped trapped) {
  if (trapped == Trapped::No) TRY(callee.thread.wait_trapped());
  std::vector<std::byte> image(list.data().size() + list.bytes_of_entries());
  TRY(read_memory(callee.pid, list.base(), image));
  list.set_performed(image);
  if (auto const failure = list.failure()) {
    return fail(ErrorCode::SystemCall, fmt::format("in process {}: {}", callee.pid, *failure));
  }
  return {};
}

Status perform_calls(Callee callee, Arena const& arena, CallList& list) {
  if (list.empty()) return {};
  TRY(write_calls(callee.pid, list));
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

}  // namespace aether::clone
