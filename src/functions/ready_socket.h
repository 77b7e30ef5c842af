// SPDX-License-Identifier: Apache-2.0
// ReadySocket: AETHER_SOCKET of one function. A handler connects and sends the 5 bytes READY; who
// it is the kernel says (SO_PEERCRED). Copies of a handler connect anew and are told who they are.
// What hook libraries say besides is in handler_hooks.h. Loop thread only.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/event.h"
#include "async/task.h"
#include "async/task_group.h"
#include "base/result.h"
#include "base/time.h"
#include "os/unique_fd.h"

namespace aether::functions {

/// What a handler says, whole, in any number of pieces.
inline constexpr std::string_view kReadyWord = "READY";
/// Connections at once; a handler has one for life. One more is closed at once.
inline constexpr std::size_t kReadyConnectionsMax = 4096;

/// Judges what comes through one connection. Pure.
class ReadyWord {
 public:
  enum class Verdict : std::uint8_t { More, Ready, Nonsense };
  Verdict push(std::string_view bytes);
  /// What came after the word, at most 256 bytes of it.
  [[nodiscard]] std::string const& rest() const { return rest_; }

 private:
  std::size_t matched_ = 0;
  bool nonsense_ = false;
  std::string rest_;
};

class ReadySocket {
 public:
  using Ready = std::function<void(pid_t)>;
  /// The path is removed when this goes.
  [[nodiscard]] static Result<std::unique_ptr<ReadySocket>> open(async::Executor executor,
                                                                 std::string path, Ready ready);
  ~ReadySocket();
  ReadySocket(ReadySocket const&) = delete;
  ReadySocket& operator=(ReadySocket const&) = delete;

  [[nodiscard]] std::string const& path() const { return path_; }
  /// Whether that process is connected now.
  [[nodiscard]] bool has(pid_t pid) const { return peers_.contains(pid); }
  /// Whether it said that it has a hook: see handler_hooks.h.
  [[nodiscard]] bool has_hook(pid_t pid) const;
  /// Of our ends of its connections.
  [[nodiscard]] std::vector<std::uint64_t> inodes_of(pid_t pid) const;
  /// A connection of a process that was made without it: it was restored from an image.
  void add(pid_t pid, os::UniqueFd connection);
  /// Says a line to that process, if it is connected; it need not say READY from then on.
  void tell(pid_t pid, std::string_view line);
  /// Waits until it has answered OK. False: not in time, or it is not connected.
  [[nodiscard]] async::Task<bool> answered(pid_t pid, Duration limit);
  /// Must be awaited before destruction.
  [[nodiscard]] async::Task<void> close();

 private:
  struct Peer {
    os::UniqueFd fd;
    ReadyWord word;
    std::string answers;  ///< What it said since it was told something.
    bool told = false;
    bool judged = false;  ///< It is known to be ready, or to talk nonsense.
  };
  ReadySocket(async::Executor executor, std::string path, os::UniqueFd listener, Ready ready);
  async::Task<void> accept_all();
  enum class Accepted : std::uint8_t { One, None, Failed };
  Accepted accept_one();
  /// Until the peer closes; the connection stays in `peers_` only that long.
  async::Task<void> hear(pid_t pid, std::shared_ptr<Peer> peer);
  void take(pid_t pid, Peer& peer, std::string_view bytes);

  std::string path_;
  os::UniqueFd listener_;
  Ready ready_;
  std::multimap<pid_t, std::shared_ptr<Peer>> peers_;
  async::Event heard_;
  async::TaskGroup tasks_;
};

}  // namespace aether::functions
