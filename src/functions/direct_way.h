// SPDX-License-Identifier: Apache-2.0
// DirectWay: how clients of `route: direct` reach instances with nothing between. Two ways do it:
// DirectRoute (instances inherit one listener) and LookupRoute (each binds the port itself, and the
// kernel picks one of them). Which one a function has is chosen when it is loaded.
//
// Loop thread only.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "os/unique_fd.h"
#include "supervise/environment.h"

namespace aether::functions {

class DirectWay {
 public:
  /// Somebody waits, and nobody serves. Said again every second while it is so.
  using Wanted = std::function<void()>;
  virtual ~DirectWay() = default;

  /// Whether each instance binds the port itself.
  [[nodiscard]] virtual bool has_own_listeners() const = 0;
  /// What a process of the revision inherits; none: it binds the port itself. Its descriptor is
  /// borrowed until retire().
  [[nodiscard]] virtual Result<std::optional<supervise::PassedListener>> lane(
      RevisionId revision) = 0;
  /// The socket that it inherits, to see who waits for connections there.
  [[nodiscard]] virtual std::uint64_t inode(RevisionId revision) const = 0;
  /// From now on new connections go to this revision. What no instance of the one before will take
  /// goes to it as well.
  [[nodiscard]] virtual Status steer_to(RevisionId revision) = 0;
  /// Binds a socket that is not connected yet, so that it reaches that revision although others may
  /// be steered to; farewell() ends it.
  virtual void introduce(RevisionId revision, int socket) = 0;
  virtual void farewell(RevisionId revision) = 0;

  /// The instance takes connections from now on, or does not any more. `listeners`: its own, where
  /// it has some.
  virtual void add(InstanceId instance, RevisionId revision,
                   std::vector<os::UniqueFd> listeners) = 0;
  virtual void remove(InstanceId instance) = 0;
  /// It gets no new connections while it is looked at whether it has any.
  virtual void pause(InstanceId instance) = 0;
  virtual void resume(InstanceId instance) = 0;
  /// Nobody waits for this instance (or for any of its revision, where they share a queue).
  [[nodiscard]] virtual bool queue_empty(RevisionId revision, InstanceId instance) const = 0;
  /// How many wait for this instance alone.
  [[nodiscard]] virtual std::uint32_t queued_at(InstanceId instance) const = 0;
  /// How many wait for an instance of the serving revision.
  [[nodiscard]] virtual std::uint32_t queued() const = 0;
  /// Connections that these processes have accepted, and not closed. None if it cannot be known.
  [[nodiscard]] virtual async::Task<std::optional<std::uint32_t>> connections(
      std::vector<pid_t> tree) = 0;
  /// Connections that were given to instances; none if it is not counted.
  [[nodiscard]] virtual std::optional<std::uint64_t> given() const = 0;
  /// Nothing can be started: who waits now is reset.
  virtual void refuse_waiting() = 0;
  /// No process of the revision lives. What waits in its lane goes to the serving one.
  virtual void retire(RevisionId revision) = 0;

  /// No new connections: waits until those that wait are taken, if anybody serves.
  [[nodiscard]] virtual async::Task<void> close(Duration limit) = 0;
  /// Must be awaited before destruction.
  [[nodiscard]] virtual async::Task<void> stop() = 0;
};

/// Takes who waits at a listener that nobody else takes from, and resets them, as a server does
/// that is not there. Some thousands at most.
void refuse_connections(int listener);
/// Whether somebody waits there.
[[nodiscard]] bool has_waiting(int listener);

}  // namespace aether::functions
