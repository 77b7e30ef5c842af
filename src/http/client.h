// SPDX-License-Identifier: Apache-2.0
// A small HTTP client, for the command line, for health probes, and for tools that must know how
// far a request came. One connection a request.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "async/task.h"
#include "base/time.h"
#include "http/limits.h"
#include "http/message.h"
#include "http/url.h"

namespace aether::http {

class TlsContext;

/// Where to connect: a Unix socket if `unix_path` is not empty.
struct Endpoint {
  std::string
      host;  ///< An IP address or "localhost" (127.0.0.1, then ::1): names are not looked up.
  std::uint16_t port = 80;
  std::string unix_path;
  /// If set, called with each TCP socket before it is connected.
  std::function<void(int socket)> before_connect = {};
  /// IP addresses of `host`, looked up by the caller; tried in order.
  std::vector<std::string> addresses = {};

  [[nodiscard]] static Endpoint tcp(std::string host, std::uint16_t port) {
    return {.host = std::move(host), .port = port, .unix_path = {}};
  }
  [[nodiscard]] static Endpoint unix_socket(std::string path) {
    return {.host = {}, .port = 0, .unix_path = std::move(path)};
  }
  [[nodiscard]] static Endpoint of(Url const& url) { return tcp(url.host, url.port); }
  /// "127.0.0.1:8080", "unix:/run/x.sock": for messages.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string host_header() const;
};

/// The whole response, whatever its status. Redirects are not followed.
/// Throws Error: Unreachable (nobody listens; names the endpoint), Timeout (all of it took longer
/// than the deadline), ProtocolViolation (not HTTP, or cut off), LimitReached (a body over
/// kClientBodyBytesMax), AddressInvalid (a host name that would have to be looked up),
/// RequestInvalid (a method, target or header that cannot be sent).
[[nodiscard]] async::Task<Response> fetch(Endpoint endpoint, Request request, Duration deadline);

/// Takes a piece of the body as it arrives. May wait: the server is slowed down then.
using ChunkSink = std::function<async::Task<void>(std::string chunk)>;

/// As fetch, but the body of a 2xx response goes to the sink piece by piece, without a deadline or
/// a limit of size; `deadline` holds until its headers are there. Other statuses are returned
/// whole, as fetch does. Cancel the task to end it early. What the sink throws is thrown on.
[[nodiscard]] async::Task<Response> fetch_stream(Endpoint endpoint, Request request,
                                                 Duration deadline, ChunkSink on_chunk);

/// How far a request came: known also when fetch() threw, or was cancelled.
struct FetchTrail {
  bool sent = false;  ///< Bytes of the request may have left: before that, nothing was done there.
  bool cut = false;   ///< The body was longer than allowed; only its beginning is here.
};

/// What becomes of a body longer than body_bytes_max.
enum class TooLong : std::uint8_t { Refuse, Cut };

struct FetchOptions {
  Duration deadline{};  ///< Of all of it, the body included.
  std::size_t body_bytes_max = kClientBodyBytesMax;
  TooLong too_long = TooLong::Refuse;
  /// Set: the connection is encrypted, and the certificate must be the endpoint's host's. Borrowed.
  TlsContext const* tls = nullptr;
  /// Set: takes the body of a 2xx response, piece by piece; body_bytes_max holds all the same.
  ChunkSink on_chunk = {};
  /// Called when all of the request was handed to the kernel. What it throws ends the fetch.
  std::function<void()> on_sent = {};
  FetchTrail* trail = nullptr;  ///< Filled as it goes. Borrowed.
};

/// As fetch. A handshake that fails is thrown before anything counts as sent: Unreachable, or
/// ProtocolViolation if the certificate is not accepted.
[[nodiscard]] async::Task<Response> fetch(Endpoint endpoint, Request request, FetchOptions options);

}  // namespace aether::http
