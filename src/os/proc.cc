// SPDX-License-Identifier: Apache-2.0
#include "os/proc.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

#include <fmt/format.h>

#include "os/file.h"

namespace aether::os {
namespace {

constexpr std::size_t kStatMax = 4096;
constexpr std::size_t kStatusMax = 64 * 1024;
// The kernel bounds arguments and environment together by a quarter of the stack limit, 6 MiB at
// most (man 2 execve).
constexpr std::size_t kEnvironMax = std::size_t{8} * 1024 * 1024;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

template <class Number>
std::optional<Number> parse_number(std::string_view text, int base = 10) {
  Number value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The names in a folder that are whole numbers.
std::optional<std::vector<int>> list_numbers(std::string const& path) {
  Folder folder(::opendir(path.c_str()));
  if (!folder) return std::nullopt;
  std::vector<int> numbers;
  while (dirent const* entry = ::readdir(folder.get())) {
    if (auto number = parse_number<int>(entry->d_name)) numbers.push_back(*number);
  }
  std::ranges::sort(numbers);
  return numbers;
}

std::string_view next_field(std::string_view& rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(" \n"), rest.size()));
  std::string_view field = rest.substr(0, rest.find_first_of(" \n"));
  rest.remove_prefix(field.size());
  return field;
}

std::optional<std::uint64_t> status_mask(std::string_view status, std::string_view key) {
  std::size_t at = status.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = status.substr(at + key.size());
  rest = rest.substr(0, rest.find('\n'));
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  return parse_number<std::uint64_t>(rest, 16);
}

}  // namespace

std::optional<ProcessInfo> parse_stat(std::string_view line) {
  // The name may hold spaces and parentheses: it ends at the last ')' (man 5 proc_pid_stat).
  std::size_t open = line.find('(');
  std::size_t close = line.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open)
    return std::nullopt;
  std::string_view head = line.substr(0, open);
  auto pid = parse_number<pid_t>(next_field(head));
  if (!pid) return std::nullopt;

  std::string_view rest = line.substr(close + 1);
  constexpr std::size_t kFirstField = 3;  // `state`, as the manual counts
  std::array<std::string_view, 25> fields{};
  for (std::size_t i = kFirstField; i < fields.size(); ++i) fields[i] = next_field(rest);
  auto parent = parse_number<pid_t>(fields[4]);
  auto group = parse_number<pid_t>(fields[5]);
  auto session = parse_number<pid_t>(fields[6]);
  auto start = parse_number<std::uint64_t>(fields[22]);
  auto rss_pages = parse_number<std::uint64_t>(fields[24]);
  if (fields[3].size() != 1 || !parent || !group || !session || !start || !rss_pages)
    return std::nullopt;
  static auto const page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return ProcessInfo{.pid = *pid,
                     .comm = std::string(line.substr(open + 1, close - open - 1)),
                     .state = fields[3][0],
                     .parent = *parent,
                     .group = *group,
                     .session = *session,
                     .start_ticks = *start,
                     .rss_bytes = *rss_pages * page};
}

std::optional<ProcessInfo> read_process(pid_t pid) {
  auto line = read_file(fmt::format("/proc/{}/stat", pid), kStatMax);
  return line ? parse_stat(*line) : std::nullopt;
}

Result<std::vector<pid_t>> list_pids() {
  auto pids = list_numbers("/proc");
  if (!pids || pids->empty())
    return fail(ErrorCode::Unsupported, "/proc is not mounted: processes cannot be seen", errno);
  return std::move(*pids);
}

Result<std::vector<ProcessInfo>> read_all_processes() {
  TRY_ASSIGN(std::vector<pid_t> const pids, list_pids());
  std::vector<ProcessInfo> all;
  all.reserve(pids.size());
  for (pid_t pid : pids) {
    if (auto process = read_process(pid)) all.push_back(std::move(*process));
  }
  return all;
}

std::optional<pid_t> read_parent(pid_t pid) {
  auto process = read_process(pid);
  if (!process) return std::nullopt;
  return process->parent;
}

std::optional<std::uint64_t> read_start_ticks(pid_t pid) {
  auto process = read_process(pid);
  if (!process) return std::nullopt;
  return process->start_ticks;
}

std::string read_comm(pid_t pid) {
  auto process = read_process(pid);
  return process ? std::move(process->comm) : std::string();
}

bool has_environment(pid_t pid, std::string_view entry) {
  auto environment = read_file(fmt::format("/proc/{}/environ", pid), kEnvironMax);
  if (!environment) return false;
  std::string_view rest = *environment;
  while (!rest.empty()) {
    std::size_t end = std::min(rest.find('\0'), rest.size());
    if (rest.substr(0, end) == entry) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

std::vector<int> list_fds(pid_t pid) {
  return list_numbers(fmt::format("/proc/{}/fd", pid)).value_or(std::vector<int>());
}

std::string read_fd_link(pid_t pid, int fd) {
  std::array<char, 4096> target{};
  std::string path = fmt::format("/proc/{}/fd/{}", pid, fd);
  ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : std::string();
}

std::optional<std::uint64_t> read_network_namespace(pid_t pid) {
  struct stat status{};
  if (::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &status) != 0) return std::nullopt;
  return static_cast<std::uint64_t>(status.st_ino);
}

std::uint64_t read_rss_bytes(pid_t pid) {
  auto process = read_process(pid);
  return process ? process->rss_bytes : 0;
}

std::size_t count_own_fds() {
  std::size_t listed = list_fds(::getpid()).size();
  return listed > 0 ? listed - 1 : 0;  // one was the folder being read
}

std::optional<Disposition> read_disposition(pid_t pid, int signal) {
  auto status = read_file(fmt::format("/proc/{}/status", pid), kStatusMax);
  if (!status || signal < 1 || signal > 64) return std::nullopt;
  auto ignored = status_mask(*status, "\nSigIgn:");
  auto caught = status_mask(*status, "\nSigCgt:");
  if (!ignored || !caught) return std::nullopt;
  std::uint64_t bit = std::uint64_t{1} << (signal - 1);
  if ((*caught & bit) != 0) return Disposition::Handled;
  return (*ignored & bit) != 0 ? Disposition::Ignored : Disposition::Default;
}

bool default_action_ends(int signal) {
  switch (signal) {
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
    case SIGCONT:
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
      return false;
    default:
      return true;
  }
}

}  // namespace aether::os
