// SPDX-License-Identifier: Apache-2.0
#include "os/accepting.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <system_error>

#include <fmt/format.h>

#include "os/file.h"
#include "os/proc.h"

namespace aether::os {
namespace {

// Bounds on what a process can make us read: an epoll set of 100 000 descriptors, the most that
// poll and select take in practice.
constexpr std::size_t kFdinfoMax = std::size_t{16} * 1024 * 1024;
constexpr std::size_t kSyscallMax = 512;
constexpr std::uint64_t kPollEntriesMax = 64 * 1024;

/// A system call in which a thread is blocked (man 5 proc_pid_syscall).
struct BlockedCall {
  long number = -1;
  std::array<std::uint64_t, 6> arguments{};
};

/// What one look at a process found.
enum class Finding : std::uint8_t { Waits, DoesNotWait, Hidden };

template <class Number>
std::optional<Number> number_after(std::string_view text, std::string_view key, int base) {
  std::size_t const at = text.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  text.remove_prefix(at + key.size());
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  Number value{};
  if (std::from_chars(text.data(), text.data() + text.size(), value, base).ec != std::errc())
    return std::nullopt;
  return value;
}

/// True if an epoll set waits for input on the inode. Its fdinfo has a line a descriptor:
/// "tfd:        5 events:       19 data:        5  pos:0 ino:1a2b sdev:8" (man 5 proc_pid_fdinfo).
bool epoll_set_has(std::string_view fdinfo, std::uint64_t inode) {
  while (!fdinfo.empty()) {
    std::size_t const end = std::min(fdinfo.find('\n'), fdinfo.size());
    std::string_view const line = fdinfo.substr(0, end);
    fdinfo.remove_prefix(std::min(end + 1, fdinfo.size()));
    if (!line.starts_with("tfd:")) continue;
    auto const events = number_after<std::uint32_t>(line, "events:", 16);
    if (number_after<std::uint64_t>(line, "ino:", 16) == inode && events &&
        (*events & (EPOLLIN | EPOLLRDNORM)) != 0)
      return true;
  }
  return false;
}

std::optional<BlockedCall> parse_blocked_call(std::string_view line) {
  BlockedCall call;
  char const* at = line.data();
  char const* const end = line.data() + line.size();
  auto [after, error] = std::from_chars(at, end, call.number);
  if (error != std::errc() || call.number < 0) return std::nullopt;  // "running", or -1: none
  at = after;
  for (std::uint64_t& argument : call.arguments) {
    constexpr std::ptrdiff_t kSpaceAndPrefix = 3;  // " 0x"
    if (end - at < kSpaceAndPrefix) return std::nullopt;
    auto const parsed = std::from_chars(at + kSpaceAndPrefix, end, argument, 16);
    if (parsed.ec != std::errc()) return std::nullopt;
    at = parsed.ptr;
  }
  return call;
}

/// Copies memory of another process; fewer elements if that much cannot be read.
template <class Element>
std::vector<Element> read_memory(pid_t pid, std::uint64_t address, std::size_t count) {
  std::vector<Element> elements(count);
  iovec const ours{.iov_base = elements.data(), .iov_len = count * sizeof(Element)};
  // The address is the other process's: a number here.
  iovec const theirs{.iov_base = reinterpret_cast<void*>(address),  // NOLINT
                     .iov_len = ours.iov_len};
  ssize_t const got = ::process_vm_readv(pid, &ours, 1, &theirs, 1, 0);
  elements.resize(got > 0 ? static_cast<std::size_t>(got) / sizeof(Element) : 0);
  return elements;
}

bool polls(pid_t pid, BlockedCall const& call, std::vector<int> const& fds) {
  std::uint64_t const count = std::min(call.arguments[1], kPollEntriesMax);
  auto const entries = read_memory<pollfd>(pid, call.arguments[0], count);
  return std::ranges::any_of(entries, [&](pollfd const& entry) {
    return (entry.events & (POLLIN | POLLRDNORM)) != 0 && std::ranges::binary_search(fds, entry.fd);
  });
}

bool selects(pid_t pid, BlockedCall const& call, std::vector<int> const& fds) {
  constexpr std::uint64_t kBits = 8 * sizeof(unsigned long);
  std::uint64_t const end = std::min(call.arguments[0], kPollEntriesMax);
  auto const words = read_memory<unsigned long>(pid, call.arguments[1], (end + kBits - 1) / kBits);
  return std::ranges::any_of(fds, [&](int fd) {
    auto const bit = static_cast<std::uint64_t>(fd);
    return bit < end && bit / kBits < words.size() &&
           (words[bit / kBits] >> (bit % kBits) & 1UL) != 0;
  });
}

/// True if the call waits for input on one of the (sorted) descriptors.
bool waits_for(pid_t pid, BlockedCall const& call, std::vector<int> const& fds) {
  switch (call.number) {
    case SYS_accept:
    case SYS_accept4:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_read:
      return std::ranges::binary_search(fds, static_cast<int>(call.arguments[0]));
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
      return polls(pid, call, fds);
#ifdef SYS_select
    case SYS_select:
#endif
    case SYS_pselect6:
      return selects(pid, call, fds);
    default:
      return false;
  }
}

std::vector<pid_t> list_threads(pid_t pid) {
  std::vector<pid_t> threads;
  std::error_code ec;
  for (std::filesystem::directory_iterator entry(fmt::format("/proc/{}/task", pid), ec), end;
       !ec && entry != end; entry.increment(ec))
    threads.push_back(std::stoi(entry->path().filename()));
  return threads;
}

Finding look_at_threads(pid_t pid, std::vector<int> const& fds) {
  Finding finding = Finding::DoesNotWait;
  for (pid_t thread : list_threads(pid)) {
    auto const line = read_file(fmt::format("/proc/{}/task/{}/syscall", pid, thread), kSyscallMax);
    if (!line) {
      int const reason = line.error().errno_value();
      if (reason == EACCES || reason == EPERM) finding = Finding::Hidden;
      continue;
    }
    auto const call = parse_blocked_call(*line);
    if (call && waits_for(pid, *call, fds)) return Finding::Waits;
  }
  return finding;
}

Finding look_at_process(pid_t pid, std::uint64_t inode) {
  std::vector<int> const fds = list_fds(pid);
  if (fds.empty()) {
    auto const process = read_process(pid);
    return process && !process->ended() ? Finding::Hidden : Finding::DoesNotWait;
  }
  std::string const wanted = fmt::format("socket:[{}]", inode);
  std::vector<int> held;
  for (int fd : fds) {
    std::string const link = read_fd_link(pid, fd);
    if (link == wanted) held.push_back(fd);
    if (link != "anon_inode:[eventpoll]") continue;
    auto const fdinfo = read_file(fmt::format("/proc/{}/fdinfo/{}", pid, fd), kFdinfoMax);
    if (fdinfo && epoll_set_has(*fdinfo, inode)) return Finding::Waits;
  }
  return held.empty() ? Finding::DoesNotWait : look_at_threads(pid, held);
}

}  // namespace

Result<bool> is_accepting(std::span<pid_t const> tree, std::uint64_t socket_inode) {
  bool seen = false;
  bool hidden = false;
  for (pid_t pid : tree) {
    switch (look_at_process(pid, socket_inode)) {
      case Finding::Waits:
        return true;
      case Finding::DoesNotWait:
        seen = true;
        break;
      case Finding::Hidden:
        hidden = true;
        break;
    }
  }
  if (hidden && !seen)
    return fail(ErrorCode::Unsupported,
                "what the program waits for may not be looked at: it runs as another user, or this "
                "container lacks the right (CAP_SYS_PTRACE); name its readiness with ready:");
  return false;
}

Result<std::uint64_t> socket_inode(int socket) {
  struct stat status{};
  if (::fstat(socket, &status) != 0) return fail(system_error("fstat of a socket"));
  return static_cast<std::uint64_t>(status.st_ino);
}

}  // namespace aether::os
