// SPDX-License-Identifier: Apache-2.0
// A small HTTP client, for the command line and for health probes. One connection a request.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "async/task.h"
#include "base/time.h"
#include "http/message.h"
#include "http/url.h"

namespace aether::http {

/// Where to connect: a Unix socket if `unix_path` is not empty.
struct Endpoint {
  std::string
      host;  ///< An IP address or "localhost" (127.0.0.1, then ::1): names are not looked up.
  std::uint16_t port = 80;
  std::string unix_path;
  /// If set, called with each TCP socket before it is connected.
  std::function<void(int socket)> before_connect = {};

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

}  // namespace aether::http
