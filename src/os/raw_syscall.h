// SPDX-License-Identifier: Apache-2.0
// System calls without the C library, for code that runs in a process which shares our memory: it
// must not touch errno (thread-local, hence ours) nor wrappers with side effects, such as setuid(),
// which signals all threads (man 7 nptl). Results are the kernel's: -errno on failure.
#pragma once

namespace aether::os {

/// Where a cloned process begins. It must not return.
using CloneEntry = void (*)(void* argument);

#if defined(__x86_64__)

__attribute__((always_inline)) inline long raw_syscall(long number, long a1 = 0, long a2 = 0,
                                                       long a3 = 0, long a4 = 0, long a5 = 0) {
  register long r10 asm("r10") = a4;
  register long r8 asm("r8") = a5;
  long result = 0;
  asm volatile("syscall"
               : "=a"(result)
               : "0"(number), "D"(a1), "S"(a2), "d"(a3), "r"(r10), "r"(r8)
               : "rcx", "r11", "memory", "cc");
  return result;
}

/// clone or clone3 with a stack of the child's own, on which it calls entry(argument). Registers
/// survive the system call in parent and child (but rax, rcx, r11); only the stack differs.
inline long clone_syscall(long number, long a1, long a2, long a3, long a4, long a5,
                          CloneEntry entry, void* argument) {
  register long r10 asm("r10") = a4;
  register long r8 asm("r8") = a5;
  register CloneEntry r12 asm("r12") = entry;
  register void* r13 asm("r13") = argument;
  long result = 0;
  asm volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"  // the end of the child's chain of frames
      "andq $-16, %%rsp\n\t"
      "movq %%r13, %%rdi\n\t"
      "callq *%%r12\n\t"
      "ud2\n"
      "1:"
      : "=a"(result)
      : "0"(number), "D"(a1), "S"(a2), "d"(a3), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
      : "rcx", "r11", "memory", "cc");
  return result;
}

#elif defined(__aarch64__)

__attribute__((always_inline)) inline long raw_syscall(long number, long a1 = 0, long a2 = 0,
                                                       long a3 = 0, long a4 = 0, long a5 = 0) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a1;
  register long x1 asm("x1") = a2;
  register long x2 asm("x2") = a3;
  register long x3 asm("x3") = a4;
  register long x4 asm("x4") = a5;
  asm volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory", "cc");
  return x0;
}

inline long clone_syscall(long number, long a1, long a2, long a3, long a4, long a5,
                          CloneEntry entry, void* argument) {
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a1;
  register long x1 asm("x1") = a2;
  register long x2 asm("x2") = a3;
  register long x3 asm("x3") = a4;
  register long x4 asm("x4") = a5;
  register CloneEntry x20 asm("x20") = entry;
  register void* x21 asm("x21") = argument;
  asm volatile(
      "svc #0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"  // the end of the child's chain of frames
      "mov x30, xzr\n\t"
      "mov x0, x21\n\t"
      "blr x20\n\t"
      "brk #1\n"
      "1:"
      : "+r"(x0)
      : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x20), "r"(x21)
      : "memory", "cc");
  return x0;
}

#else
#error "os/raw_syscall.h knows x86_64 and aarch64: add this architecture's system call here"
#endif

}  // namespace aether::os
