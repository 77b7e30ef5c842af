// SPDX-License-Identifier: Apache-2.0
#include "steer/connections.h"

#include <algorithm>
#include <charconv>
#include <sstream>
#include <string_view>
#include <unordered_set>

#include "os/file.h"
#include "os/proc.h"
#include "steer/sock_diag.h"

namespace aether::steer {
namespace {

using Inodes = std::unordered_set<std::uint64_t>;

/// /proc/net/unix has about 60 bytes a socket.
constexpr std::size_t kProcNetUnixBytesMax = std::size_t{16} << 20U;
/// SS_CONNECTED of linux/net.h, as the list writes it.
constexpr std::string_view kConnected = "03";

Status add_tcp(std::span<std::uint16_t const> ports, Inodes& into) {
  for (std::uint16_t const port : ports) {
    TRY_ASSIGN(auto const sockets, connections_on_port(port));
    for (BoundSocket const& socket : sockets)
      if (socket.inode != 0) into.insert(socket.inode);
  }
  return {};
}

Status add_unix(std::span<std::string const> names, Inodes& into) {
  if (names.empty()) return {};
  TRY_ASSIGN(std::string const list, os::read_file("/proc/net/unix", kProcNetUnixBytesMax));
  std::istringstream lines(list);
  for (std::string line; std::getline(lines, line);) {
    // Num RefCount Protocol Flags Type St Inode Path
    std::istringstream fields(line);
    std::string skipped;
    std::string state;
    std::string path;
    std::uint64_t inode = 0;
    for (int i = 0; i < 5; ++i) fields >> skipped;
    fields >> state >> inode >> std::ws;
    std::getline(fields, path);
    bool const ours = state == kConnected && std::ranges::find(names, path) != names.end();
    if (ours) into.insert(inode);
  }
  return {};
}

/// The inode of "socket:[123]"; 0 if it is no socket.
std::uint64_t socket_of(std::string_view link) {
  constexpr std::string_view kPrefix = "socket:[";
  if (!link.starts_with(kPrefix)) return 0;
  std::uint64_t inode = 0;
  std::from_chars(link.data() + kPrefix.size(), link.data() + link.size(), inode);
  return inode;
}

}  // namespace

Result<std::size_t> count_connections(AcceptedFrom const& from, std::span<pid_t const> processes) {
  Inodes open;
  TRY(add_tcp(from.tcp_ports, open));
  TRY(add_unix(from.unix_names, open));
  if (open.empty() || processes.empty()) return std::size_t{0};
  bool saw = false;
  Inodes held;
  for (pid_t const pid : processes) {
    for (int const fd : os::list_fds(pid)) {
      saw = true;
      std::uint64_t const inode = socket_of(os::read_fd_link(pid, fd));
      if (open.contains(inode)) held.insert(inode);
    }
  }
  if (saw) return held.size();
  return fail(ErrorCode::Unsupported,
              "the descriptors of the program cannot be seen in /proc, so its connections cannot "
              "be counted");
}

}  // namespace aether::steer
