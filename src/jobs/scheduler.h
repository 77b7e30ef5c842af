// SPDX-License-Identifier: Apache-2.0
// Scheduler: which run is worked on next, and until when. A pure machine: what happened goes in,
// what is to be done comes out of poll(); no clock, no journal, no randomness.
//
// Fair at two levels: between queues by weight, and within a queue between namespaces equally; a
// run's priority counts among the runs of its namespace in its queue. Who waits for a concurrency
// key waits beside the queue, and stops nobody.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/time.h"
#include "jobs/ids.h"

namespace aether::jobs {

struct ReadyRun {
  RunId run;
  std::string space;
  std::string queue;
  int priority = 0;  ///< Higher first.
  WallTime since;    ///< Among equals the one that waits longest is first.
  std::string concurrency_key;
  int concurrency_limit = 1;
  std::string
      worker{};  ///< Whose workers may begin it (an agent's name); empty: the engine itself.
};

struct SchedulerLimits {
  int concurrency = 64;
  Duration lease = std::chrono::seconds(30);
};

// What is to be done.
struct BeginRun {
  ReadyRun run;
  WallTime lease_until;
  bool operator==(BeginRun const& other) const { return run.run == other.run.run; }
};
struct WakeRun {  ///< Its time has come.
  RunId run;
  WallTime at;
  bool operator==(WakeRun const&) const = default;
};
struct RenewLease {
  RunId run;
  WallTime until;
  bool operator==(RenewLease const&) const = default;
};
struct ReclaimRun {  ///< Its lease ended and was not renewed.
  RunId run;
  std::uint64_t fence = 0;  ///< What its holder held; whoever is next holds more.
  bool operator==(ReclaimRun const&) const = default;
};
using ScheduleAction = std::variant<BeginRun, WakeRun, RenewLease, ReclaimRun>;

/// A queue's share beside the others that have work: realtime 16, default 4, background 2, heavy 1;
/// any other name 4.
[[nodiscard]] std::uint64_t queue_weight(std::string_view queue);

class Scheduler {
 public:
  explicit Scheduler(SchedulerLimits limits) : limits_(limits) {}

  /// The run wants to be worked on. Known already as waiting or leased: nothing changes, but who
  /// may begin it.
  void offer(ReadyRun run);
  /// The run wants nothing any more: it is not begun, and not woken.
  void forget(RunId const& run);
  /// To be woken at that time; an earlier appointment of the run is replaced.
  void wake_at(RunId const& run, WallTime at);
  /// It is worked on with this fence. False if the fence is not higher than any it had before.
  [[nodiscard]] bool leased(RunId const& run, std::uint64_t fence);
  /// The lease goes on. False: it has ended, or is held with another fence.
  [[nodiscard]] bool renew(RunId const& run, std::uint64_t fence, WallTime until);
  /// A run that is worked on has a place whether there is room or not: its lease had ended by the
  /// clock alone.
  void adopt(ReadyRun const& run, std::uint64_t fence, WallTime until);
  /// The lease is given back: the place, and the concurrency key, are free.
  void release(RunId const& run);
  /// Nothing is begun while it is held.
  void hold(bool held) { held_ = held; }

  /// A run for a worker of the agent, leased as by poll(). It takes no place of the engine's own.
  /// @param spaces The only namespaces that it may be of; empty: any.
  [[nodiscard]] std::optional<BeginRun> claim(std::string_view worker,
                                              std::vector<std::string> const& spaces, WallTime now);

  /// Everything that is to be done now. Timers first, in the order of their times.
  [[nodiscard]] std::vector<ScheduleAction> poll(WallTime now);
  /// When poll() has something to do at the latest, if nothing happens before.
  [[nodiscard]] std::optional<WallTime> next() const;

  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  /// How many leases are the engine's own.
  [[nodiscard]] std::size_t own_leases() const { return own_leases_; }
  /// Those that wait, by who may begin them: an agent's name; empty: the engine itself.
  [[nodiscard]] std::map<std::string, std::vector<RunId>> waiting_by_worker() const;
  [[nodiscard]] std::size_t leases() const { return leases_.size(); }
  [[nodiscard]] std::size_t timers() const { return times_.size(); }
  [[nodiscard]] bool is_leased(RunId const& run) const { return leases_.contains(run.text); }

 private:
  struct Place {  ///< In a lane: the order in which its runs begin.
    int priority;
    WallTime since;
    std::string run;
    bool operator<(Place const& other) const;
  };
  using Lane = std::set<Place>;
  struct Space {
    std::uint64_t pass = 0;
    Lane lane;
  };
  struct Queue {
    std::uint64_t pass = 0;
    std::uint64_t space_pass = 0;
    std::map<std::string, Space, std::less<>> spaces;
  };
  struct Lease {
    std::uint64_t fence = 0;
    WallTime until;
    bool renewal_asked = false;
    bool is_own = true;  ///< Not of a worker.
    std::string concurrency_key;
  };
  using QueueName = std::pair<std::string, std::string>;  ///< Of the worker, and the queue.
  struct Key {
    int running = 0;
    Lane waiting;
  };

  static Place place_of(ReadyRun const& run);
  void enqueue(ReadyRun const& run);
  void dequeue(ReadyRun const& run);
  void leave(ReadyRun const& run);
  void free_key(std::string const& key);
  [[nodiscard]] std::optional<ReadyRun> pick(std::string_view worker,
                                             std::vector<std::string> const& spaces);
  [[nodiscard]] BeginRun lease(ReadyRun run, WallTime now);
  bool take_key(ReadyRun const& run);
  void begin_runs(WallTime now, std::vector<ScheduleAction>& actions);
  void watch_leases(WallTime now, std::vector<ScheduleAction>& actions);

  SchedulerLimits limits_;
  bool held_ = false;
  std::uint64_t pass_ = 0;
  std::map<QueueName, Queue> queues_;
  std::unordered_map<std::string, ReadyRun> waiting_;
  std::map<std::string, Key, std::less<>> keys_;
  std::unordered_map<std::string, Lease> leases_;
  std::size_t own_leases_ = 0;
  std::set<std::pair<WallTime, std::string>> lease_times_;
  std::set<std::pair<WallTime, std::string>> timers_;
  std::unordered_map<std::string, WallTime> times_;
};

}  // namespace aether::jobs
