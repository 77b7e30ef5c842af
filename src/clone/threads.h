// SPDX-License-Identifier: Apache-2.0
// Which threads a process has, by what numbers and who traces it (man 5 proc_pid_status), and the
// end of those that are traced.
#pragma once
#include <sys/types.h>

#include <vector>

#include "base/result.h"

namespace aether::clone {

/// Takes the ends of killed threads, which the kernel keeps for who traces them: before that, their
/// process cannot be reaped. Returns those that did not end within 2 s: the last one to end gives
/// all of the process's memory back before.
std::vector<pid_t> reap_threads(std::vector<pid_t> tids);

/// Which thread traces the process; 0: none, or it is gone.
[[nodiscard]] pid_t read_tracer(pid_t pid);

/// Whether a thread or a process is gone, or dead and only its end is kept.
[[nodiscard]] bool has_ended(pid_t tid);

/// Of a process: the main one first, then by number.
[[nodiscard]] Result<std::vector<pid_t>> list_threads(pid_t pid);
/// A thread's number in the innermost pid namespace that it is in.
[[nodiscard]] pid_t read_own_tid(pid_t pid, pid_t tid);

}  // namespace aether::clone
