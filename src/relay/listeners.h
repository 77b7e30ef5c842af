// SPDX-License-Identifier: Apache-2.0
// Listeners: all the listeners of one service, moved together. Owned by the service; loop thread.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/ids.h"
#include "base/result.h"
#include "config/config.h"
#include "relay/routes.h"
#include "steer/connections.h"
#include "steer/listener.h"
#include "steer/rescue.h"
#include "supervise/environment.h"

namespace aether::relay {

struct ListenerStatus {
  std::string name;
  std::string address;
  std::string mode;  ///< "steered", "shared", "exclusive" or "bpf".
  RevisionId steered;
  std::uint32_t queued = 0;     ///< Connections that wait in the steered lane.
  std::uint64_t overflows = 0;  ///< Dropped because a queue was full, since the service started.
  /// Only of "bpf": connections that wait for a program to serve, and what each revision has.
  std::uint32_t waiting = 0;
  std::vector<steer::RouteShareInfo> shares = {};
};

class Listeners {
 public:
  using Wanted = std::vector<config::Listen>;

  /// Opens every one of them, or none: the first failure closes those opened before it.
  [[nodiscard]] static Result<Listeners> open(Wanted const& wanted, RouterSource router = {});
  /// Why a swap cannot lead from one set to the other: what an address is held with cannot change
  /// while it is held. Addresses may come and go, and backlogs change.
  [[nodiscard]] static Status check_change(Wanted const& from, Wanted const& to);
  /// Opens those that are missing, all or none.
  [[nodiscard]] Status prepare(Wanted const& wanted);
  /// Closes those of the configuration that none of the sets wants, in every process that has
  /// them; the backlogs of the others are as the first set says.
  void keep(std::vector<Wanted> const& sets);

  /// One more, asked for by the program itself (SRP LISTEN). The same address gives the same one.
  /// The answer's fd is borrowed, valid while the revision lives.
  [[nodiscard]] Result<supervise::PassedListener> add(std::string_view address,
                                                      RevisionId revision);

  /// What an instance of this revision is given, in order: what is wanted, then what its program
  /// has asked for before. Opens the revision's lanes.
  [[nodiscard]] Result<std::vector<supervise::PassedListener>> lanes(Wanted const& wanted,
                                                                     RevisionId revision);
  /// Listeners that the revision does not want stay where they are steered to.
  [[nodiscard]] Status steer_to(Wanted const& wanted, RevisionId revision);
  /// `split.revision` gets its part of what is new at the listeners that it wants, and
  /// `split.other` the rest, if it wants the same listener.
  [[nodiscard]] Status split(Wanted const& wanted, Wanted const& others_wanted,
                             steer::Split const& split);
  /// See ListenerGroup::admit.
  void admit(RevisionId revision, std::uint16_t source_port);
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

  [[nodiscard]] bool empty() const { return entries_.empty() && routes_.empty(); }
  /// Those that the programs bind themselves.
  [[nodiscard]] Routes& routes() { return routes_; }
  [[nodiscard]] Routes const& routes() const { return routes_; }
  /// Whether each revision has accept queues of its own (all listeners are steered).
  [[nodiscard]] bool has_own_lanes() const;
  [[nodiscard]] std::vector<ListenerStatus> status() const;

 private:
  /// A group outlives its entry while somebody waits for one of its queues.
  using GroupPtr = std::shared_ptr<steer::ListenerGroup>;
  struct Entry {
    std::optional<config::Listen> wanted;  ///< Absent: the program asked for it.
    GroupPtr group;
  };
  [[nodiscard]] GroupPtr find(config::Listen const& wanted) const;
  [[nodiscard]] Result<std::vector<GroupPtr>> groups_of(Wanted const& wanted) const;

  std::vector<Entry> entries_;
  Routes routes_;
};

}  // namespace aether::relay
