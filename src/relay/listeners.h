// SPDX-License-Identifier: Apache-2.0
// Listeners: all the listeners of one service, moved together. Owned by the service; loop thread.
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "config/config.h"
#include "steer/connections.h"
#include "steer/listener.h"
#include "steer/rescue.h"
#include "supervise/environment.h"

namespace aether::relay {

struct ListenerStatus {
  std::string name;
  std::string address;
  std::string mode;  ///< "steered", "shared" or "exclusive".
  RevisionId steered;
  std::uint32_t queued = 0;     ///< Connections that wait in the steered lane.
  std::uint64_t overflows = 0;  ///< Dropped because a queue was full, since the service started.
};

class Listeners {
 public:
  /// Opens every one of them, or none: the first failure closes those opened before it.
  [[nodiscard]] static Result<Listeners> open(std::vector<config::Listen> const& wanted);

  /// One more, asked for by the program itself (SRP LISTEN). The same address gives the same one.
  /// The answer's fd is borrowed, valid while the revision lives.
  [[nodiscard]] Result<supervise::PassedListener> add(std::string_view address,
                                                      RevisionId revision);

  /// What an instance of this revision is given, in order; opens the revision's lanes.
  [[nodiscard]] Result<std::vector<supervise::PassedListener>> lanes(RevisionId revision);
  [[nodiscard]] Status steer_to(RevisionId revision);
  /// Ends when nothing waits in the revision's accept queues, and has not for two looks in a row
  /// (a handshake may complete between them). The caller sets the deadline.
  [[nodiscard]] async::Task<void> until_queues_empty(RevisionId revision);
  /// Nothing waits in the revision's accept queues now.
  [[nodiscard]] bool queues_empty(RevisionId revision) const;
  /// Where connections say that they come from which this revision has accepted.
  [[nodiscard]] steer::AcceptedFrom accepted_from(RevisionId revision) const;
  /// No process of the revision lives: its lanes end, what waits in them goes to the steered ones.
  /// Returns how many connections that was.
  [[nodiscard]] async::Task<std::uint64_t> retire(RevisionId revision, steer::Rescue& rescue);

  [[nodiscard]] bool empty() const { return groups_.empty(); }
  /// Whether each revision has accept queues of its own (all listeners are steered).
  [[nodiscard]] bool has_own_lanes() const;
  [[nodiscard]] std::vector<ListenerStatus> status() const;

 private:
  std::deque<steer::ListenerGroup> groups_;  // References stay valid while one is added.
};

}  // namespace aether::relay
