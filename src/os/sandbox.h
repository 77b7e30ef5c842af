// SPDX-License-Identifier: Apache-2.0
// Sandbox: what a program may not do. Prepared before it is started, taken on by the new process
// itself just before it executes, and inherited by all it starts; nobody can take it off again.
// It lessens what a handler with a hole can do to this machine. It is no virtual machine: the
// kernel is shared, and who runs as root still owns root's files.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aether::os {

enum class SandboxLevel : std::uint8_t {
  None,
  /// No new privileges, no dangerous capability, no system call that only administrators, debuggers
  /// and container engines need.
  Basic,
  /// And no capability at all, no socket families but the ordinary ones, and no file but those that
  /// a program needs to run. What it has no right to is refused with EACCES.
  Strict
};
[[nodiscard]] std::string_view sandbox_name(SandboxLevel level);

struct SandboxSpec {
  SandboxLevel level = SandboxLevel::None;
  /// Strict only: folders and files to read besides the system's, the program's own folder and its
  /// workdir, which are always among them. Those that do not exist are left out.
  std::vector<std::string> read_only;
  std::vector<std::string> read_write;  ///< Strict only: likewise, to write, but not to execute.
  /// Basic only: its frozen original shall make copies that are the first of pid namespaces of
  /// their own (clone/template.h). That takes CAP_SYS_ADMIN, which it keeps then; the filter
  /// refuses most of what it is good for.
  bool copies_have_pid_namespaces = false;
  bool operator==(SandboxSpec const&) const = default;
};

/// One sentence for each part of what will be in force on this machine, with the rights that we
/// have now. For people. Empty for None.
[[nodiscard]] std::vector<std::string> describe_sandbox(SandboxSpec const& spec);

}  // namespace aether::os
