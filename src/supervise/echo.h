// SPDX-License-Identifier: Apache-2.0
// Echo: shows the children's lines on Aether's own stdout (`aether up` in the foreground), and
// Aether's own log on its stderr. A terminal or pipe that is not read (^S, `| less`) must stop
// neither Aether nor a child: what it does not take in time is dropped, counted, and told when it
// goes on. Loop thread only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "async/event.h"
#include "async/task_group.h"
#include "base/ids.h"
#include "os/unique_fd.h"

namespace aether::supervise {

/// Bytes that wait to be shown; beyond it lines are dropped.
inline constexpr std::size_t kEchoBytesMax = std::size_t{1024} * 1024;

class Echo {
 public:
  /// `fd` is borrowed, and its O_NONBLOCK (shared with whoever has the terminal too) is not
  /// touched.
  Echo(async::Executor executor, int fd);
  Echo(Echo const&) = delete;
  Echo& operator=(Echo const&) = delete;

  /// Shows "[service rN] text". Never waits.
  void line(std::string_view service, RevisionId revision, std::string_view text);
  /// Shows whole lines as they are, now if possible. Never waits.
  void text(std::string_view lines);
  /// Must be awaited before destruction: shows what is taken within `patience`.
  [[nodiscard]] async::Task<void> stop(Duration patience);
  [[nodiscard]] std::uint64_t lines_dropped() const { return dropped_; }

 private:
  enum class Kind : std::uint8_t { Socket, NonBlocking, Asked, Plain };
  async::Task<void> show();
  [[nodiscard]] bool has_room_for(std::size_t bytes);
  /// False: it takes no more now.
  bool flush();
  [[nodiscard]] ssize_t write_some(std::string_view bytes) const;

  int fd_;
  os::UniqueFd own_;  ///< The same pipe or terminal, opened once more for ourselves.
  Kind kind_ = Kind::Plain;
  std::string pending_;
  std::uint64_t dropped_ = 0;
  std::uint64_t dropped_told_ = 0;
  bool broken_ = false;
  async::Event grown_;
  async::Event empty_;
  async::TaskGroup tasks_;
};

}  // namespace aether::supervise
