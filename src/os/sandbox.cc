// SPDX-License-Identifier: Apache-2.0
#include "os/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/result.h"
#include "os/sandbox_filter.h"
#include "os/sandbox_plan.h"
#include "os/unique_fd.h"

namespace aether::os {
namespace {

namespace fs = std::filesystem;

// ---- capabilities

/// Kept at basic, for programs that are started as root and drop their rights themselves: the names
/// say what they may (man 7 capabilities). All others are dropped.
struct Kept {
  unsigned number;
  std::string_view name;
};
constexpr std::array kKeptAtBasic{
    Kept{CAP_CHOWN, "chown"},   Kept{CAP_DAC_OVERRIDE, "dac_override"},
    Kept{CAP_FOWNER, "fowner"}, Kept{CAP_FSETID, "fsetid"},
    Kept{CAP_KILL, "kill"},     Kept{CAP_SETGID, "setgid"},
    Kept{CAP_SETUID, "setuid"}, Kept{CAP_NET_BIND_SERVICE, "net_bind_service"},
};

std::uint64_t kept_by(SandboxSpec const& spec) {
  std::uint64_t kept = 0;
  if (spec.level != SandboxLevel::Basic) return kept;
  if (spec.copies_have_pid_namespaces) kept |= std::uint64_t{1} << CAP_SYS_ADMIN;
  for (Kept const& one : kKeptAtBasic) kept |= std::uint64_t{1} << one.number;
  return kept;
}

/// What we may use now.
std::uint64_t own_capabilities() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return 0;
  return data[0].effective | (std::uint64_t{data[1].effective} << 32);
}

// ---- landlock. Numbers of our own, for Debian 12's headers end with the second version.

constexpr std::uint64_t kTruncate = std::uint64_t{1} << 14;       // version 3
constexpr std::uint64_t kDeviceControl = std::uint64_t{1} << 15;  // version 5
constexpr std::uint64_t kRead =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t kWrite =
    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR |
    LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
    LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
    LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | kTruncate | kDeviceControl;
/// What can be said of a file that is no folder.
constexpr std::uint64_t kOfFiles = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                                   LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate | kDeviceControl;
constexpr std::uint64_t kNoAbstractSockets = 1;
constexpr std::uint64_t kNoSignals = 2;
constexpr int kScopesSince = 6;

struct RulesetAttributes {
  std::uint64_t files;
  std::uint64_t network;  // since version 4; not used: a function talks to databases
  std::uint64_t scopes;   // since version 6
};

/// 0: the kernel has none, or it is not switched on.
int landlock_version() {
  long const version =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return version > 0 ? static_cast<int>(version) : 0;
}

std::uint64_t known_to(int version) {
  std::uint64_t known = (std::uint64_t{1} << 13) - 1;
  if (version >= 2) known |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) known |= kTruncate;
  if (version >= 5) known |= kDeviceControl;
  return known;
}

/// What programs of any language read to run, besides their own folder.
constexpr std::array<char const*, 8> kSystemFolders{"/usr", "/lib",  "/lib64", "/lib32",
                                                    "/bin", "/sbin", "/etc",   "/opt"};
/// Facts about the machine that runtimes size themselves by. No process's own entries.
constexpr std::array<char const*, 10> kSystemFacts{"/proc/cpuinfo",
                                                   "/proc/meminfo",
                                                   "/proc/stat",
                                                   "/proc/loadavg",
                                                   "/proc/uptime",
                                                   "/proc/version",
                                                   "/proc/sys/vm/overcommit_memory",
                                                   "/proc/sys/net/core/somaxconn",
                                                   "/sys/devices/system/cpu",
                                                   "/sys/kernel/mm/transparent_hugepage"};
constexpr std::array<char const*, 5> kDevices{"/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                                              "/dev/urandom"};

bool exists(std::string const& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

std::optional<std::string> real_path(std::string const& path) {
  std::unique_ptr<char, decltype(&::free)> const real(::realpath(path.c_str(), nullptr), &::free);
  return real ? std::optional<std::string>(real.get()) : std::nullopt;
}

/// The folder of a program, and the one above if that is a Python environment of its own.
void add_program(std::string const& program, std::vector<std::string>& paths) {
  for (std::string const& path : {program, real_path(program).value_or(program)}) {
    fs::path const folder = fs::path(path).parent_path();
    if (folder.empty() || folder == "/") continue;
    paths.push_back(folder);
    if (exists(folder.parent_path() / "pyvenv.cfg")) paths.push_back(folder.parent_path());
  }
}

struct Files {
  std::vector<std::string> read;
  std::vector<std::string> write;
};

Files files_of(SandboxSpec const& spec, std::string const& program, std::string const& workdir) {
  Files files;
  for (char const* const folder : kSystemFolders) files.read.emplace_back(folder);
  // Where it leads out of /etc, as to systemd's resolver.
  if (auto const resolver = real_path("/etc/resolv.conf")) files.read.push_back(*resolver);
  for (std::string const& path : spec.read_only) files.read.push_back(path);
  if (!program.empty()) add_program(program, files.read);
  if (!workdir.empty()) files.read.push_back(workdir);
  files.write = spec.read_write;
  return files;
}

Status add_rule(int ruleset, std::string const& path, std::uint64_t access) {
  UniqueFd const file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!file && (errno == ENOENT || errno == ENOTDIR || errno == EACCES)) return {};
  if (!file) return fail(system_error("open for the sandbox", path));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return fail(system_error("fstat", path));
  if (!S_ISDIR(status.st_mode)) access &= kOfFiles;
  landlock_path_beneath_attr const rule{.allowed_access = access, .parent_fd = file.get()};
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0)
    return {};
  return fail(system_error("add a landlock rule for", path));
}

Result<UniqueFd> make_ruleset(Files const& files) {
  int const version = landlock_version();
  if (version == 0)
    return fail(ErrorCode::Unsupported,
                "sandbox: strict needs landlock, which this kernel does not have or was not told "
                "to use (lsm=landlock,... on its command line); sandbox: basic does without");
  std::uint64_t const known = known_to(version);
  RulesetAttributes const attributes{
      .files = known,
      .network = 0,
      .scopes = version >= kScopesSince ? kNoAbstractSockets | kNoSignals : 0};
  // Older kernels know the first fields only, and refuse others even if they are zero in size.
  std::size_t const size = version >= kScopesSince ? sizeof attributes : sizeof attributes.files;
  UniqueFd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0)));
  if (!ruleset) return fail(system_error("make a landlock ruleset"));
  for (std::string const& path : files.read) TRY(add_rule(ruleset.get(), path, kRead & known));
  for (char const* const path : kSystemFacts)
    TRY(add_rule(ruleset.get(), path, kRead & ~LANDLOCK_ACCESS_FS_EXECUTE));
  for (std::string const& path : files.write) TRY(add_rule(ruleset.get(), path, kWrite & known));
  for (char const* const path : kDevices) TRY(add_rule(ruleset.get(), path, kWrite & known));
  return ruleset;
}

std::string capability_line(SandboxSpec const& spec) {
  std::uint64_t const kept = own_capabilities() & kept_by(spec);
  std::vector<std::string_view> names;
  for (Kept const& one : kKeptAtBasic)
    if ((kept >> one.number & 1) != 0) names.push_back(one.name);
  if ((kept >> CAP_SYS_ADMIN & 1) != 0) names.emplace_back("sys_admin (for pid namespaces)");
  return names.empty() ? std::string("no capabilities")
                       : fmt::format("no capabilities but {}", fmt::join(names, ", "));
}

}  // namespace

std::string_view sandbox_name(SandboxLevel level) {
  switch (level) {
    case SandboxLevel::None:
      return "none";
    case SandboxLevel::Basic:
      return "basic";
    case SandboxLevel::Strict:
      return "strict";
  }
  return "?";
}

std::vector<std::string> describe_sandbox(SandboxSpec const& spec) {
  if (spec.level == SandboxLevel::None) return {};
  std::vector<std::string_view> names;
  for (RefusedCall const& call : refused_calls()) names.push_back(call.name);
  std::vector<std::string> lines{
      "no new privileges: setuid programs and file capabilities give nothing",
      capability_line(spec),
      fmt::format(
          "system calls refused (seccomp): {}; new namespaces, clone3, and calls of another "
          "architecture",
          fmt::join(names, ", "))};
  if (spec.level == SandboxLevel::Basic) return lines;
  lines.emplace_back("sockets: unix, inet, inet6 and netlink only");
  int const version = landlock_version();
  if (version == 0) {
    lines.emplace_back("files: this kernel has no landlock, so it cannot be started");
    return lines;
  }
  Files files = files_of(spec, "", "");
  std::erase_if(files.read, [](std::string const& path) { return !exists(path); });
  lines.push_back(
      fmt::format("files to read (landlock {}): {}, the program's folder, facts about "
                  "the machine in /proc and /sys",
                  version, fmt::join(files.read, ", ")));
  lines.push_back(fmt::format("files to write: {}{}{}", fmt::join(files.write, ", "),
                              files.write.empty() ? "" : ", ", fmt::join(kDevices, ", ")));
  lines.emplace_back("all other files are refused");
  if (version >= kScopesSince)
    lines.emplace_back("no signals to, and no abstract unix sockets of, programs outside of it");
  return lines;
}

Result<Sandbox> Sandbox::prepare(SandboxSpec const& spec, std::string const& program,
                                 std::string const& workdir) {
  Sandbox sandbox;
  sandbox.kept_ = kept_by(spec);
  sandbox.filter_ = seccomp_filter(spec.level);
  if (spec.level != SandboxLevel::Strict) return sandbox;
  TRY_ASSIGN(sandbox.landlock_, make_ruleset(files_of(spec, program, workdir)));
  return sandbox;
}

SandboxPlan Sandbox::plan() const {
  return {.drop_bounding = (own_capabilities() & (std::uint64_t{1} << CAP_SETPCAP)) != 0,
          .kept_capabilities = kept_,
          .landlock = landlock_.get(),
          .filter = filter_.data(),
          .filter_length = static_cast<unsigned short>(filter_.size())};
}

}  // namespace aether::os
