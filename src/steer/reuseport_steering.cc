// SPDX-License-Identifier: Apache-2.0
#include "steer/reuseport_steering.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include <fmt/format.h>

#include "base/log.h"
#include "steer/queue.h"
#include "steer/reuseport_program.h"

namespace aether::steer {
namespace {

Status set_flag(int fd, int level, int option, int value, std::string_view name) {
  if (setsockopt(fd, level, option, &value, sizeof(value)) != 0)
    return fail(system_error("setsockopt", name));
  return {};
}

Status attach(int fd, std::span<sock_filter> code) {
  sock_fprog const program{.len = static_cast<unsigned short>(code.size()), .filter = code.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) != 0)
    return fail(system_error("setsockopt", "SO_ATTACH_REUSEPORT_CBPF"));
  return {};
}

/// Replacing the one before is one step.
Status attach(int fd, ReuseportProgram const& program) {
  std::vector<sock_filter> code = code_of(program);
  return attach(fd, code);
}

Error bind_error(ListenSpec const& spec, int errno_value) {
  auto const who = fmt::format("listener \"{}\" on {}", spec.name, spec.address.text());
  switch (errno_value) {
    case EADDRINUSE:
      return {ErrorCode::AddressInUse,
              fmt::format("{}: the address is held by {}; stop it, or choose another address", who,
                          describe_holder(spec.address)),
              errno_value};
    case EACCES:
      return {ErrorCode::ListenFailed,
              fmt::format("{}: this user may not bind the port; choose one of 1024 or more, give "
                          "Aether CAP_NET_BIND_SERVICE, or set "
                          "net.ipv4.ip_unprivileged_port_start={}",
                          who, spec.address.port),
              errno_value};
    case EADDRNOTAVAIL:
      return {ErrorCode::ListenFailed,
              fmt::format("{}: no network interface of this machine has that address", who),
              errno_value};
    default:
      return {ErrorCode::ListenFailed,
              fmt::format("{}: {}", who,
                          system_error_from(errno_value, "it could not be bound").message()),
              errno_value};
  }
}

BoundSocket describe_self(SocketAddress const& address, bool v6_only) {
  BoundSocket self{.family = address.family()};
  if (address.family() == AF_INET6) {
    auto const* native = reinterpret_cast<sockaddr_in6 const*>(&address.storage);
    std::memcpy(self.address.data(), &native->sin6_addr, 16);
    self.v6_only = v6_only;
  } else {
    auto const* native = reinterpret_cast<sockaddr_in const*>(&address.storage);
    std::memcpy(self.address.data(), &native->sin_addr, 4);
  }
  return self;
}

bool is_in(std::vector<std::uint64_t> const& inodes, std::uint64_t inode) {
  return std::ranges::find(inodes, inode) != inodes.end();
}

}  // namespace

Result<std::uint64_t> inode_of(int fd) {
  struct stat status{};
  if (fstat(fd, &status) != 0) return fail(system_error("fstat", "socket"));
  return status.st_ino;
}

Result<os::UniqueFd> ReuseportSteering::make_socket() const {
  int const type = socket_type(spec_.address.transport) | SOCK_CLOEXEC;
  os::UniqueFd fd(socket(self_.family, type, 0));
  if (!fd)
    return fail(ErrorCode::ListenFailed,
                fmt::format("listener \"{}\" on {}: {}", spec_.name, spec_.address.text(),
                            system_error("no socket could be made").message()),
                errno);
  // Connections of earlier times in TIME_WAIT do not hold the port; a listener still does.
  if (is_tcp()) TRY(set_flag(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
  if (self_.family == AF_INET6)
    TRY(set_flag(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, self_.v6_only ? 1 : 0, "IPV6_V6ONLY"));
  return fd;
}

Status ReuseportSteering::bind_to(int fd, SocketAddress const& address) const {
  if (::bind(fd, address.get(), address.length) != 0) return fail(bind_error(spec_, errno));
  return {};
}

Status ReuseportSteering::listen_on(int fd) const {
  if (!is_tcp()) return {};
  if (::listen(fd, spec_.backlog) != 0) return fail(bind_error(spec_, errno));
  return {};
}

/// Binds without SO_REUSEPORT, which fails if anyone holds the address, and then lets lanes join.
Status ReuseportSteering::bind_exclusively(os::UniqueFd& fd) {
  TRY_ASSIGN(auto address, to_socket_address(spec_.address));
  TRY(bind_to(fd.get(), address));
  TRY_ASSIGN(auto const local, local_address(fd.get()));
  bool const chosen_by_kernel = spec_.address.port == 0;
  spec_.address.port = local.port;
  if (chosen_by_kernel && is_tcp()) {
    // A port that was not asked for by number is let go at shutdown() (tcp_set_state). Two sockets
    // with SO_REUSEADDR may be bound to it while neither listens, so nobody can come between.
    TRY_ASSIGN(auto asked, make_socket());
    TRY_ASSIGN(address, to_socket_address(spec_.address));
    TRY(bind_to(asked.get(), address));
    fd = std::move(asked);
  }
  if (is_shared()) return {};
  TRY(set_flag(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT"));
  if (is_tcp()) return attach(fd.get(), ReuseportProgram{});
  // A UDP socket is a member of the group only if it had the flag when it was bound.
  TRY_ASSIGN(auto member, make_socket());
  TRY(set_flag(member.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT"));
  TRY_ASSIGN(address, to_socket_address(spec_.address));
  TRY(bind_to(member.get(), address));
  fd = std::move(member);
  return attach(fd.get(), ReuseportProgram{});
}

Result<ReuseportSteering::Opened> ReuseportSteering::open(ListenSpec const& spec) {
  std::unique_ptr<ReuseportSteering> steering(new ReuseportSteering(spec));
  TRY_ASSIGN(auto const address, to_socket_address(spec.address));
  bool const every_interface = spec.address.host.empty();
  steering->self_ = describe_self(address, spec.v6_only && !every_interface);
  TRY_ASSIGN(auto fd, steering->make_socket());
  TRY(steering->bind_exclusively(fd));
  TRY(steering->listen_on(fd.get()));
  TRY_ASSIGN(auto const inode, inode_of(fd.get()));
  Lane first{.fd = std::move(fd), .inode = inode};
  steering->index_.join(inode);
  auto const members = steering->members_in_kernel();
  if (members && members->size() > 1) return fail(bind_error(steering->spec_, EADDRINUSE));
  return Opened{.steering = std::move(steering), .first = std::move(first)};
}

Result<Lane> ReuseportSteering::open_lane() {
  TRY_ASSIGN(auto fd, make_socket());
  if (!is_shared()) TRY(set_flag(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT"));
  TRY_ASSIGN(auto const address, to_socket_address(spec_.address));
  TRY(bind_to(fd.get(), address));
  TRY_ASSIGN(auto const inode, inode_of(fd.get()));
  TRY(listen_on(fd.get()));
  Lane lane{.fd = std::move(fd), .inode = inode};
  // Others who joined since the last look are in front of it.
  auto const members = members_in_kernel();
  if (members && is_in(*members, inode)) learn_members(*members, {}, inode);
  index_.join(inode);
  return lane;
}

Status ReuseportSteering::direct_to(Lane const& lane) {
  if (is_shared()) return {};
  auto const place = index_.index_of(lane.inode);
  if (!place)
    return fail(ErrorCode::Internal, fmt::format("lane {} of listener \"{}\" is not in its group",
                                                 lane.inode, spec_.name));
  ReuseportProgram program{.place = *place};
  auto const guest_place = guest_.port != 0 ? index_.index_of(guest_.inode) : std::nullopt;
  if (guest_place) program.guest = {.port = guest_.port, .place = *guest_place};
  auto const rest_place = rest_ ? index_.index_of(rest_->inode) : std::nullopt;
  if (rest_place)
    program.rest = {.place = *rest_place, .percent = rest_->percent, .stick = rest_->stick};
  return attach(lane.fd.get(), program);
}

bool ReuseportSteering::leave_rest(Lane const* rest, Split const& split) {
  rest_.reset();
  if (rest == nullptr) return true;
  if (is_shared()) return false;
  rest_ = Rest{.inode = rest->inode, .percent = split.percent, .stick = split.stick};
  return true;
}

bool ReuseportSteering::ends_cleanly(Lane const& lane, Lane const& steered) const {
  return index_.leaves_cleanly(lane.inode, steered.inode);
}

Status ReuseportSteering::end_lane(Lane& lane, Lane const* steered) {
  // Whoever else still holds the socket, a TCP listener leaves the group here and now.
  ::shutdown(lane.fd.get(), SHUT_RDWR);
  lane.fd.reset();
  // A UDP socket stays a member for as long as a straggler of the ended revision holds it.
  auto const members = is_tcp() ? Result<std::vector<std::uint64_t>>(std::vector<std::uint64_t>())
                                : members_in_kernel();
  bool const held = members && is_in(*members, lane.inode);
  if (!held) index_.leave(lane.inode);
  return steered != nullptr ? direct_to(*steered) : Status();
}

bool ReuseportSteering::moves_queue(Lane const& lane, Lane const& steered) const {
  // The kernel chooses among all that are left by hash, not by our program: so only with one left
  // (reuseport_migrate_sock in net/core/sock_reuseport.c).
  bool const pair =
      index_.size() == 2 && index_.contains(lane.inode) && index_.contains(steered.inode);
  return is_tcp() && !is_shared() && pair && tcp_migrate_req().value_or(false);
}

Result<std::vector<std::uint64_t>> ReuseportSteering::members_in_kernel() const {
  TRY_ASSIGN(auto const sockets, sockets_on_port(spec_.address.transport, spec_.address.port));
  std::vector<std::uint64_t> inodes;
  for (auto const& socket : sockets) {
    bool const same = socket.family == self_.family && socket.address == self_.address &&
                      socket.v6_only == self_.v6_only;
    // Inode 0 is a socket that its owner has closed already.
    if (same && socket.inode != 0) inodes.push_back(socket.inode);
  }
  return inodes;
}

/// Takes over what the kernel says: who has left (in the order of joining: if several left by
/// themselves since the last look, their order is not known), and who of others has joined.
void ReuseportSteering::learn_members(std::vector<std::uint64_t> const& in_kernel,
                                      std::span<Lane const> lanes, std::uint64_t newest) {
  auto const is_ours = [&](std::uint64_t inode) {
    return inode == newest || std::ranges::find(lanes, inode, &Lane::inode) != lanes.end();
  };
  for (auto const inode : std::vector(index_.keys())) {
    if (is_in(in_kernel, inode) || is_ours(inode)) continue;
    index_.leave(inode);
    std::erase(foreign_, inode);
  }
  for (auto const inode : in_kernel) {
    if (is_ours(inode) || index_.contains(inode)) continue;
    index_.join(inode);
    foreign_.push_back(inode);
    log::warn(
        "listener \"{}\" on {}: {} joined the address with SO_REUSEPORT; it gets no "
        "connections while Aether holds it",
        spec_.name, spec_.address.text(), describe_holder(std::span(&inode, 1)));
  }
}

Status ReuseportSteering::reconcile(std::span<Lane const> lanes, Lane const* steered) {
  if (auto const members = members_in_kernel()) {
    learn_members(*members, lanes, 0);
  } else {
    // Without sock_diag we know at least our own.
    for (auto const inode : std::vector(index_.keys()))
      if (std::ranges::none_of(lanes, [&](Lane const& lane) { return lane.inode == inode; }))
        index_.leave(inode);
  }
  return steered != nullptr ? direct_to(*steered) : Status();
}

bool ReuseportSteering::revive(Lane const& lane) {
  // The one socket of a Shared listener keeps its address after shutdown(), and can listen again.
  return is_shared() && is_tcp() && ::listen(lane.fd.get(), spec_.backlog) == 0;
}

void ReuseportSteering::close(std::span<Lane> lanes) {
  for (auto& lane : lanes) {
    ::shutdown(lane.fd.get(), SHUT_RDWR);
    lane.fd.reset();
  }
}

}  // namespace aether::steer
