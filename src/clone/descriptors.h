// SPDX-License-Identifier: Apache-2.0
// What a process has open, told apart by what a copy of the process would share with it. After
// fork() both refer to the same open file descriptions: one epoll, one eventfd counter, one file
// position (man 2 fork). Which of them a copy must have for itself is decided from this table.
//
// Source of the formats: Documentation/filesystems/proc.rst, "/proc/<pid>/fdinfo/<fd>".
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "clone/tcp_listener.h"

namespace aether::clone {

/// Of a pipe's content, as much is put into a copy's pipe. libuv keeps one byte in one, as a lock.
inline constexpr std::size_t kUnreadBytesMax = 4096;

/// Nothing in it belongs to one process: devices, folders, unconnected datagram sockets.
struct Shareable {};
struct RegularFile {
  std::uint64_t position = 0;
};
struct PipeEnd {
  std::uint64_t inode = 0;
  bool writes = false;
  std::string unread = {};  ///< What was written and not read, up to kUnreadBytesMax and one more.
};
struct EventCounter {
  std::uint64_t id = 0;  ///< The same in each duplicate.
  std::uint64_t count = 0;
  bool semaphore = false;
};
struct EpollInstance {
  struct Target {
    int descriptor = 0;
    std::uint32_t events = 0;
    std::uint64_t data = 0;
    bool operator==(Target const&) const = default;
  };
  std::vector<Target> targets;
};
struct TimerDescriptor {
  int clock = 0;
  int set_flags = 0;
  std::uint64_t ticks = 0;  ///< Expirations that nobody has read.
  std::int64_t value_s = 0, value_ns = 0;
  std::int64_t interval_s = 0, interval_ns = 0;
};
struct SignalDescriptor {
  std::uint64_t mask = 0;
};
/// One side of a connected unix socket.
struct UnixConnection {
  std::uint64_t inode = 0;
  int type = 0;            ///< SOCK_STREAM, ...
  std::uint64_t peer = 0;  ///< The other side's inode, 0 if unknown.
  std::string peer_path;   ///< Where the other side listens; empty for a pair.
  std::uint64_t waiting = 0;
};
/// What no copy can have; the reason is a half sentence that follows "descriptor 7 is ".
struct Uncopyable {
  std::string reason;
};

using DescriptorKind =
    std::variant<Shareable, RegularFile, PipeEnd, EventCounter, EpollInstance, TimerDescriptor,
                 SignalDescriptor, UnixConnection, TcpListener, Uncopyable>;

struct Descriptor {
  int number = 0;
  std::uint32_t flags = 0;  ///< O_NONBLOCK, O_APPEND, ... and O_CLOEXEC as in fdinfo.
  std::string link;         ///< "/dev/null", "pipe:[123]", "anon_inode:[eventpoll]"
  DescriptorKind kind;
  /// The lowest number that refers to the same open file, where that cannot be told from the kind:
  /// of files, epolls, timers and signal descriptors. -1: this one.
  int same_as = -1;

  [[nodiscard]] bool close_on_exec() const;
};

/// Flags, position and what else /proc/PID/fdinfo/FD says of this kind of file. Pure.
[[nodiscard]] Descriptor parse_descriptor(int number, std::string link, std::string_view fdinfo);

/// The lowest numbers that a process with this table, and `taken`, would get for what it opens.
/// Pure.
[[nodiscard]] std::vector<int> free_numbers(std::vector<Descriptor> const& table, int taken,
                                            std::size_t count);

/// All of them, by number. `pidfd` is the process's; the caller may trace it. The process stands
/// still.
[[nodiscard]] Result<std::vector<Descriptor>> read_descriptors(pid_t pid, int pidfd);

}  // namespace aether::clone
