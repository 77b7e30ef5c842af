// SPDX-License-Identifier: Apache-2.0
// LookupRouter: the kernel gives each new connection to a documented address to one of several
// listening sockets, whatever port those are bound to (BPF sk_lookup). For programs that bind their
// own port; see bind_rewriter.h for how several of them come to have "the same" one.
//
//   LookupRouter::open()        one for each Aether: loads the programs, attaches to our network
//                               namespace. Nothing is pinned: all of it ends with this process
//   router.claim(spec)          binds the address and listens on it, for as long as the Route
//   lives:
//                               nobody else takes it, and what nobody serves waits in this listener
//   route.direct(shares)        who gets new connections, from now on: one store into memory that
//                               the kernel's program reads. Cutover, canary and rollback alike
//   ~Route                      the address is free again. Established connections are never
//   touched
//
// Which share a connection goes to is decided once, by the weights, over its addresses and ports
// (Stick::None) or its source address (Stick::Source). A share whose socket is closed, or cannot
// take the packet's family, is passed over: the other shares with a weight come next, then those
// with weight 0, then the waiting listener. Nothing is refused, but for one thing: where there are
// sockets and none of them takes IPv6 (or IPv4), that family is refused, as it would be without
// Aether ("localhost" is ::1 first: nobody must wait there). A socket is closed for this when
// nobody has it open: hold a duplicate, and what waits in a dead program's queue is not reset but
// can be carried on (Rescue), at the price that Aether has to call direct() when the program dies.
// Hold none, and the kernel passes over it by itself. A UDP datagram is decided each time anew (a
// client's port stays with one share while the shares stay); connected UDP sockets come first.
//
// Errors: BpfUnavailable (names the missing right or feature), AddressInUse (names the holder),
// AddressInvalid, ListenFailed, LimitReached (1024 routes, 64 shares a route), RequestInvalid (a
// socket that does not listen, of another protocol, or of another network namespace).
// Threads: one. Nothing here blocks.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "os/unique_fd.h"
#include "steer/split.h"

namespace aether::steer {

/// Most shares that a route can have.
inline constexpr std::size_t kRouteSharesMax = 64;
/// Most routes of one router.
inline constexpr std::size_t kRoutesMax = 1024;

/// One socket that takes part in a route.
struct Share {
  int fd = -1;  ///< Borrowed, for the call only: the kernel forgets the socket when it is closed.
  /// Relative to the others'. 0: stands by, and gets connections only when no other share can.
  std::uint32_t weight = 1;
  /// The caller's own: counts are kept by it (a revision's or an instance's number).
  std::uint64_t tag = 0;
};

/// New connections (UDP: datagrams) given to all sockets of one tag since the claim.
struct ShareCount {
  std::uint64_t tag = 0;
  std::uint64_t given = 0;
  /// Sockets of this tag in the shares now that are still open.
  std::size_t open = 0;
  bool operator==(ShareCount const&) const = default;
};

struct RouteSpec {
  std::string name;  ///< For messages.
  /// TCP or UDP. No host: every interface, IPv4 and IPv6. Port 0 is resolved here.
  Address address;
  bool v6_only = false;  ///< "[::]:80" takes IPv6 only.
  /// Connections that may wait in the waiting listener.
  int backlog = 4096;
};

/// One claimed address. Move only; may outlive its router object (the programs stay while one of
/// them lives).
class Route {
 public:
  Route(Route&&) noexcept;
  Route& operator=(Route&&) noexcept;
  /// What waits in the waiting listener is reset, unless somebody has a duplicate of it.
  ~Route();

  /// With the port that the kernel gave, if 0 was asked for.
  [[nodiscard]] Address bound() const;
  /// Replaces the shares; none: everything waits. Safe to repeat; on an error nothing has changed.
  Status direct(std::span<Share const> shares, Stick stick = Stick::None);
  /// The listener that holds the address. Borrowed. Blocking mode; its owner may change that.
  [[nodiscard]] int waiting_fd() const;
  /// By tag, ascending; tags stay listed after they lost their shares.
  [[nodiscard]] std::vector<ShareCount> counts() const;
  /// New connections (datagrams) that no share could take: they wait in waiting_fd().
  [[nodiscard]] std::uint64_t waited() const;
  /// True if every share with a weight has its socket still open.
  [[nodiscard]] bool whole() const;

 private:
  friend class LookupRouter;
  struct State;
  explicit Route(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class LookupRouter {
 public:
  /// Loads and attaches. BpfUnavailable with what is missing and the cure.
  [[nodiscard]] static Result<LookupRouter> open();
  LookupRouter(LookupRouter&&) noexcept;
  LookupRouter& operator=(LookupRouter&&) noexcept;
  ~LookupRouter();

  /// Binds the address exclusively: AddressInUse if anyone has it.
  [[nodiscard]] Result<Route> claim(RouteSpec spec);
  /// As claim(), with a listener that is bound to the address already (Aether replaced itself and
  /// kept the waiting listener of the claim before).
  [[nodiscard]] Result<Route> adopt(RouteSpec spec, os::UniqueFd waiting);
  /// sk_lookup programs in our network namespace besides ours. They run too, and are left alone;
  /// where two choose a socket for one packet, the one that was attached last decides.
  [[nodiscard]] Result<std::size_t> foreign_programs() const;

  struct State;

 private:
  friend class BindRewriter;
  explicit LookupRouter(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace aether::steer
