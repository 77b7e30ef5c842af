// SPDX-License-Identifier: Apache-2.0
// Every limit of the gateway, with its reason. Tests lower them through the struct.
#pragma once
#include <chrono>
#include <cstddef>

#include "base/time.h"

namespace aether::functions {

/// Read from a socket at once, and so the most that is held of a body for a receiver that is slower
/// than its sender: once in each direction of a request.
inline constexpr std::size_t kPieceBytes = 64 * 1024;
/// Forwarded for one request before others have their turn.
inline constexpr std::size_t kTurnBytes = 512 * 1024;
/// Bytes of a handler's answer before its body: it may set many cookies. More is a 502.
inline constexpr std::size_t kAnswerHeadBytesMax = 64 * 1024;
/// Connections accepted before others have their turn.
inline constexpr int kAcceptsPerTurn = 64;
/// A burst waits in the kernel while the thread is busy. The kernel lowers it to
/// net.core.somaxconn.
inline constexpr int kGatewayBacklog = 16384;
/// Connections kept to one instance for the next requests.
inline constexpr std::size_t kKeptConnectionsMax = 256;
/// Changes of what instances do are told to the owner so often, and not with each request.
inline constexpr Duration kBusyInterval = std::chrono::milliseconds(10);

/// What one Gateway allows.
struct GatewayLimits {
  /// Bytes of a request before its body; more is answered 431. Browsers and proxies stay below
  /// 8 KiB.
  std::size_t head_bytes = 16 * 1024;
  /// Clients of one function. When they are that many, the one that has kept us waiting longest for
  /// its next request gives way; one costs about 1 KiB and an fd.
  std::size_t clients = 16 * 1024;
  /// From the first byte of a request to the end of its head: cuts slow-loris clients.
  Duration head_timeout = std::chrono::seconds(10);
  /// Between two requests of a connection, and before its first.
  Duration idle_timeout = std::chrono::seconds(60);
  /// A client that takes no byte of an answer for so long is gone.
  Duration stall_timeout = std::chrono::seconds(60);
  /// After an answer that came before the request's end: how long, and how much, to read on, so
  /// that the client sees the answer, not a reset.
  Duration linger_timeout = std::chrono::seconds(2);
  std::size_t linger_bytes = 4 * 1024 * 1024;
  /// A kept connection to an instance that is used for no request.
  Duration kept_timeout = std::chrono::seconds(60);
  /// An instance has closed the connection without an answer: how long to wait for the word of why
  /// (its memory limit, its signal), which the request is then told.
  Duration cause_timeout = std::chrono::milliseconds(500);
  /// After EMFILE and its like: the pause before the next accept.
  Duration accept_pause = std::chrono::milliseconds(100);
};

}  // namespace aether::functions
