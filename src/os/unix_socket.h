// SPDX-License-Identifier: Apache-2.0
// Unix sockets that carry descriptors and say who is on the other side. Addresses are paths, or
// abstract names written with a leading '@'. Every received descriptor is close-on-exec and owned.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "os/unique_fd.h"

namespace aether::os {

enum class UnixKind : std::uint8_t { Stream, Seqpacket, Datagram };
enum class Blocking : std::uint8_t { Yes, No };

/// The kernel takes at most this many descriptors in one message (SCM_MAX_FD, man 7 unix).
inline constexpr std::size_t kFdsPerMessageMax = 253;
/// sun_path without its closing NUL (man 7 unix).
inline constexpr std::size_t kUnixPathMax = 107;

/// Who the other side was when it connected (SO_PEERCRED), or sent (SCM_CREDENTIALS), in our
/// namespaces: pid 0 if it lives in one we cannot see.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  bool operator==(PeerCredentials const&) const = default;
};

/// Binds (and listens, unless Datagram), non-blocking. The file has `mode` from its first moment. A
/// file of that name is replaced only if it is a socket on which nobody listens: else AddressInUse.
/// A longer path than kUnixPathMax is AddressInvalid. The caller unlinks the path in the end.
[[nodiscard]] Result<UniqueFd> listen_unix(std::string const& path,
                                           UnixKind kind = UnixKind::Stream, mode_t mode = 0600,
                                           int backlog = 128);
/// Connects. Unreachable if nobody listens or the queue is full. Non-blocking afterwards if asked.
[[nodiscard]] Result<UniqueFd> connect_unix(std::string const& path,
                                            UnixKind kind = UnixKind::Stream,
                                            Blocking blocking = Blocking::No);
/// The next connection, non-blocking; nullopt if none waits. The listener must be non-blocking.
[[nodiscard]] Result<std::optional<UniqueFd>> accept_unix(int listener);
[[nodiscard]] Result<std::pair<UniqueFd, UniqueFd>> unix_pair(UnixKind kind = UnixKind::Stream,
                                                              Blocking blocking = Blocking::No);
/// True if somebody would get a connection (or a datagram) sent to the path now.
[[nodiscard]] bool is_listening(std::string const& path, UnixKind kind = UnixKind::Stream);

/// Sends bytes with at most kFdsPerMessageMax descriptors (borrowed). On a stream, descriptors need
/// at least one byte. Returns how many bytes were taken (the descriptors went with the first of
/// them), nullopt if the socket is full. Unreachable if the peer is gone; never SIGPIPE.
[[nodiscard]] Result<std::optional<std::size_t>> send_with_fds(int socket,
                                                               std::span<std::byte const> bytes,
                                                               std::span<int const> fds = {});
[[nodiscard]] Result<std::optional<std::size_t>> send_with_fds(int socket, std::string_view bytes,
                                                               std::span<int const> fds = {});

/// One message, or one piece of a stream.
struct Received {
  std::size_t bytes = 0;      ///< 0 on a stream: the peer has closed its side
  std::vector<UniqueFd> fds;  ///< what came along; empty if fds_truncated
  bool fds_truncated =
      false;  ///< more came than fds_max, or than our limit allows: all were closed
  bool bytes_truncated = false;           ///< a datagram was longer than the buffer
  std::optional<PeerCredentials> sender;  ///< if pass_credentials() was asked for
};
/// Receives into `buffer` with at most fds_max (<= kFdsPerMessageMax) descriptors; nullopt if
/// nothing waits. Unreachable if the peer reset the connection.
[[nodiscard]] Result<std::optional<Received>> receive_with_fds(int socket,
                                                               std::span<std::byte> buffer,
                                                               std::size_t fds_max = 0);
[[nodiscard]] Result<std::optional<Received>> receive_with_fds(int socket, std::span<char> buffer,
                                                               std::size_t fds_max = 0);

/// Asks the kernel to add the sender to every received message (SO_PASSCRED).
Status pass_credentials(int socket);
/// Who connected to, or listens on, the other side of a connected socket.
[[nodiscard]] Result<PeerCredentials> peer_credentials(int socket);

}  // namespace aether::os
