// SPDX-License-Identifier: Apache-2.0
#include "os/cgroup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "os/child.h"
#include "os/file.h"

namespace aether::os {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFileMax = std::size_t{4} * 1024 * 1024;  // 4 MiB: half a million pids

/// Undoes mountinfo's \ooo for spaces, tabs, newlines and backslashes (man 5 proc_pid_mountinfo).
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ec == std::errc()) {
      plain.push_back(static_cast<char>(code));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    std::size_t const end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

struct Cgroup2Mount {
  std::string root;   ///< which part of the tree is mounted
  std::string point;  ///< where
};

std::optional<Cgroup2Mount> find_mount() {
  auto table = read_file("/proc/self/mountinfo", kFileMax);
  if (!table) return std::nullopt;
  for (std::string_view line : split(*table, '\n')) {
    std::size_t const dash = line.find(" - ");
    if (dash == std::string_view::npos || !line.substr(dash + 3).starts_with("cgroup2 ")) continue;
    auto fields = split(line.substr(0, dash), ' ');
    if (fields.size() < 5) continue;
    return Cgroup2Mount{.root = unescape(fields[3]), .point = unescape(fields[4])};
  }
  return std::nullopt;
}

/// The cgroup v2 of a process as /proc has it: "/system.slice/x.service"; nullopt if gone.
std::optional<std::string> cgroup_name_of(std::string const& process) {
  auto lines = read_file(fmt::format("/proc/{}/cgroup", process), kFileMax);
  if (!lines) return std::nullopt;
  for (std::string_view line : split(*lines, '\n')) {
    if (line.starts_with("0::")) return std::string(line.substr(3));  // hierarchy 0 is version 2
  }
  return std::nullopt;
}

std::string join(std::string_view parent, std::string_view name) {
  return fmt::format("{}/{}", parent.ends_with('/') ? parent.substr(0, parent.size() - 1) : parent,
                     name);
}

std::string safe_name(std::string_view name) {
  std::string safe(name);
  for (char& c : safe) {
    bool const plain = ::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
    if (!plain && c != '.') c = '_';
  }
  if (safe.empty() || safe.front() == '.') safe.insert(0, "_");
  return safe;
}

/// Folders below and including `path`, the deepest first, as rmdir needs them.
std::vector<std::string> folders_below(std::string const& path) {
  std::vector<std::string> folders;
  std::error_code ec;
  for (fs::recursive_directory_iterator entry(path, ec), end; !ec && entry != end;
       entry.increment(ec)) {
    if (entry->is_directory(ec)) folders.push_back(entry->path());
  }
  std::ranges::reverse(folders);
  folders.push_back(path);
  return folders;
}

Status remove_folders(std::string const& path) {
  for (std::string const& folder : folders_below(path)) {
    if (::rmdir(folder.c_str()) != 0 && errno != ENOENT)
      return fail(system_error("remove cgroup", folder));
  }
  return {};
}

Status make_folder(std::string const& path) {
  if (::mkdir(path.c_str(), 0755) == 0) return {};
  if (errno == EEXIST) {
    TRY(remove_folders(path));  // fails if something lives in it: then the name is taken
    if (::mkdir(path.c_str(), 0755) == 0) return {};
  }
  if (errno == EACCES || errno == EPERM || errno == EROFS)
    return fail(ErrorCode::Unsupported,
                fmt::format("cgroup {} may not be made: run Aether as root, or give it a delegated "
                            "cgroup (systemd: Delegate=yes)",
                            path),
                errno);
  return fail(system_error("make cgroup", path));
}

struct Own {
  std::string path;  ///< In the file system.
  std::string name;  ///< As /proc has it.
};

Result<Own> find_own() {
  // It stays where it is, and a copy of a function has no time to read it (0.15 ms).
  static std::optional<Cgroup2Mount> const mount = find_mount();
  auto const name = cgroup_name_of("self");
  if (!mount || !name)
    return fail(ErrorCode::Unsupported, "no cgroup v2 tree is mounted (see mount -t cgroup2)");
  // A container may see a part of the tree only: the name is then below the part's root, and
  // begins with /.. if we are outside of it.
  std::string_view below = *name;
  if (mount->root != "/" && below.starts_with(mount->root)) below.remove_prefix(mount->root.size());
  if (below.starts_with("/.."))
    return fail(
        ErrorCode::Unsupported,
        fmt::format("our cgroup {} is outside of the tree mounted at {}", *name, mount->point));
  if (below.empty() || below == "/") return Own{.path = mount->point, .name = *name};
  return Own{.path = fmt::format("{}{}", mount->point, below), .name = *name};
}

}  // namespace

Result<std::string> own_cgroup_path() {
  TRY_ASSIGN(auto own, find_own());
  return std::move(own.path);
}

Cgroup::Cgroup(std::string path, std::string name, UniqueFd fd)
    : path_(std::move(path)),
      name_(std::move(name)),
      fd_(std::move(fd)),
      events_(::openat(fd_.get(), "cgroup.events", O_RDONLY | O_CLOEXEC)),
      kill_(::openat(fd_.get(), "cgroup.kill", O_WRONLY | O_CLOEXEC)) {}

Cgroup::Cgroup(Cgroup&& other) noexcept
    : path_(std::exchange(other.path_, {})),
      name_(std::exchange(other.name_, {})),
      fd_(std::move(other.fd_)),
      events_(std::move(other.events_)),
      kill_(std::move(other.kill_)) {}

Cgroup& Cgroup::operator=(Cgroup&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(name_, other.name_);
  std::swap(fd_, other.fd_);
  std::swap(events_, other.events_);
  std::swap(kill_, other.kill_);
  return *this;
}

Cgroup::~Cgroup() {
  if (path_.empty()) return;
  if (Status removed = remove(); !removed) log::warn("{}", removed.error().message());
}

Result<Cgroup> Cgroup::create(std::string_view name) {
  TRY_ASSIGN(Own const own, find_own());
  std::string const safe = safe_name(name);
  std::string path = join(own.path, safe);
  TRY(make_folder(path));
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Cgroup cgroup(std::move(path), join(own.name, safe), std::move(fd));
  if (!cgroup.fd_ || !cgroup.events_) return fail(system_error("open cgroup", cgroup.path_));
  return cgroup;
}

std::vector<pid_t> Cgroup::members() const {
  std::vector<pid_t> pids;
  for (std::string const& folder : folders_below(path_)) {
    auto list = read_file(join(folder, "cgroup.procs"), kFileMax);
    if (!list) continue;  // removed meanwhile, or a threaded part, whose processes are above
    for (std::string_view line : split(*list, '\n')) {
      pid_t pid = 0;
      std::from_chars(line.data(), line.data() + line.size(), pid);
      if (pid > 0) pids.push_back(pid);  // 0: in a pid namespace that we cannot see
    }
  }
  std::ranges::sort(pids);
  auto const repeated = std::ranges::unique(pids);
  pids.erase(repeated.begin(), repeated.end());
  return pids;
}

bool Cgroup::contains(pid_t pid) const {
  auto const name = cgroup_name_of(std::to_string(pid));
  return name && (*name == name_ || name->starts_with(name_ + "/"));
}

bool Cgroup::populated() const {
  return has_event("populated 1");
}

bool Cgroup::is_frozen() const {
  return has_event("frozen 1");
}

bool Cgroup::has_event(std::string_view line) const {
  char text[256];
  ssize_t const count = ::pread(events_.get(), text, sizeof(text), 0);
  if (count <= 0) return false;  // removed
  std::string_view const events(text, static_cast<std::size_t>(count));
  return events.find(line) != std::string_view::npos;
}

Status Cgroup::kill() const {
  if (!kill_) return kill_one_by_one();
  if (::write(kill_.get(), "1", 1) != 1) return fail(system_error("kill cgroup", path_));
  return {};
}

Status Cgroup::kill_one_by_one() const {
  // Frozen processes cannot fork away, and can be killed (kernel: cgroup-v2.rst, cgroup.freeze).
  UniqueFd const freezer(::openat(fd_.get(), "cgroup.freeze", O_WRONLY | O_CLOEXEC));
  if (freezer && ::write(freezer.get(), "1", 1) != 1)
    log::debug("cgroup {} could not be frozen", path_);
  for (pid_t pid : members()) {
    auto const process = Child::adopt(pid);
    if (process && contains(pid)) TRY(process->signal(SIGKILL));
  }
  return {};
}

Status Cgroup::freeze(Frozen frozen) const {
  UniqueFd const freezer(::openat(fd_.get(), "cgroup.freeze", O_WRONLY | O_CLOEXEC));
  if (freezer && ::write(freezer.get(), frozen == Frozen::Yes ? "1" : "0", 1) == 1) return {};
  return fail(system_error("write to cgroup.freeze of", path_));
}

bool Cgroup::wait_empty(Duration patience) const {
  Instant const deadline = std::chrono::steady_clock::now() + patience;
  while (populated()) {
    auto const left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd change{.fd = events_.get(), .events = POLLPRI, .revents = 0};
    ::poll(&change, 1, static_cast<int>(left.count()));
  }
  return true;
}

Status Cgroup::remove() {
  TRY(remove_folders(path_));
  path_.clear();
  events_.reset();
  kill_.reset();
  fd_.reset();
  return {};
}

}  // namespace aether::os
