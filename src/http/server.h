// SPDX-License-Identifier: Apache-2.0
// Server: HTTP/1.1 (and 1.0) on TCP and Unix sockets, for the control plane. It knows no routes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "async/task.h"
#include "base/result.h"
#include "base/time.h"
#include "http/limits.h"
#include "http/message.h"

namespace aether::http {

/// Answers one request. Runs as a task of its connection: many at once, one a connection. It is
/// cancelled when the client has hung up before the answer, and by stop() at its deadline; so it
/// only waits for what goes on without it (a reload must not depend on who watches). A client that
/// ended its sending side only still gets its answer. What it throws is logged and answered with
/// 500.
using Handler = std::function<async::Task<Response>(Request)>;

/// All on the loop's thread. Clients are hostile: all they send is bounded (limits.h); what the
/// server itself has to say (400, 408, 413, 431, 500, 501, 503, 505) is a problem+json body. When
/// there are as many connections as there may be, the one whose request has not come for longest
/// gives way, else the GET that has been answered for longest; 503 only if there is none. Half of
/// them may be endless streams.
class Server {
 public:
  Server(async::Executor executor, Limits limits, Handler handler);
  /// Checks that stop() was awaited, if it ever listened (unless the loop has ended).
  ~Server();
  Server(Server const&) = delete;
  Server& operator=(Server const&) = delete;

  /// Listens, and answers from the loop's next turn. May be called several times.
  /// @param host "" or "*" for all addresses (IPv6 and IPv4), an IP address, or "localhost"
  /// (127.0.0.1).
  /// @param port 0 for one that is free: see port().
  /// Errors: AddressInvalid, AddressInUse, ListenFailed.
  [[nodiscard]] Status listen_tcp(std::string_view host, std::uint16_t port);
  /// A socket that nobody but `mode` allows can connect to, from its birth. A socket file without a
  /// listener is replaced; one with a listener is AddressInUse, as is anything that is not a
  /// socket. The file is removed by stop().
  [[nodiscard]] Status listen_unix(std::string path, unsigned mode = 0600);

  /// Stops listening, closes idle connections, ends endless streams, lets requests in flight finish
  /// until the deadline, then cancels them.
  [[nodiscard]] async::Task<void> stop(Duration deadline);

  /// The first TCP listener's port; 0 without one.
  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] std::size_t connections() const;
  /// Connections that were answered 503 and closed because there were too many.
  [[nodiscard]] std::uint64_t turned_away() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace aether::http
