// SPDX-License-Identifier: Apache-2.0
#include "os/command.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include <fmt/format.h>

#include "os/process.h"

namespace aether::os {
namespace {

// What execvp would search without PATH (man 3 exec), and where local programs are.
constexpr std::string_view kDefaultPath = "/usr/local/bin:/usr/bin:/bin";

/// Programs that distributions install under another name.
struct Renamed {
  std::string_view name;
  std::string_view other;
};
constexpr std::array kRenamed{
    Renamed{"python", "python3"}, Renamed{"python3", "python"}, Renamed{"pip", "pip3"},
    Renamed{"node", "nodejs"},    Renamed{"nodejs", "node"},    Renamed{"docker", "podman"},
};

std::string_view child_path(std::vector<std::string> const& environment) {
  constexpr std::string_view kName = "PATH=";
  for (std::string const& entry : environment) {  // the first one counts, as for getenv
    if (entry.starts_with(kName)) return std::string_view(entry).substr(kName.size());
  }
  return kDefaultPath;
}

std::string below(std::string const& folder, std::string_view path) {
  if (path.starts_with('/') || folder.empty()) return std::string(path);
  return fmt::format("{}/{}", folder, path);
}

enum class Look : std::uint8_t { Missing, NotExecutable, Executable };

Look look_at(std::string const& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return Look::Missing;
  if (!S_ISREG(status.st_mode)) return Look::NotExecutable;
  // AT_EACCESS: with the rights we have now, not those of who started us.
  return ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? Look::Executable
                                                                    : Look::NotExecutable;
}

struct PathSearch {
  std::optional<std::string> found;
  std::optional<std::string> not_executable;  ///< the first file of that name that could not be run
};

PathSearch search_path(std::string_view name, std::string_view path, std::string const& workdir) {
  PathSearch result;
  while (true) {
    std::size_t end = std::min(path.find(':'), path.size());
    std::string_view folder = path.substr(0, end);  // an empty one is the working folder
    std::string candidate = fmt::format("{}/{}", folder.empty() ? "." : folder, name);
    Look const look = look_at(below(workdir, candidate));
    if (look == Look::Executable) {
      result.found = std::move(candidate);
      return result;
    }
    if (look == Look::NotExecutable && !result.not_executable)
      result.not_executable = std::move(candidate);
    if (end == path.size()) return result;
    path.remove_prefix(end + 1);
  }
}

std::string hint_for_missing(std::string_view name, std::string_view path,
                             std::string const& workdir) {
  if (name.find(' ') != std::string_view::npos)
    return "; it has spaces in it: write the program and its arguments as separate words";
  for (Renamed const& renamed : kRenamed) {
    if (renamed.name == name && search_path(renamed.other, path, workdir).found)
      return fmt::format("; there is {} here: use that name", renamed.other);
  }
  if (look_at(below(workdir, fmt::format("./{}", name))) == Look::Executable)
    return fmt::format("; there is one in the working folder: write ./{}", name);
  return "; give its full path, or put its folder in PATH";
}

/// The first bytes of a file: enough for #! and an ELF header; empty if it cannot be read.
std::string read_beginning(std::string const& path) {
  constexpr std::size_t kBeginning = 256;  // BINPRM_BUF_SIZE: what the kernel looks at
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return {};
  std::string bytes(kBeginning, '\0');
  ssize_t count = ::read(fd.get(), bytes.data(), bytes.size());
  bytes.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return bytes;
}

bool is_elf(std::string_view beginning) {
  return beginning.starts_with(
      "\x7f"
      "ELF");
}

/// The interpreter of a script: the first word behind #!. Keeps a carriage return, to be found.
std::optional<std::string> script_interpreter(std::string_view beginning) {
  if (!beginning.starts_with("#!")) return std::nullopt;
  std::string_view line = beginning.substr(2, beginning.find('\n') - 2);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  return std::string(line.substr(0, line.find_first_of(" \t")));
}

Error explain_missing(std::string const& path, std::string const& real, std::string const& where,
                      int errno_value) {
  struct stat status{};
  if (::stat(real.c_str(), &status) != 0)
    return {ErrorCode::CommandNotFound, fmt::format("the command {}{} does not exist", path, where),
            errno_value};
  std::string const beginning = read_beginning(real);
  std::string reason = "something it needs to start does not exist";
  if (auto interpreter = script_interpreter(beginning)) {
    reason = interpreter->ends_with('\r')
                 ? "its first line ends with a carriage return (Windows line ends): save it "
                   "with Unix line ends, or run dos2unix on it"
                 : fmt::format("its first line names the interpreter {}, which does not exist",
                               *interpreter);
  } else if (is_elf(beginning)) {
    reason =
        "the loader it names does not exist: it was built for another C library (glibc, musl) or "
        "architecture";
  }
  return {ErrorCode::CommandNotExecutable,
          fmt::format("{}{} cannot be run: {}", path, where, reason), errno_value};
}

std::string reason_for_denied(std::string const& real) {
  struct stat status{};
  if (::stat(real.c_str(), &status) != 0) return "a folder on the way to it may not be entered";
  if (S_ISDIR(status.st_mode)) return "it is a folder";
  if (!S_ISREG(status.st_mode)) return "it is not an ordinary file";
  if ((status.st_mode & 0111) == 0)
    return fmt::format("it is not marked as executable: chmod +x {}", real);
  if (auto interpreter = script_interpreter(read_beginning(real)); interpreter)
    return fmt::format(
        "it, or its interpreter {}, may not be executed by this user, or lies on a file system "
        "mounted noexec",
        *interpreter);
  return fmt::format(
      "this user may not execute it (mode {:o}, owner {}), or it lies on a file system mounted "
      "noexec",
      status.st_mode & 07777, status.st_uid);
}

std::string reason_for_unknown_format(std::string const& real) {
  std::string const beginning = read_beginning(real);
  if (beginning.empty()) return "it is empty";
  if (is_elf(beginning)) return "it was built for another architecture, or is damaged";
  if (beginning.starts_with("#!")) return "its first line names no interpreter";
  return "it is neither a program nor a script with a first line such as #!/bin/sh";
}

}  // namespace

Result<std::string> resolve_command(std::string_view argv0,
                                    std::vector<std::string> const& environment,
                                    std::string const& workdir) {
  if (argv0.empty()) return fail(ErrorCode::CommandNotFound, "the command to run is empty");
  if (argv0.find('/') != std::string_view::npos) return std::string(argv0);
  std::string_view const path = child_path(environment);
  PathSearch search = search_path(argv0, path, workdir);
  if (search.found) return std::move(*search.found);
  if (search.not_executable)
    return fail(explain_exec_failure(*search.not_executable, workdir, EACCES));
  return fail(ErrorCode::CommandNotFound,
              fmt::format("the command {} was not found in PATH ({}){}", argv0, path,
                          hint_for_missing(argv0, path, workdir)),
              ENOENT);
}

Result<std::string> find_command(std::string_view argv0,
                                 std::vector<std::string> const& environment,
                                 std::string const& workdir) {
  TRY_ASSIGN(std::string path, resolve_command(argv0, environment, workdir));
  switch (look_at(below(workdir, path))) {
    case Look::Missing:
      return fail(explain_exec_failure(path, workdir, ENOENT));
    case Look::NotExecutable:
      return fail(explain_exec_failure(path, workdir, EACCES));
    case Look::Executable:
      break;
  }
  return path;
}

Error explain_exec_failure(std::string const& path, std::string const& workdir, int errno_value) {
  std::string const real = below(workdir, path);
  std::string const where = real != path ? fmt::format(" (in {})", workdir) : std::string();
  auto not_executable = [&](std::string const& reason) {
    return Error(ErrorCode::CommandNotExecutable,
                 fmt::format("{}{} cannot be run: {}", path, where, reason), errno_value);
  };
  switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
      return explain_missing(path, real, where, errno_value);
    case EACCES:
      return not_executable(reason_for_denied(real));
    case ENOEXEC:
      return not_executable(reason_for_unknown_format(real));
    case ELIBBAD:
    case EINVAL:
      return not_executable("its loader is damaged, or there is more than one");
    case ETXTBSY:
      return {ErrorCode::SpawnFailed,
              fmt::format("{}{} cannot be run now: it is open for writing; try again when it has "
                          "been written",
                          path, where),
              errno_value};
    case E2BIG:
      return {ErrorCode::SpawnFailed,
              fmt::format("{}{} cannot be run: its arguments and environment are longer than the "
                          "kernel takes",
                          path, where),
              errno_value};
    default:
      return system_error_from(errno_value, "execve", path);
  }
}

}  // namespace aether::os
