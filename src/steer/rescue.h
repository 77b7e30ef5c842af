// SPDX-License-Identifier: Apache-2.0
// Rescue: what waits in the queue of a revision that died, carried to the one that serves.
//
// Closing a listener resets the connections in its accept queue, unless the kernel moves them
// (net.ipv4.tcp_migrate_req=1, TCP only). Otherwise Aether accepts them itself, connects once more
// to the listener's address, where the steered lane answers, and copies bytes both ways until both
// sides are done. The program sees Aether's own address as the client's. Descriptors sent over a
// unix stream travel along. Datagrams are forwarded on unix sockets, and counted as lost on UDP,
// where the answer could not find its way back.
//
// Only for lanes of which no process lives: the lane is set to non-blocking mode, which everyone
// who holds it sees. Thread: the loop's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "async/task.h"
#include "base/address.h"
#include "base/ids.h"
#include "base/time.h"
#include "os/unique_fd.h"
#include "steer/listener.h"

namespace aether::steer {

struct RescueLimits {
  /// Connections carried at a time; each takes four fds while it is idle. No more than an eighth of
  /// RLIMIT_NOFILE in any case. The others wait in the dead lane's queue, where they were.
  std::size_t connections_max = 1024;
  /// A queue that stayed empty for so long stays empty: handshakes that were half done when
  /// steering moved away have come in.
  Duration settle = std::chrono::milliseconds(100);
  /// For emptying one queue.
  Duration drain_deadline = std::chrono::seconds(10);
  /// For the second connection of each.
  Duration connect_deadline = std::chrono::seconds(5);
  /// What a client may still send after the program has ended its side, which may have been a
  /// close: whether it was only shutdown() cannot be seen from here.
  Duration half_closed_deadline = std::chrono::seconds(10);
  /// What is carried was left by nobody who died, and is not told.
  bool is_routine = false;
};

struct RescueReport {
  std::uint64_t taken = 0;       ///< Connections (or datagrams) taken out of the dead queue.
  std::uint64_t carried = 0;     ///< Of these, brought to the serving revision so far.
  std::uint64_t lost = 0;        ///< Of these, reset or dropped.
  bool moved_by_kernel = false;  ///< Nothing was taken: the kernel moved what waited.
  bool deadline_passed = false;  ///< The queue was not empty in the end.
};

/// One for each service; outlives its listeners' retirements. The owner must `co_await stop()`.
class Rescue {
 public:
  /// Whether a lane is still nobody's. None: it is.
  using IsDead = std::function<bool()>;
  explicit Rescue(async::Executor executor, RescueLimits limits = {});
  ~Rescue();
  Rescue(Rescue const&) = delete;
  Rescue& operator=(Rescue const&) = delete;

  /// Takes all that waits in `lane` (owned) and starts to carry it to `target`. Returns when the
  /// queue has settled; carrying goes on behind. `carried` and `lost` are complete in totals()
  /// only. Ends early when `is_dead` says no: the lane gets new connections again, and what is
  /// carried to the address would come back to it without end.
  [[nodiscard]] async::Task<RescueReport> drain(os::UniqueFd lane, Address target,
                                                IsDead is_dead = {});
  /// Sums over all drains.
  [[nodiscard]] RescueReport totals() const;
  /// Connections being carried now.
  [[nodiscard]] std::size_t open_connections() const;
  /// Cuts what is being carried.
  [[nodiscard]] async::Task<void> stop(Duration deadline);

  struct State;

 private:
  std::shared_ptr<State> state_;
};

/// Retires a revision of which no process lives, without losing what waits in its lane: lets the
/// kernel move it, or drains it with `rescue`. Call steer_to() another revision before; if that
/// one's program does not accept yet, what is carried waits in its queue. A revision that is
/// steered to again meanwhile keeps its lane. Throws Error (RequestInvalid if the revision is
/// steered to at the call). `group` and `rescue` must outlive the call.
[[nodiscard]] async::Task<RescueReport> retire_lane(ListenerGroup& group, RevisionId revision,
                                                    Rescue& rescue);

}  // namespace aether::steer
