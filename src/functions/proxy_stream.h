// SPDX-License-Identifier: Apache-2.0
// Inside of this room: a connected socket on the poller, with what its peer has not taken yet.
#pragma once
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "functions/proxy_poller.h"

namespace aether::functions {

/// Non-blocking. Closed when it is destroyed.
class Stream {
 public:
  enum class Io : std::uint8_t {
    Some,     ///< Bytes came, or all bytes were sent or kept.
    Blocked,  ///< Nothing now: its watcher is woken when there is.
    End,      ///< The peer sends no more.
    Broken,   ///< Reset, or the like.
  };
  struct Got {
    Io io = Io::Blocked;
    std::size_t bytes = 0;
  };

  explicit Stream(Poller& poller) : poller_(poller) {}
  ~Stream() { close(); }
  Stream(Stream const&) = delete;
  Stream& operator=(Stream const&) = delete;

  /// Takes a socket, connected or connecting.
  [[nodiscard]] Status open(os::UniqueFd fd, Watcher& watcher);
  void watch_by(Watcher& watcher) { readiness_.watcher = &watcher; }
  void close();
  /// The peer sees a reset, not an end.
  void reset();
  [[nodiscard]] bool is_open() const { return static_cast<bool>(fd_); }
  [[nodiscard]] int fd() const { return fd_.get(); }

  [[nodiscard]] bool readable() const { return readiness_.readable; }
  [[nodiscard]] Got read(std::span<char> into);
  /// Bytes may be there that the poller has not been told of yet.
  void look_again() { readiness_.readable = true; }
  [[nodiscard]] bool peer_closed() const { return readiness_.peer_closed; }
  [[nodiscard]] bool broken() const { return readiness_.broken; }

  /// Sends the pieces in this order; what the kernel does not take now is kept. Nothing more should
  /// be sent while kept() is not empty.
  Io send(std::initializer_list<std::string_view> pieces);
  /// As send(), but if the kernel takes nothing now, nothing is kept either: Blocked.
  Io offer(std::initializer_list<std::string_view> pieces);
  /// Sends what is kept.
  Io flush();
  [[nodiscard]] std::size_t kept() const { return kept_.size() - sent_; }
  /// No write will succeed any more; reads may.
  [[nodiscard]] bool cannot_send() const { return cannot_send_; }
  /// An end for the peer, behind what is kept.
  void shut_writes();
  /// Bytes that the kernel took, ever.
  [[nodiscard]] std::uint64_t bytes_sent() const { return bytes_sent_; }
  /// The kernel's reason for the last Broken; 0 if there was none.
  [[nodiscard]] int error() const { return error_; }

 private:
  Io failed();
  void keep(std::initializer_list<std::string_view> pieces, std::size_t taken);
  void end_writes();

  Poller& poller_;
  os::UniqueFd fd_;
  Readiness readiness_;
  std::string kept_;
  std::size_t sent_ = 0;  // of what is kept
  std::uint64_t bytes_sent_ = 0;
  int error_ = 0;
  bool cannot_send_ = false;
  bool shut_ = false;
};

}  // namespace aether::functions
