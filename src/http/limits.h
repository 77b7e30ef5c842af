// SPDX-License-Identifier: Apache-2.0
// Every limit of the server and the client, with its reason. Tests lower them through the struct.
#pragma once
#include <chrono>
#include <cstddef>

#include "base/time.h"

namespace aether::http {

/// Bytes of a request line with its headers; more is answered 431. Browsers and proxies stay below
/// 8 KiB.
inline constexpr std::size_t kHeaderBytesMax = 16 * 1024;
/// Bytes of a request body; more is answered 413. The API takes configuration and small documents
/// only.
inline constexpr std::size_t kBodyBytesMax = 1024 * 1024;
/// Connections of one server at once. The next one takes the place of one that can be done
/// without (see Server); it is answered 503 and closed if there is none. One costs about 20 KiB and
/// an fd.
inline constexpr std::size_t kConnectionsMax = 1024;
/// From the first byte of a request (or from accept) to the end of its headers: cuts slow-loris
/// clients.
inline constexpr Duration kHeaderTimeout = std::chrono::seconds(10);
/// For the whole body of a request: 1 MiB in this time is 35 KiB/s.
inline constexpr Duration kBodyTimeout = std::chrono::seconds(30);
/// Between two requests of a keep-alive connection.
inline constexpr Duration kIdleTimeout = std::chrono::seconds(60);
/// A client that takes no byte of a response for so long is gone.
inline constexpr Duration kWriteStallTimeout = std::chrono::seconds(30);
/// After an error answer: how long, and how much, to read on, so that the client sees the answer,
/// not a reset.
inline constexpr Duration kLingerTimeout = std::chrono::seconds(2);
inline constexpr std::size_t kLingerBytesMax = 4 * 1024 * 1024;
/// After EMFILE and its like: the pause before the next accept.
inline constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

/// Bytes of a response's headers that the client takes; a server we probe is not trusted either.
inline constexpr std::size_t kClientHeaderBytesMax = 64 * 1024;
/// Bytes of a response body that fetch() takes whole.
inline constexpr std::size_t kClientBodyBytesMax = 64 * 1024 * 1024;

/// What one Server allows.
struct Limits {
  std::size_t header_bytes = kHeaderBytesMax;
  std::size_t body_bytes = kBodyBytesMax;
  std::size_t connections = kConnectionsMax;
  Duration header_timeout = kHeaderTimeout;
  Duration body_timeout = kBodyTimeout;
  Duration idle_timeout = kIdleTimeout;
  Duration write_stall_timeout = kWriteStallTimeout;
};

}  // namespace aether::http
