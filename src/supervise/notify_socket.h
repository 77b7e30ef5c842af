// SPDX-License-Identifier: Apache-2.0
// NotifySocket: the datagram socket that one instance talks to (NOTIFY_SOCKET). One socket an
// instance, so that a word is always the right instance's, even if its sender is dead already.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "os/unique_fd.h"
#include "os/unix_socket.h"
#include "supervise/notify_message.h"

namespace aether::supervise {

class NotifySocket {
 public:
  struct Counts {
    std::uint64_t messages = 0;
    std::uint64_t dropped = 0;   ///< Too long, or from somebody who may not speak here.
    std::uint64_t fds_lost = 0;  ///< Messages whose descriptors the kernel could not give us.
  };
  /// Whether a sender may speak. Its process may have ended already; pid 0: it cannot be seen.
  using Judge = std::function<bool(os::PeerCredentials const&)>;
  /// Takes a message with the descriptors that came along, in any state but closed.
  using Sink = std::function<void(NotifyMessage const&, std::vector<os::UniqueFd>&)>;

  /// Binds `path` (at most 107 bytes; AddressInvalid). `speaker` is the user the child runs as, if
  /// not ours: the file becomes its. A child of root's may become any user (su, setpriv): then
  /// everybody may send who may enter the folder, and drain() asks who may speak.
  static Result<NotifySocket> open(std::string path, std::optional<uid_t> speaker);
  NotifySocket(NotifySocket&& other) noexcept;
  NotifySocket& operator=(NotifySocket&&) = delete;
  ~NotifySocket();  ///< Unlinks the path.

  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] std::string const& path() const { return path_; }
  [[nodiscard]] Counts const& counts() const { return counts_; }

  /// Takes what waits, at most `messages_max`, in order; never blocks. Descriptors that came along
  /// and that `sink` has left are closed when it has returned from all before them: that is what
  /// BARRIER=1 asks for, whoever sends it.
  /// False: there was nothing (more) to take.
  bool drain(std::size_t messages_max, Judge const& may_speak, Sink const& sink);

 private:
  NotifySocket(std::string path, os::UniqueFd socket);

  std::string path_;
  os::UniqueFd socket_;
  std::vector<char> buffer_;
  Counts counts_;
};

}  // namespace aether::supervise
