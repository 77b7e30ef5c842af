// SPDX-License-Identifier: Apache-2.0
// BindRewriter: lets the programs of one cgroup bind a documented address that Aether (and other
// revisions) hold already, and finds the sockets that they bound. The other half of LookupRouter.
//
//   TCP  bind() to the documented port becomes a bind to a free port of the kernel's choice on the
//        same address (cgroup/bind4, bind6); getsockname() of that socket tells the documented port
//        (cgroup/getsockname4, 6). Sockets that accept() returns have the documented address
//        anyway. The hidden port is closed to other machines: LookupRouter's program refuses what
//        comes there, except from this machine to itself. No right is needed to bind a port below
//        1024.
//   UDP  the real port is bound, since answers must come from it: the hook sets SO_REUSEADDR, and
//        the route decides which socket gets a datagram. Needs Linux 6.1. Ports below 1024 need the
//        program's own right.
//
// Rewritten is a bind whose protocol and port are claimed, if the claim has no host (":8080",
// "0.0.0.0:8080", "[::]:8080"), or the program's is the wildcard or the very same address. Sockets
// belong to the cgroup in which they were made; sockets that were inherited from Aether are never
// touched. Programs in folders below the cgroup count as in it.
//
//   BindRewriter::attach(router, cgroup.fd(), claims)   before the program is started in the cgroup
//   rewriter.take(tree)                                 when it is ready, and again when it may
//   have
//                                                       opened or closed listeners
// The object outlives the instance: without it a restarted program would bind the real port and
// fail, and getsockname() would tell the hidden one. All ends with this process; nothing is pinned.
//
// Errors: BpfUnavailable, Unsupported (no cgroup v2), LimitReached (16 claims), SystemCall.
// Threads: one. take() reads /proc of the tree; nothing else here is slow.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "os/unique_fd.h"
#include "steer/lookup_router.h"

namespace aether::steer {

/// Most addresses that one cgroup can have rewritten.
inline constexpr std::size_t kBindClaimsMax = 16;

/// A socket that a program of the cgroup bound to a claimed address: a TCP listener, or an
/// unconnected UDP socket.
struct TakenSocket {
  os::UniqueFd fd;  ///< A duplicate (pidfd_getfd). It keeps the socket open when the program dies.
  pid_t pid = 0;    ///< One of those that have it.
  std::uint64_t inode = 0;
  /// As the program sees it: its host, with the documented port.
  Address address;
  /// The port that the kernel knows; the documented one for UDP. This machine can connect to it on
  /// any of its addresses that the program bound, for probes before the cutover.
  std::uint16_t hidden_port = 0;
};

class BindRewriter {
 public:
  /// `cgroup` is a borrowed descriptor of a cgroup v2 folder (os::Cgroup::fd()). Claims are TCP or
  /// UDP addresses with a port; they need not be routes of the router (yet).
  [[nodiscard]] static Result<BindRewriter> attach(LookupRouter const& router, int cgroup,
                                                   std::span<Address const> claims);
  BindRewriter(BindRewriter&&) noexcept;
  BindRewriter& operator=(BindRewriter&&) noexcept;
  ~BindRewriter();

  /// Replaces the claims. Sockets that are bound stay as they are.
  Status set_claims(std::span<Address const> claims);
  /// All sockets of the tree that were bound to claimed addresses, each once, by inode. Processes
  /// that end meanwhile are passed over. Needs the right to ptrace them (root, or the same user).
  [[nodiscard]] Result<std::vector<TakenSocket>> take(std::span<pid_t const> tree) const;
  /// Makes getsockname() of a socket tell `documented`'s port again, and hides its own: for
  /// listeners that were bound under an earlier Aether which this one replaced. Borrowed fd.
  Status remember(int fd, Address const& documented);

  struct State;

 private:
  explicit BindRewriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Of sockets that take() found, those that can serve a route: same protocol and port, and the
/// program bound the very address of the route, or else every address, or else (of a route without
/// host) any. The best kind only, so that two addresses on one port keep their own sockets.
[[nodiscard]] std::vector<TakenSocket const*> sockets_for(Address const& route,
                                                          std::span<TakenSocket const> taken);

}  // namespace aether::steer
