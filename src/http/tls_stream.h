// SPDX-License-Identifier: Apache-2.0
// Inside of this room: the client's side of one TLS connection over a Socket.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "async/task.h"
#include "http/socket.h"
#include "http/tls.h"

struct ssl_st;

namespace aether::http {

/// One task at a time. Faults are thrown.
class TlsStream {
 public:
  /// Both are borrowed.
  TlsStream(Socket& socket, TlsContext const& context, std::string host);

  /// ProtocolViolation if the certificate is not accepted, Unreachable if it fails otherwise.
  [[nodiscard]] async::Task<void> handshake();
  /// Appends what has arrived; 0 when the peer has said that it has ended. A connection that ends
  /// without that word was cut: Unreachable.
  [[nodiscard]] async::Task<std::size_t> read_some(std::string& buffer, std::size_t max);
  /// The bytes must outlive the call.
  [[nodiscard]] async::Task<void> write_all(std::string_view bytes);

 private:
  struct Free {
    void operator()(ssl_st* session) const;
  };
  /// Sends what OpenSSL has to say.
  async::Task<void> flush();
  /// Gives OpenSSL what the peer says. False: the connection has ended.
  async::Task<bool> fill();
  [[nodiscard]] Error fault(std::string_view doing) const;

  Socket& socket_;
  std::string host_;
  std::unique_ptr<ssl_st, Free> session_;
};

}  // namespace aether::http
