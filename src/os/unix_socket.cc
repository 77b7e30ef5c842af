// SPDX-License-Identifier: Apache-2.0
#include "os/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

namespace aether::os {
namespace {

struct UnixAddress {
  sockaddr_un address{};
  socklen_t length = 0;
  [[nodiscard]] sockaddr const* get() const { return reinterpret_cast<sockaddr const*>(&address); }
};

/// A failed system call under the code that callers branch on.
Failure fault(ErrorCode code, Error const& cause) {
  return fail(code, cause.message(), cause.errno_value());
}

bool is_abstract(std::string_view path) {
  return path.starts_with('@');
}

Result<UnixAddress> unix_address(std::string const& path) {
  if (path.empty() || path == "@")
    return fail(ErrorCode::AddressInvalid, "the path of a unix socket is empty");
  if (path.find('\0') != std::string::npos)
    return fail(ErrorCode::AddressInvalid, "the path of a unix socket contains a NUL byte");
  if (path.size() > kUnixPathMax)
    return fail(ErrorCode::AddressInvalid,
                fmt::format("the path of a unix socket has {} bytes, the kernel takes {}: {}",
                            path.size(), kUnixPathMax, path));
  UnixAddress result;
  result.address.sun_family = AF_UNIX;
  std::ranges::copy(path, result.address.sun_path);
  std::size_t length = offsetof(sockaddr_un, sun_path) + path.size();
  if (is_abstract(path)) {
    result.address.sun_path[0] = '\0';
  } else {
    length += 1;  // with the closing NUL
  }
  result.length = static_cast<socklen_t>(length);
  return result;
}

int type_of(UnixKind kind) {
  switch (kind) {
    case UnixKind::Stream:
      return SOCK_STREAM;
    case UnixKind::Seqpacket:
      return SOCK_SEQPACKET;
    case UnixKind::Datagram:
      break;
  }
  return SOCK_DGRAM;
}

Result<UniqueFd> new_socket(UnixKind kind) {
  UniqueFd socket(::socket(AF_UNIX, type_of(kind) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail(system_error("socket(AF_UNIX)"));
  return socket;
}

Status make_blocking(int fd) {
  int const flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
    return fail(system_error("make a socket blocking"));
  return {};
}

bool is_socket_file(std::string const& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
}

/// Binds; a socket file that a dead program left behind makes room.
Status bind_socket(int socket, UnixAddress const& address, std::string const& path, UnixKind kind) {
  if (::bind(socket, address.get(), address.length) == 0) return {};
  if (errno != EADDRINUSE)
    return fault(ErrorCode::ListenFailed, system_error("bind unix socket", path));
  if (is_abstract(path) || is_listening(path, kind))
    return fail(ErrorCode::AddressInUse,
                fmt::format("another program listens on the unix socket {}", path), EADDRINUSE);
  if (!is_socket_file(path))
    return fail(
        ErrorCode::AddressInUse,
        fmt::format("{} exists and is not a socket: move it away, or choose another path", path),
        EADDRINUSE);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return fault(ErrorCode::ListenFailed, system_error("remove the stale socket", path));
  if (::bind(socket, address.get(), address.length) == 0) return {};
  return fault(ErrorCode::ListenFailed, system_error("bind unix socket", path));
}

}  // namespace

Result<UniqueFd> listen_unix(std::string const& path, UnixKind kind, mode_t mode, int backlog) {
  TRY_ASSIGN(UnixAddress const address, unix_address(path));
  TRY_ASSIGN(UniqueFd socket, new_socket(kind));
  // The file takes the socket's mode, less the umask, when bind makes it: it is never wider than
  // asked, not even for a moment. What the umask took is given back afterwards.
  if (::fchmod(socket.get(), mode) != 0) return fail(system_error("fchmod of a socket"));
  TRY(bind_socket(socket.get(), address, path, kind));
  if (!is_abstract(path) && ::chmod(path.c_str(), mode) != 0)
    return fault(ErrorCode::ListenFailed, system_error("chmod", path));
  if (kind != UnixKind::Datagram && ::listen(socket.get(), backlog) != 0)
    return fault(ErrorCode::ListenFailed, system_error("listen on", path));
  return socket;
}

Result<UniqueFd> connect_unix(std::string const& path, UnixKind kind, Blocking blocking) {
  TRY_ASSIGN(UnixAddress const address, unix_address(path));
  TRY_ASSIGN(UniqueFd socket, new_socket(kind));
  // Non-blocking: with a full queue a blocking connect would wait without a deadline.
  if (::connect(socket.get(), address.get(), address.length) != 0)
    return fault(ErrorCode::Unreachable, system_error("connect to unix socket", path));
  if (blocking == Blocking::Yes) TRY(make_blocking(socket.get()));
  return socket;
}

bool is_listening(std::string const& path, UnixKind kind) {
  auto const socket = connect_unix(path, kind);
  if (socket) return true;
  int const reason = socket.error().errno_value();
  // A full queue, a socket of another kind, or one that we may not use: somebody has it.
  return reason == EAGAIN || reason == EPROTOTYPE || (reason == EACCES && is_socket_file(path));
}

Result<std::optional<UniqueFd>> accept_unix(int listener) {
  while (true) {
    UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) return socket;
    if (errno == EAGAIN) return std::nullopt;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    bool const exhausted = errno == EMFILE || errno == ENFILE;
    return fault(exhausted ? ErrorCode::LimitReached : ErrorCode::SystemCall,
                 system_error("accept on a unix socket"));
  }
}

Result<std::pair<UniqueFd, UniqueFd>> unix_pair(UnixKind kind, Blocking blocking) {
  int const flags = SOCK_CLOEXEC | (blocking == Blocking::No ? SOCK_NONBLOCK : 0);
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, type_of(kind) | flags, 0, ends) != 0)
    return fail(system_error("socketpair"));
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Status pass_credentials(int socket) {
  int const on = 1;
  if (::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0)
    return fail(system_error("setsockopt SO_PASSCRED"));
  return {};
}

Result<PeerCredentials> peer_credentials(int socket) {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return fail(system_error("getsockopt SO_PEERCRED"));
  return PeerCredentials{.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
}

}  // namespace aether::os
