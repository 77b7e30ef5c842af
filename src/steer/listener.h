// SPDX-License-Identifier: Apache-2.0
// ListenerGroup: one listener of a service, and which revision gets its next new connection.
//
// A Steered listener gives each revision a lane: a listening socket of its own for the same
// address. Exactly one lane receives what is new; the others keep what they have accepted and what
// waits in their queues. A cutover is one step of the kernel's (a new one-instruction program for
// TCP and UDP, a rename for unix paths), and a rollback is the same step backwards.
//
// How the service's shell uses it (every call is safe to make twice):
//   open(spec)                 the address is held from here on, before anything is started: what
//                              connects waits in the queue of the first lane
//   lane_fd(revision)          before each launch of an instance; give the fd to os::spawn
//   steer_to(revision)         cutover, and rollback
//   queue(old).empty           poll it, with a deadline, before telling the old one to stop
//   retire_lane() of rescue.h  when no process of a revision lives; or retire() by hand
//   check()                    now and then (each swap does it by itself)
//   ~ListenerGroup             the address is free again, whoever else still has the fds
//
// Errors: AddressInUse (names the holder if it can be seen), AddressInvalid, ListenFailed.
// Threads: one. Nothing here blocks. Lane sockets are in blocking mode when they are made, as
// programs that inherit listeners expect; a program may change its own lane's mode and no other
// revision sees that. With Shared and Exclusive there is one socket, and so one mode, for all.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "base/result.h"
#include "os/unique_fd.h"
#include "steer/split.h"

namespace aether::steer {

enum class ListenMode : std::uint8_t {
  Steered,    ///< A lane for each revision. TCP, UDP and unix paths.
  Shared,     ///< One socket for all revisions; abstract names and fds from outside are always so.
  Exclusive,  ///< One socket, one owner at a time: the shell stops the old one first.
};

struct ListenSpec {
  std::string name;  ///< For messages and LISTEN_FDNAMES.
  Address address;
  ListenMode mode = ListenMode::Steered;
  /// Connections that may wait for accept(); the kernel caps it at net.core.somaxconn.
  int backlog = 4096;
  /// Of a unix socket's file. Without it: of the file replaced, else what the umask leaves.
  std::optional<unsigned> unix_mode;
  /// "[::]:80" takes IPv6 only. An address without host always takes both families.
  bool v6_only = false;
};

/// What waits in a lane for accept() (or recv()).
struct QueueDepth {
  bool empty = true;
  /// How many connections wait. For datagrams 1 stands for "some".
  std::uint32_t connections = 0;
  /// How many the kernel lets wait; 0 for datagrams.
  std::uint32_t limit = 0;
};

/// For `aether inspect`.
struct LaneInfo {
  RevisionId revision;  ///< 0: no revision has it yet.
  std::uint64_t inode = 0;
  bool steered = false;
  bool foreign = false;  ///< A socket of another program (same user) that joined the address.
  std::optional<std::size_t> index;  ///< Place in the kernel's SO_REUSEPORT group.
};

class ListenerGroup {
 public:
  /// Binds the address. Port 0 is resolved here and kept for the group's life.
  [[nodiscard]] static Result<ListenerGroup> open(ListenSpec spec);
  /// Takes a listening socket made by someone else (socket activation). Always Shared; it is
  /// closed, but neither shut down nor unlinked, in the end. AddressInvalid if it does not listen.
  [[nodiscard]] static Result<ListenerGroup> adopt(ListenSpec spec, os::UniqueFd fd);

  ListenerGroup(ListenerGroup&&) noexcept;
  ListenerGroup& operator=(ListenerGroup&&) noexcept;
  /// Ends all lanes, also in stragglers that inherited them, and unlinks what it linked.
  ~ListenerGroup();

  [[nodiscard]] std::string const& name() const;
  /// The spec's, but Shared where the kernel allows nothing else.
  [[nodiscard]] ListenMode mode() const;
  /// The address with the port that was given by the kernel.
  [[nodiscard]] Address bound() const;

  /// The socket to give to an instance of this revision; borrowed, valid until retire(). Opens the
  /// revision's lane, or gives the same one again (an instance restarted by itself finds its queue
  /// whole). A lane that its program shut down is replaced: ask before each launch. The very
  /// first revision is steered to from the start.
  [[nodiscard]] Result<int> lane_fd(RevisionId revision);
  /// From now on new connections go to this revision. No-op if it is so; NotFound without
  /// lane_fd().
  Status steer_to(RevisionId revision);
  /// From now on `revision` gets its part of what is new, and `other` the rest, until the next call
  /// of this or of steer_to(). NotFound if one of them has no lane; Unsupported where there are not
  /// two lanes to choose from (unix paths, Shared, Exclusive).
  Status split(Split const& split);
  /// For a question to a revision that is not steered to: what this machine sends to itself from
  /// `source_port`, which the caller has bound, goes to that revision, until the next call; 0 ends
  /// it. Only for TCP; elsewhere nothing happens.
  Status admit(RevisionId revision, std::uint16_t source_port);
  /// Who gets new connections, all or a part; 0 before the first lane_fd(), or if Shared.
  [[nodiscard]] RevisionId steered() const;
  /// What waits in this revision's lane. Empty if it has none.
  [[nodiscard]] Result<QueueDepth> queue(RevisionId revision) const;
  /// What the revision's unix socket, and each connection that it accepts, is called in
  /// /proc/net/unix; empty if it has none.
  [[nodiscard]] std::string unix_name(RevisionId revision) const;
  /// Inode of the revision's socket, as in /proc/PID/fd ("socket:[inode]"); 0 if it has none.
  [[nodiscard]] std::uint64_t socket_inode(RevisionId revision) const;

  /// Ends the lane of a revision of which no process lives and to which nothing is steered. What
  /// waits in it is moved by the kernel if moves_by_itself(), and is reset otherwise: use
  /// retire_lane() of rescue.h. No moment exists in which a new connection could go to another
  /// lane than the steered one. No-op if there is no lane. RequestInvalid if it is steered to.
  Status retire(RevisionId revision);
  /// Whether the kernel would move all that waits in this lane to the steered one at retire():
  /// net.ipv4.tcp_migrate_req is 1 and there are no other lanes.
  [[nodiscard]] bool moves_by_itself(RevisionId revision) const;
  /// A duplicate of the revision's lane, for Rescue. Owned by the caller.
  [[nodiscard]] Result<os::UniqueFd> duplicate_lane(RevisionId revision) const;

  /// From now on so many connections may wait in each lane, in those that are open and in others to
  /// come. No-op for datagrams, and if nothing changes.
  Status set_backlog(int backlog);
  /// Compares with the kernel: lanes that left LISTEN, sockets of others that joined the address, a
  /// unix path that someone removed. Mends what it can and warns in the log.
  Status check();
  /// Connections (or datagrams) dropped because a queue was full, over all lanes there ever were.
  [[nodiscard]] std::uint64_t overflows() const;
  [[nodiscard]] std::vector<LaneInfo> lanes() const;

 private:
  struct State;
  explicit ListenerGroup(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// net.ipv4.tcp_migrate_req of our network namespace: whether the kernel moves what waits in a
/// listener that is closed to the others of its group. An error if the kernel (< 5.14) has none.
[[nodiscard]] Result<bool> tcp_migrate_req();

}  // namespace aether::steer
