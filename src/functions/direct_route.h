// SPDX-License-Identifier: Apache-2.0
// DirectRoute: the listener of a function whose instances answer their clients themselves, with
// nothing between. Aether opens it and holds it; instances inherit it.
//
// Each revision has a lane, a listening socket of its own for the same address (steer/listener.h),
// which all of its instances share, its template included. So a revision that is being made ready
// gets no connection before it is steered to; what comes before the first one waits in a lane that
// no process has. While no instance of the steered revision serves, that its lane can be read is
// the demand: connections wait in the kernel's queue. While one serves, the lane is not looked at.
//
// Loop thread only.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/event.h"
#include "async/offload.h"
#include "async/task.h"
#include "async/task_group.h"
#include "base/ids.h"
#include "base/result.h"
#include "steer/listener.h"
#include "steer/rescue.h"
#include "supervise/environment.h"

namespace aether::functions {

class DirectRoute {
 public:
  /// Somebody waits, and nobody serves. Said again every second while it is so.
  using Wanted = std::function<void()>;
  /// Holds the port on all addresses from here on. AddressInUse, ListenFailed.
  [[nodiscard]] static Result<std::unique_ptr<DirectRoute>> open(async::Executor executor,
                                                                 std::uint16_t port, Wanted wanted);
  ~DirectRoute();
  DirectRoute(DirectRoute const&) = delete;
  DirectRoute& operator=(DirectRoute const&) = delete;

  /// What a process of the revision inherits. Its descriptor is borrowed until retire().
  [[nodiscard]] Result<supervise::PassedListener> lane(RevisionId revision);
  /// Its socket, to see who waits for connections there.
  [[nodiscard]] std::uint64_t inode(RevisionId revision) const;
  /// From now on new connections go to this revision. What no instance of the one before will take
  /// goes to it as well.
  [[nodiscard]] Status steer_to(RevisionId revision);
  /// Binds a socket that is not connected yet, so that it reaches that revision although others may
  /// be steered to; farewell() ends it.
  void introduce(RevisionId revision, int socket);
  void farewell(RevisionId revision);

  /// The instance takes connections from now on, or does not any more.
  void add(InstanceId instance, RevisionId revision);
  void remove(InstanceId instance);
  [[nodiscard]] bool queue_empty(RevisionId revision) const;
  /// How many wait for an instance of the serving revision.
  [[nodiscard]] std::uint32_t queued() const;
  /// Connections that these processes have accepted, and not closed. None if it cannot be known.
  [[nodiscard]] async::Task<std::optional<std::uint32_t>> connections(std::vector<pid_t> tree);
  /// Nothing can be started: who waits now is reset.
  void refuse_waiting();
  /// No process of the revision lives. What waits in its lane goes to the serving one.
  void retire(RevisionId revision);

  /// No new connections: waits until those that wait are taken, if anybody serves.
  [[nodiscard]] async::Task<void> close(Duration limit);
  /// Must be awaited before destruction.
  [[nodiscard]] async::Task<void> stop();

 private:
  DirectRoute(async::Executor executor, steer::ListenerGroup group, std::uint16_t port,
              Wanted wanted);
  async::Task<void> watch();
  async::Task<void> retire_lane(RevisionId revision);
  /// An old revision of which nobody serves any more, and whose template may serve again.
  async::Task<void> bring_over(RevisionId revision);
  void bring_over_abandoned(RevisionId revision);
  [[nodiscard]] bool serves(RevisionId revision) const;
  void look_at(RevisionId revision);
  void changed();

  std::uint16_t port_;
  Wanted wanted_;
  std::optional<steer::ListenerGroup> group_;  ///< None: closed.
  os::UniqueFd watched_;                       ///< The steered lane, of our own.
  std::map<InstanceId, RevisionId> serving_;
  async::Event changed_;
  steer::Rescue rescue_;
  async::ThreadPool counting_;
  async::TaskGroup tasks_;
};

}  // namespace aether::functions
