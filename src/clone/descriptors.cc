// SPDX-License-Identifier: Apache-2.0
#include "clone/descriptors.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

#include "clone/unix_peers.h"
#include "os/file.h"
#include "os/proc.h"
#include "os/unique_fd.h"

namespace aether::clone {
namespace {

/// An epoll of 100 000 descriptors has about 80 bytes for each.
constexpr std::size_t kFdinfoBytesMax = std::size_t{16} * 1024 * 1024;

std::string_view trimmed(std::string_view text) {
  auto const first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

template <class T>
T number_in(std::string_view text, int base) {
  T value{};
  text = trimmed(text);
  std::from_chars(text.data(), text.data() + text.size(), value, base);
  return value;
}

/// Calls `line(key, value)` for each "key: value" of fdinfo.
template <class F>
void each_line(std::string_view text, F line) {
  while (!text.empty()) {
    auto const end = text.find('\n');
    auto const one = text.substr(0, end);
    if (auto const colon = one.find(':'); colon != std::string_view::npos) {
      line(trimmed(one.substr(0, colon)), one.substr(colon + 1));
    }
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

/// The word behind `key` in "tfd: 5 events: 19 data: ff pos:0"; its line is from "5 events" on.
std::string_view word_after(std::string_view line, std::string_view key) {
  auto const at = line.find(key);
  if (at == std::string_view::npos) return {};
  auto rest = trimmed(line.substr(at + key.size()));
  return rest.substr(0, rest.find_first_of(" \t"));
}

EpollInstance::Target epoll_target(std::string_view line) {
  auto const number = trimmed(line);
  return {.descriptor = number_in<int>(number.substr(0, number.find(' ')), 10),
          .events = number_in<std::uint32_t>(word_after(line, "events:"), 16),
          .data = number_in<std::uint64_t>(word_after(line, "data:"), 16)};
}

/// "(12, 500)" as seconds and nanoseconds.
void read_time(std::string_view text, std::int64_t& seconds, std::int64_t& nanoseconds) {
  auto const open = text.find('(');
  auto const comma = text.find(',');
  if (open == std::string_view::npos || comma == std::string_view::npos) return;
  seconds = number_in<std::int64_t>(text.substr(open + 1, comma - open - 1), 10);
  nanoseconds = number_in<std::int64_t>(text.substr(comma + 1, text.find(')') - comma - 1), 10);
}

EpollInstance parse_epoll(std::string_view fdinfo) {
  EpollInstance epoll;
  each_line(fdinfo, [&](std::string_view key, std::string_view value) {
    if (key == "tfd") epoll.targets.push_back(epoll_target(value));
  });
  return epoll;
}

EventCounter parse_event(std::string_view fdinfo) {
  EventCounter event;
  each_line(fdinfo, [&](std::string_view key, std::string_view value) {
    if (key == "eventfd-count") event.count = number_in<std::uint64_t>(value, 16);
    if (key == "eventfd-id") event.id = number_in<std::uint64_t>(value, 10);
    if (key == "eventfd-semaphore") event.semaphore = number_in<int>(value, 10) != 0;
  });
  return event;
}

TimerDescriptor parse_timer(std::string_view fdinfo) {
  TimerDescriptor timer;
  each_line(fdinfo, [&](std::string_view key, std::string_view value) {
    if (key == "clockid") timer.clock = number_in<int>(value, 10);
    if (key == "ticks") timer.ticks = number_in<std::uint64_t>(value, 10);
    if (key == "settime flags") timer.set_flags = number_in<int>(value, 8);
    if (key == "it_value") read_time(value, timer.value_s, timer.value_ns);
    if (key == "it_interval") read_time(value, timer.interval_s, timer.interval_ns);
  });
  return timer;
}

SignalDescriptor parse_signals(std::string_view fdinfo) {
  SignalDescriptor signals;
  each_line(fdinfo, [&](std::string_view key, std::string_view value) {
    if (key == "sigmask") signals.mask = number_in<std::uint64_t>(value, 16);
  });
  return signals;
}

DescriptorKind anonymous_kind(std::string_view what, std::string_view fdinfo) {
  if (what == "[eventpoll]") return parse_epoll(fdinfo);
  if (what == "[eventfd]") return parse_event(fdinfo);
  if (what == "[timerfd]") return parse_timer(fdinfo);
  if (what == "[signalfd]") return parse_signals(fdinfo);
  if (what == "[pidfd]") return Shareable{};
  if (what == "inotify") return Uncopyable{"an inotify instance, whose watches cannot be read"};
  return Uncopyable{fmt::format("of a kind that cannot be copied, {}", what)};
}

DescriptorKind kind_of(std::string_view link, std::uint32_t flags, std::uint64_t position,
                       std::string_view fdinfo) {
  constexpr std::string_view kAnonymous = "anon_inode:";
  if (link.starts_with(kAnonymous)) return anonymous_kind(link.substr(kAnonymous.size()), fdinfo);
  if (link.starts_with("pipe:[")) {
    return PipeEnd{.inode = number_in<std::uint64_t>(link.substr(6), 10),
                   .writes = (flags & O_ACCMODE) != O_RDONLY};
  }
  if (link.starts_with("pidfd:") || link.starts_with("socket:[") || link.starts_with("/dev/")) {
    return Shareable{};
  }
  return RegularFile{.position = position};
}

// ---- What only the open file itself can say ---------------------------------------------------

template <class T>
T socket_option(int fd, int name) {
  T value{};
  socklen_t size = sizeof value;
  getsockopt(fd, SOL_SOCKET, name, &value, &size);
  return value;
}

std::uint64_t waiting_bytes(int fd) {
  int bytes = 0;
  return ioctl(fd, FIONREAD, &bytes) == 0 ? static_cast<std::uint64_t>(bytes) : 0;
}

/// What waits in a pipe, which keeps it (man 2 tee).
Result<std::string> unread_bytes(int pipe) {
  if (waiting_bytes(pipe) == 0) return std::string{};
  std::array<int, 2> ends{-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return fail(system_error("pipe2"));
  os::UniqueFd const out(ends[0]);
  os::UniqueFd const in(ends[1]);
  if (tee(pipe, in.get(), kUnreadBytesMax + 1, SPLICE_F_NONBLOCK) < 0) {
    return fail(system_error("tee", "a pipe of the process"));
  }
  std::string bytes(kUnreadBytesMax + 1, '\0');
  auto const size = read(out.get(), bytes.data(), bytes.size());
  if (size < 0) return fail(system_error("read", "a pipe of the process"));
  bytes.resize(static_cast<std::size_t>(size));
  return bytes;
}

std::uint64_t inode_of(int fd) {
  struct stat status{};
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

std::string path_of_peer(int fd) {
  sockaddr_un address{};
  socklen_t size = sizeof address;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  auto const used = size - offsetof(sockaddr_un, sun_path);
  if (size <= offsetof(sockaddr_un, sun_path)) return {};
  std::string path(address.sun_path, used);
  if (path[0] == '\0') return "@" + path.substr(1);
  return path.substr(0, path.find('\0'));
}

bool is_hung_up(int fd) {
  pollfd question{.fd = fd, .events = 0, .revents = 0};
  return poll(&question, 1, 0) == 1 && (question.revents & POLLHUP) != 0;
}

DescriptorKind socket_kind(int fd, UnixPeers const& peers) {
  auto const domain = socket_option<int>(fd, SO_DOMAIN);
  auto const type = socket_option<int>(fd, SO_TYPE);
  if (socket_option<int>(fd, SO_ACCEPTCONN) != 0) {
    if (domain != AF_INET && domain != AF_INET6) return Shareable{};
    return read_tcp_listener(fd, inode_of(fd));
  }
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  auto const connected = getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  if (!connected) return Shareable{};
  // What the other side has left stays so for all who hold it: Java keeps such a one to put in the
  // place of sockets that it closes.
  if (is_hung_up(fd)) return Shareable{};
  if (domain != AF_UNIX) return Uncopyable{"a connection to another program over the network"};
  auto const inode = inode_of(fd);
  return UnixConnection{.inode = inode,
                        .type = type,
                        .peer = peers.peer_of(inode),
                        .peer_path = path_of_peer(fd),
                        .waiting = waiting_bytes(fd)};
}

DescriptorKind file_kind(int fd, RegularFile const& file) {
  struct stat status{};
  if (fstat(fd, &status) != 0) return Uncopyable{"a file that cannot be looked at"};
  if (S_ISREG(status.st_mode)) return file;
  if (S_ISFIFO(status.st_mode)) return Shareable{};
  return Shareable{};
}

/// Completes what fdinfo cannot tell, through a duplicate of the open file.
Status look_inside(Descriptor& descriptor, int pidfd, UnixPeers const& peers) {
  auto const is_socket = descriptor.link.starts_with("socket:[");
  auto* const pipe = std::get_if<PipeEnd>(&descriptor.kind);
  auto* const file = std::get_if<RegularFile>(&descriptor.kind);
  if (std::holds_alternative<Uncopyable>(descriptor.kind)) return {};
  if (!is_socket && pipe == nullptr && file == nullptr) return {};
  if ((descriptor.flags & O_PATH) != 0) {
    descriptor.kind = Shareable{};
    return {};
  }
  os::UniqueFd const duplicate(
      static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, descriptor.number, 0)));
  if (!duplicate) {
    return fail(system_error("pidfd_getfd", fmt::format("descriptor {}", descriptor.number)));
  }
  if (is_socket) descriptor.kind = socket_kind(duplicate.get(), peers);
  if (pipe != nullptr && !pipe->writes) {
    TRY_ASSIGN(pipe->unread, unread_bytes(duplicate.get()));
  }
  if (file != nullptr) descriptor.kind = file_kind(duplicate.get(), *file);
  return {};
}

/// Whether a copy gets one of its own that is known by nothing but its number.
bool is_known_by_number(DescriptorKind const& kind) {
  return std::holds_alternative<RegularFile>(kind) || std::holds_alternative<EpollInstance>(kind) ||
         std::holds_alternative<TimerDescriptor>(kind) ||
         std::holds_alternative<SignalDescriptor>(kind);
}

/// Which numbers refer to one open file (man 2 kcmp). Where the kernel cannot tell, each is taken
/// for itself.
void find_duplicates(pid_t pid, std::vector<Descriptor>& table) {
  for (auto it = table.begin(); it != table.end(); ++it) {
    if (!is_known_by_number(it->kind)) continue;
    auto const first = std::find_if(table.begin(), it, [&](Descriptor const& other) {
      return other.same_as < 0 && other.link == it->link && is_known_by_number(other.kind) &&
             syscall(SYS_kcmp, pid, pid, KCMP_FILE, other.number, it->number) == 0;
    });
    if (first != it) it->same_as = first->number;
  }
}

}  // namespace

bool Descriptor::close_on_exec() const {
  return (flags & O_CLOEXEC) != 0;
}

Descriptor parse_descriptor(int number, std::string link, std::string_view fdinfo) {
  std::uint32_t flags = 0;
  std::uint64_t position = 0;
  bool locked = false;
  each_line(fdinfo, [&](std::string_view key, std::string_view value) {
    if (key == "flags") flags = number_in<std::uint32_t>(value, 8);
    if (key == "pos") position = number_in<std::uint64_t>(value, 10);
    if (key == "lock") locked = true;
  });
  auto kind = kind_of(link, flags, position, fdinfo);
  if ((flags & O_ASYNC) != 0) kind = Uncopyable{"a file that sends signals (O_ASYNC)"};
  if (locked) kind = Uncopyable{fmt::format("a locked file, {}", link)};
  return {.number = number, .flags = flags, .link = std::move(link), .kind = std::move(kind)};
}

std::vector<int> free_numbers(std::vector<Descriptor> const& table, int taken, std::size_t count) {
  std::vector<int> found;
  for (int number = 0; found.size() < count; ++number) {
    if (number == taken) continue;
    if (std::ranges::find(table, number, &Descriptor::number) == table.end()) {
      found.push_back(number);
    }
  }
  return found;
}

Result<std::vector<Descriptor>> read_descriptors(pid_t pid, int pidfd) {
  TRY_ASSIGN(auto const peers, UnixPeers::read());
  std::vector<Descriptor> table;
  for (auto const number : os::list_fds(pid)) {
    TRY_ASSIGN(auto const fdinfo,
               os::read_file(fmt::format("/proc/{}/fdinfo/{}", pid, number), kFdinfoBytesMax));
    auto descriptor = parse_descriptor(number, os::read_fd_link(pid, number), fdinfo);
    TRY(look_inside(descriptor, pidfd, peers));
    table.push_back(std::move(descriptor));
  }
  find_duplicates(pid, table);
  return table;
}

}  // namespace aether::clone
