// SPDX-License-Identifier: Apache-2.0
// FdStore: descriptors that a service leaves with Aether (FDSTORE=1, man 3
// sd_pid_notify_with_fds), so that its next instance gets them back, even after SIGKILL. It belongs
// to the service and outlives its instances. Nothing is ever read from or written to what is
// stored. Loop thread only.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "async/task_group.h"
#include "os/unique_fd.h"

namespace aether::supervise {

/// The name of a descriptor that came without FDNAME= (systemd's).
inline constexpr std::string_view kStoredFdName = "stored";

/// Closes a descriptor that a child sent. A socket with SO_LINGER set would keep us waiting in
/// close(), for as long as the child has chosen: it lingers no more.
void close_received(os::UniqueFd fd);

class FdStore {
 public:
  /// One descriptor, borrowed until the store changes.
  struct Stored {
    std::string name;
    int fd = -1;
  };
  struct Counts {
    std::uint64_t refused = 0;  ///< Closed because the store was full.
    std::uint64_t hung_up = 0;  ///< Taken out because the other side had gone.
  };
  enum class Kept : std::uint8_t { Yes, Known, Full };
  /// Whether a hang-up (EPOLLHUP, EPOLLERR) takes a descriptor out.
  enum class Watched : std::uint8_t { Yes, No };

  /// `tasks` watches for hang-ups, and is stopped before this goes. `service` is for the log.
  FdStore(async::TaskGroup& tasks, std::string service, std::size_t max);
  FdStore(FdStore const&) = delete;
  FdStore& operator=(FdStore const&) = delete;
  ~FdStore();

  /// Keeps a descriptor, unless the store has it already (the same open file, man 2 kcmp) or is
  /// full: then it is closed. `name` is as is_fd_name() takes it.
  Kept keep(os::UniqueFd fd, std::string name, Watched watched);
  /// Closes all of that name. How many they were.
  std::size_t remove(std::string_view name);
  void clear();
  /// What is over a smaller limit stays.
  void set_max(std::size_t max) { max_ = max; }

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] std::size_t max() const { return max_; }
  /// In the order in which they came.
  [[nodiscard]] std::vector<Stored> stored() const;
  [[nodiscard]] Counts const& counts() const { return counts_; }

 private:
  struct Entry {
    os::UniqueFd fd;
    std::string name;
    dev_t device = 0;
    ino_t inode = 0;
    bool watched = false;
  };
  [[nodiscard]] bool is_known(int fd, dev_t device, ino_t inode) const;
  /// False: it has no hang-ups that could be waited for (a regular file).
  bool watch(int fd);
  void drop(std::list<Entry>::iterator entry);
  void drop_hung_up();
  async::Task<void> watch_hang_ups();

  async::TaskGroup& tasks_;
  std::string service_;
  std::size_t max_;
  std::list<Entry> entries_;
  os::UniqueFd epoll_;  ///< All that are watched; readable when one of them hangs up.
  Counts counts_;
};

}  // namespace aether::supervise
