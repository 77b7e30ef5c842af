// SPDX-License-Identifier: Apache-2.0
// Does a program that inherited a listening socket wait for connections on it yet? That is how an
// ordinary server that knows no readiness protocol shows that it is ready. Seen from outside: the
// socket is in an epoll set, or a thread is blocked on it in accept, poll, select or recv.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace aether::os {

/// True if a thread of one of these processes waits for the socket with this inode (fstat's st_ino,
/// N of "socket:[N]"), or keeps it in an epoll set. Processes that end meanwhile are passed over.
/// Unsupported if none of them may be inspected (/proc/PID/fd needs the same user, or root).
[[nodiscard]] Result<bool> is_accepting(std::span<pid_t const> tree, std::uint64_t socket_inode);

/// A listening socket that a process holds.
struct ListeningSocket {
  pid_t pid = 0;
  std::uint64_t inode = 0;
  std::string address;  ///< "127.0.0.1:8080", "[::]:80", "unix:/run/x.sock", "unix:@name"
};
/// The listening TCP and unix stream sockets that the processes hold, each once.
[[nodiscard]] Result<std::vector<ListeningSocket>> listening_sockets(std::span<pid_t const> tree);
/// True if there is any.
[[nodiscard]] Result<bool> listens(std::span<pid_t const> tree);

/// The inode of our own socket, for is_accepting. `socket` is borrowed.
[[nodiscard]] Result<std::uint64_t> socket_inode(int socket);

}  // namespace aether::os
