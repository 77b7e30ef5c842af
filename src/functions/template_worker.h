// SPDX-License-Identifier: Apache-2.0
// TemplateWorker: a clone::Template with the one thread that may speak to it: who traces a process
// is a thread, not a process (man 2 ptrace). Orders wait for each other there; the loop goes on.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/offload.h"
#include "async/task.h"
#include "base/result.h"
#include "base/time.h"
#include "os/cgroup.h"
#include "os/child.h"
#include "os/unique_fd.h"

namespace aether::functions {

/// A running copy, with all that belongs to it alone.
struct FreshCopy {
  os::Child child;
  std::optional<os::Cgroup> cgroup;  ///< Made for it; it lives in it if the kernel let it.
  os::UniqueFd stdout_pipe;          ///< Our ends.
  os::UniqueFd stderr_pipe;
  std::uint16_t port = 0;  ///< Of 127.0.0.1; 0: it has the original's listeners.
  int listener = -1;       ///< The number of the one at that port, in the copy.
  os::UniqueFd ready;      ///< Restored from an image: our end of its connection to AETHER_SOCKET.
};

/// A descriptor of ours that a copy has in place of the original's of that number.
struct LentDescriptor {
  int number = 0;
  int fd = -1;  ///< Borrowed until the copy is made.
};

/// Whether copies can be made here: tries it with a small program. Blocks for some milliseconds.
[[nodiscard]] Status try_copying();

class TemplateWorker {
 public:
  TemplateWorker();
  /// Lets the original die. Waits for the order that runs.
  ~TemplateWorker();
  TemplateWorker(TemplateWorker const&) = delete;
  TemplateWorker& operator=(TemplateWorker const&) = delete;

  /// Freezes our child, which is at rest. Copies connect to `ready_socket` anew if it is connected.
  /// Errors as clone::Template::freeze; Unsupported says why it cannot be copied.
  [[nodiscard]] async::Task<Status> freeze(pid_t pid, std::string ready_socket);
  /// A copy that listens on a port of its own in place of `port` (as the original sees it); none:
  /// its listeners are the original's. Timeout over the patience.
  [[nodiscard]] async::Task<Result<FreshCopy>> copy(std::optional<std::uint16_t> port,
                                                    std::string group, Duration patience,
                                                    std::vector<LentDescriptor> lent = {});
  /// False: the original was killed. After this its end is told to whoever waits for it.
  [[nodiscard]] async::Task<bool> lives();
  /// The original dies. Nothing may be asked of it any more.
  [[nodiscard]] async::Task<void> drop();

  /// Whether every thread of a process waits for something at this moment: the time to freeze it.
  [[nodiscard]] static bool is_at_rest(pid_t pid);

 private:
  struct State;
  std::shared_ptr<State> state_;
  async::ThreadPool thread_;
};

}  // namespace aether::functions
