// SPDX-License-Identifier: Apache-2.0
// RouteGroup: one listener of a service whose programs bind it themselves (`steer: bpf`), and which
// revision gets its next new connection. What ListenerGroup is for sockets that Aether makes: there
// a lane exists before its program and outlives it; here sockets are found in a tree that runs
// (BindRewriter::take), are as many as the program likes, and come and go with it. So the two share
// their verbs and no base class.
//
// Each socket is held as a duplicate, so that what waits in it when its program dies is not reset:
// it is among take_left() then, and carried to whoever serves (Rescue). While nobody serves, what
// is new waits in the route's own listener.
//
// Errors: those of Route. Threads: one; nothing blocks.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "base/result.h"
#include "os/unique_fd.h"
#include "steer/bind_rewriter.h"
#include "steer/listener.h"
#include "steer/lookup_router.h"
#include "steer/split.h"

namespace aether::steer {

/// For `aether inspect`: what one revision, of which something lives, has of a listener.
struct RouteShareInfo {
  RevisionId revision;
  int percent = 0;                          ///< Of what is new.
  std::vector<std::uint16_t> hidden_ports;  ///< One for each socket; for UDP the documented one.
  std::uint64_t given = 0;                  ///< New connections or datagrams, ever.
};

class RouteGroup {
 public:
  /// Takes the address, for as long as this lives.
  [[nodiscard]] static Result<RouteGroup> open(LookupRouter& router, RouteSpec spec);

  [[nodiscard]] std::string const& name() const { return spec_.name; }
  [[nodiscard]] Address bound() const { return route_.bound(); }

  /// What `owner`, an instance of that revision, has bound now. Sockets that it had before and has
  /// no more are left.
  Status found(RevisionId revision, InstanceId owner, std::span<TakenSocket const> taken);
  /// Nothing of `owner` lives: all of its sockets are left.
  Status gone(InstanceId owner);
  /// From now on new connections go to this revision: to its sockets, now and as they are found.
  Status steer_to(RevisionId revision);
  Status split(Split const& split);
  [[nodiscard]] RevisionId steered() const { return split_.revision; }

  [[nodiscard]] bool has(RevisionId revision) const;
  [[nodiscard]] bool has(InstanceId owner) const;
  /// Whether what is new goes to some program.
  [[nodiscard]] bool serves() const { return serving_ > 0; }
  /// What waits in the sockets of the revision, all together.
  [[nodiscard]] QueueDepth queue(RevisionId revision) const;
  /// What waits for somebody to serve.
  [[nodiscard]] QueueDepth waiting() const;
  /// Where the revision itself answers this machine, whoever is steered to.
  [[nodiscard]] std::optional<Address> own_address(RevisionId revision) const;
  /// The same, of one instance.
  [[nodiscard]] std::optional<Address> own_address(InstanceId owner) const;
  /// Ports that accepted connections of the revision say they came to.
  [[nodiscard]] std::vector<std::uint16_t> ports(RevisionId revision) const;

  /// Sockets that no program has any more, and that nothing is steered to: for Rescue, once each.
  [[nodiscard]] std::vector<os::UniqueFd> take_left();
  /// A duplicate of the listener in which waits what nobody serves, for Rescue.
  [[nodiscard]] Result<os::UniqueFd> duplicate_waiting() const;

  /// Connections or datagrams dropped because a queue was full.
  [[nodiscard]] std::uint64_t overflows() const;
  [[nodiscard]] std::vector<RouteShareInfo> shares() const;

 private:
  struct Socket {
    RevisionId revision;
    InstanceId owner;
    os::UniqueFd fd;
    std::uint64_t inode = 0;
    Address address;  ///< With the hidden port.
  };
  RouteGroup(Route route, RouteSpec spec) : route_(std::move(route)), spec_(std::move(spec)) {}
  [[nodiscard]] std::vector<Socket const*> sockets_of(RevisionId revision) const;
  void leave(Socket socket);
  Status apply();

  Route route_;
  RouteSpec spec_;
  Split split_ = {};
  std::vector<Socket> sockets_;
  std::vector<os::UniqueFd> left_;
  std::size_t serving_ = 0;  ///< Sockets that get what is new.
  std::uint64_t drops_ended_ = 0;
};

}  // namespace aether::steer
