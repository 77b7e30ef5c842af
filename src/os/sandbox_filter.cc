// SPDX-License-Identifier: Apache-2.0
#include "os/sandbox_filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <array>
#include <cstddef>

namespace aether::os {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "os/sandbox_filter.cc knows x86_64 and aarch64: add this architecture's audit number here"
#endif

// The calls of the x32 ABI, which would slip past a list of the ordinary numbers.
constexpr std::uint32_t kX32Bit = 0x40000000;

#define AETHER_CALL(name) \
  RefusedCall {           \
    #name, SYS_##name     \
  }
constexpr RefusedCall kRefused[] = {
    // Looking into, and changing, other processes.
    AETHER_CALL(ptrace),
    AETHER_CALL(process_vm_readv),
    AETHER_CALL(process_vm_writev),
    AETHER_CALL(pidfd_getfd),
    AETHER_CALL(kcmp),
    // The file tree and the namespaces.
    AETHER_CALL(mount),
    AETHER_CALL(umount2),
    AETHER_CALL(pivot_root),
    AETHER_CALL(open_tree),
    AETHER_CALL(move_mount),
    AETHER_CALL(fsopen),
    AETHER_CALL(fsconfig),
    AETHER_CALL(fsmount),
    AETHER_CALL(fspick),
    AETHER_CALL(mount_setattr),
    AETHER_CALL(unshare),
    AETHER_CALL(setns),
    AETHER_CALL(open_by_handle_at),
    AETHER_CALL(fanotify_init),
    AETHER_CALL(quotactl),
    AETHER_CALL(acct),
    // Programs within the kernel, and what most of its holes were found in.
    AETHER_CALL(bpf),
    AETHER_CALL(perf_event_open),
    AETHER_CALL(userfaultfd),
    AETHER_CALL(io_uring_setup),
    AETHER_CALL(io_uring_enter),
    AETHER_CALL(io_uring_register),
    AETHER_CALL(keyctl),
    AETHER_CALL(add_key),
    AETHER_CALL(request_key),
    // The machine.
    AETHER_CALL(init_module),
    AETHER_CALL(finit_module),
    AETHER_CALL(delete_module),
    AETHER_CALL(kexec_load),
#ifdef SYS_kexec_file_load
    AETHER_CALL(kexec_file_load),
#endif
    AETHER_CALL(reboot),
    AETHER_CALL(swapon),
    AETHER_CALL(swapoff),
    AETHER_CALL(settimeofday),
    AETHER_CALL(clock_settime),
    AETHER_CALL(sethostname),
    AETHER_CALL(setdomainname),
    AETHER_CALL(syslog),
    AETHER_CALL(vhangup),
    AETHER_CALL(lookup_dcookie),
    AETHER_CALL(nfsservctl),
#if defined(__x86_64__)
    AETHER_CALL(iopl),
    AETHER_CALL(ioperm),
    AETHER_CALL(modify_ldt),
    AETHER_CALL(uselib),
    AETHER_CALL(_sysctl),
    AETHER_CALL(create_module),
#endif
};
#undef AETHER_CALL

// CLONE_NEWTIME cannot be asked of clone(): its bit is one of the exit signal's.
constexpr std::uint32_t kNamespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                      CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
constexpr std::array<std::uint32_t, 4> kFamilies{AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};

class Program {
 public:
  void load(std::size_t offset) {
    add(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
  }
  /// The low half of an argument: flags and families fit, and both architectures put it first.
  void load_argument(std::size_t place) {
    load(offsetof(seccomp_data, args) + place * sizeof(std::uint64_t));
  }
  void allow() { add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW); }
  void refuse(int reason) {
    add(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(reason));
  }
  /// Skips that many instructions unless the test holds for what was loaded.
  void skip_unless(unsigned short test, std::uint32_t value, unsigned char count) {
    add(static_cast<unsigned short>(BPF_JMP | test | BPF_K), value, 0, count);
  }
  void skip_if(unsigned short test, std::uint32_t value, unsigned char count) {
    add(static_cast<unsigned short>(BPF_JMP | test | BPF_K), value, count, 0);
  }
  [[nodiscard]] std::vector<sock_filter> take() { return std::move(code_); }

 private:
  void add(unsigned short code, std::uint32_t value, unsigned char yes = 0, unsigned char no = 0) {
    code_.push_back({.code = code, .jt = yes, .jf = no, .k = value});
  }
  std::vector<sock_filter> code_;
};

}  // namespace

std::span<RefusedCall const> refused_calls() {
  return kRefused;
}

std::vector<sock_filter> seccomp_filter(SandboxLevel level) {
  if (level == SandboxLevel::None) return {};
  Program program;
  program.load(offsetof(seccomp_data, arch));
  program.skip_if(BPF_JEQ, kArchitecture, 1);
  program.refuse(EPERM);
  program.load(offsetof(seccomp_data, nr));
#if defined(__x86_64__)
  program.skip_unless(BPF_JGE, kX32Bit, 1);
  program.refuse(EPERM);
#endif
  for (RefusedCall const& call : kRefused) {
    program.skip_unless(BPF_JEQ, static_cast<std::uint32_t>(call.number), 1);
    program.refuse(EPERM);
  }
  // Its flags lie in memory, where a filter cannot look: libraries then use clone() (ENOSYS is what
  // container engines answer, too).
  program.skip_unless(BPF_JEQ, SYS_clone3, 1);
  program.refuse(ENOSYS);
  program.skip_unless(BPF_JEQ, SYS_clone, 4);
  program.load_argument(0);
  program.skip_unless(BPF_JSET, kNamespaces, 1);
  program.refuse(EPERM);
  program.allow();
  if (level == SandboxLevel::Strict) {
    program.skip_unless(BPF_JEQ, SYS_socket, 2 + kFamilies.size() * 2);
    program.load_argument(0);
    for (std::uint32_t const family : kFamilies) {
      program.skip_unless(BPF_JEQ, family, 1);
      program.allow();
    }
    program.refuse(EAFNOSUPPORT);
  }
  program.allow();
  return program.take();
}

}  // namespace aether::os
