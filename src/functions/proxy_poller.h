// SPDX-License-Identifier: Apache-2.0
// Inside of this room: the gateway's own event loop: epoll, alarms, and work from other threads.
//
// Why not async::Loop: a request costs a handful of system calls here, and a coroutine's wait for
// each of them would cost more than the calls.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "os/unique_fd.h"

namespace aether::functions {

class Poller;

/// Something that the poller wakes. Wakes come one at a time and never inside of another one's, so
/// that nothing changes under anybody's feet.
class Watcher {
 public:
  explicit Watcher(Poller& poller) : poller_(poller) {}
  virtual ~Watcher();
  Watcher(Watcher const&) = delete;
  Watcher& operator=(Watcher const&) = delete;

  /// Something happened to one of its streams (once for all that happened in a turn), or it asked
  /// to be woken.
  virtual void woken() = 0;
  /// Its alarm went off.
  virtual void due() {}

  [[nodiscard]] Poller& poller() const { return poller_; }

 private:
  friend class Poller;
  Poller& poller_;
  bool queued_ = false;
  Instant alarm_ = Instant::max();
  Instant armed_ = Instant::max();  // of its entry among the alarms, which may be early
};

/// A descriptor's readiness, as the poller saw it change (edge-triggered).
struct Readiness {
  Watcher* watcher = nullptr;
  bool readable = false;  ///< Until a read says that there is no more.
  bool writable = false;
  bool peer_closed = false;  ///< The peer sends no more; bytes may still be there.
  bool broken = false;       ///< Both ways are closed, or it was reset.
};

class Poller {
 public:
  explicit Poller(Clock const& clock);
  ~Poller();
  Poller(Poller const&) = delete;
  Poller& operator=(Poller const&) = delete;

  /// Runs until stop(). On the thread that everything else but post() and stop() is called on.
  void run();
  /// Ends run() when it has done what was posted before. Thread-safe.
  void stop();
  /// Does it on the poller's thread, in order. Thread-safe. False: it has been stopped.
  bool post(std::function<void()> work);

  /// @param readiness Must stay where it is until unwatch().
  [[nodiscard]] Status watch(int fd, Readiness& readiness);
  void unwatch(int fd);

  /// Wakes it in the next turn, after others.
  void wake(Watcher& watcher);
  void set_alarm(Watcher& watcher, Instant when);
  void clear_alarm(Watcher& watcher) { watcher.alarm_ = Instant::max(); }
  /// Ends an object once nothing on the stack is inside of it.
  void bury(std::unique_ptr<Watcher> watcher) { dead_.push_back(std::move(watcher)); }

  [[nodiscard]] Clock const& clock() const { return clock_; }
  /// When this turn began.
  [[nodiscard]] Instant turn() const { return turn_; }

 private:
  friend class Watcher;
  void note(Readiness& readiness, std::uint32_t events);
  void run_posted();
  void ring_alarms();
  void wake_queued();
  [[nodiscard]] int wait_ms() const;

  Clock const& clock_;
  Instant turn_;
  os::UniqueFd epoll_;
  os::UniqueFd doorbell_;
  Readiness doorbell_readiness_;
  std::vector<Watcher*> queue_;
  std::vector<Watcher*> waking_;  // the queue of this turn
  std::set<std::pair<Instant, Watcher*>> alarms_;
  std::vector<std::unique_ptr<Watcher>> dead_;

  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
  bool stopped_ = false;
};

}  // namespace aether::functions
