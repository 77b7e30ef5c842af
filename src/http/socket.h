// SPDX-License-Identifier: Apache-2.0
// Inside of this room: a stream socket on the loop.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include <boost/asio/generic/stream_protocol.hpp>

#include "async/task.h"
#include "base/time.h"
#include "os/unique_fd.h"

namespace aether::http {

/// Owns a non-blocking socket. One task may read while another writes. Faults are thrown:
/// Unreachable when the peer has reset the connection.
class Socket {
 public:
  Socket(async::Executor const& executor, os::UniqueFd fd);

  /// Appends what has arrived, at most `max` bytes; waits if nothing has. 0: the peer has closed
  /// its side. The buffer must outlive the call.
  [[nodiscard]] async::Task<std::size_t> read_some(std::string& buffer, std::size_t max);
  /// Writes all of it; Timeout if the peer takes nothing for `stall`. The bytes must outlive the
  /// call.
  [[nodiscard]] async::Task<void> write_all(std::string_view bytes, Duration stall);
  /// Waits until connect() has come to its end; what it came to (0 or an errno).
  [[nodiscard]] async::Task<int> finish_connect();

  /// For a listener: waits for a connection.
  [[nodiscard]] async::Task<void> wait_readable();
  /// Waits until the peer has hung up: both directions are over (Unix), or it was reset. A peer
  /// that only ended its sending side has not; one on TCP that has closed shows only when the
  /// kernel has asked it (keep-alive probes).
  [[nodiscard]] async::Task<void> wait_hang_up();
  /// Borrowed.
  [[nodiscard]] int fd();

  /// Reads end from now on, once what has arrived is read.
  void shut_reads() noexcept;
  /// The peer sees our end; we can still read.
  void shut_writes() noexcept;
  /// The peer will see a reset, not an end, when this socket is closed.
  void reset_when_closed() noexcept;

 private:
  [[nodiscard]] async::Task<void> wait_writable();

  boost::asio::generic::stream_protocol::socket socket_;
};

}  // namespace aether::http
