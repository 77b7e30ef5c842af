// SPDX-License-Identifier: Apache-2.0
// What /proc says about processes. All of it is a glimpse: the process may be gone, or its number
// be reused, by the time the answer is read; pidfds and start times are what makes it safe to act.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace aether::os {

/// The fields of /proc/PID/stat that Aether uses (man 5 proc_pid_stat).
struct ProcessInfo {
  pid_t pid = 0;
  std::string comm;  ///< at most 15 bytes, any bytes
  char state = '?';  ///< R S D Z T t X I
  pid_t parent = 0;
  pid_t group = 0;
  pid_t session = 0;
  std::uint64_t start_ticks = 0;  ///< since boot; with the pid it names one process for ever
  std::uint64_t rss_bytes = 0;

  bool operator==(ProcessInfo const&) const = default;

  [[nodiscard]] bool ended() const { return state == 'Z' || state == 'X'; }
};

/// nullopt if there is no such process.
[[nodiscard]] std::optional<ProcessInfo> read_process(pid_t pid);
/// Parses one /proc/PID/stat line. Pure; nullopt if it is not one.
[[nodiscard]] std::optional<ProcessInfo> parse_stat(std::string_view line);
/// All visible processes. Unsupported if /proc is not mounted.
[[nodiscard]] Result<std::vector<ProcessInfo>> read_all_processes();
/// All numbers in /proc, without reading the processes.
[[nodiscard]] Result<std::vector<pid_t>> list_pids();

[[nodiscard]] std::optional<pid_t> read_parent(pid_t pid);
[[nodiscard]] std::optional<std::uint64_t> read_start_ticks(pid_t pid);
/// The program's name, for messages: "python3"; empty if gone.
[[nodiscard]] std::string read_comm(pid_t pid);
/// True if the process's first environment (as execve gave it) has exactly this "NAME=value".
/// False also when we may not look.
[[nodiscard]] bool has_environment(pid_t pid, std::string_view entry);
/// Open descriptors of the process, sorted; empty if we may not look.
[[nodiscard]] std::vector<int> list_fds(pid_t pid);
/// Target of /proc/PID/fd/FD: "socket:[123]", "/dev/null"; empty if we may not look.
[[nodiscard]] std::string read_fd_link(pid_t pid, int fd);
/// The inode of the process's network namespace, nullopt if it is gone or we may not look.
[[nodiscard]] std::optional<std::uint64_t> read_network_namespace(pid_t pid);
/// Resident bytes of this or another process, 0 if gone.
[[nodiscard]] std::uint64_t read_rss_bytes(pid_t pid);
/// How many descriptors this process has open.
[[nodiscard]] std::size_t count_own_fds();

/// What a process would do with a signal (SigCgt, SigIgn of man 5 proc_pid_status).
enum class Disposition : std::uint8_t { Default, Ignored, Handled };
/// Ask before sending HUP or USR1 to a program that may not expect it: Default would end it.
[[nodiscard]] std::optional<Disposition> read_disposition(pid_t pid, int signal);
/// Whether a signal ends a process that has no handler for it (man 7 signal, "Term" and "Core").
[[nodiscard]] bool default_action_ends(int signal);

}  // namespace aether::os
