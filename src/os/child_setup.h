// SPDX-License-Identifier: Apache-2.0
// What happens in the child between clone and exec: one function, no allocation, no lock, no C
// library. Private to spawn().
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "os/process.h"
#include "os/sandbox_plan.h"

namespace aether::os {

/// The step at which the child gave up.
enum class SpawnStep : std::uint8_t {
  None,
  Session,
  Cgroup,
  Descriptors,
  Limits,
  Groups,
  Group,
  User,
  Workdir,
  Sandbox,
  Execute
};

/// Everything the child needs, laid out by the parent. All pointers are borrowed and stay valid
/// until the child has executed or ended.
struct ChildPlan {
  char const* path = nullptr;
  char const* const* argv = nullptr;
  char const* const* environment = nullptr;
  char* listen_pid_digits = nullptr;    ///< within environment; nullptr: do not write
  char* watchdog_pid_digits = nullptr;  ///< likewise
  char* listen_pidfd_digits = nullptr;  ///< likewise, for the inode of the child's pidfd

  ChildFd const* fds = nullptr;  ///< sorted by target, targets distinct
  int* scratch = nullptr;        ///< fd_count numbers for the child's use
  std::size_t fd_count = 0;
  int descriptor_end = 0;  ///< no descriptor of ours is as high (the soft limit)

  ResourceLimit const* limits = nullptr;
  std::size_t limit_count = 0;

  long parent = 0;                ///< Who the child is not to outlive before it executes.
  char const* workdir = nullptr;  ///< nullptr: stay
  int cgroup = -1;                ///< -1: it is in the right one already
  bool new_session = false;
  bool change_user = false;
  uid_t uid = 0;
  gid_t gid = 0;
  gid_t const* groups = nullptr;
  std::size_t group_count = 0;
  bool confined = false;  ///< `sandbox` is to be taken on.
  SandboxPlan sandbox;

  // Written by the child, read by the parent once the child is gone or has executed.
  SpawnStep failed_step = SpawnStep::None;
  int failed_errno = 0;
  int failed_descriptor = -1;
};

/// Carries out the plan and executes, or records why not and exits with 127. Runs with all signals
/// blocked, on its own stack, in the parent's memory.
[[noreturn]] void run_child(void* plan);

}  // namespace aether::os
