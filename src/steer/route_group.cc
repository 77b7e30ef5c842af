// SPDX-License-Identifier: Apache-2.0
#include "steer/route_group.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "steer/queue.h"

namespace aether::steer {
namespace {

/// Where this machine reaches a socket that is bound like that.
Address reachable(Address address) {
  if (address.host.empty() || address.host == "0.0.0.0") address.host = "127.0.0.1";
  if (address.host == "::") address.host = "::1";
  return address;
}

}  // namespace

Result<RouteGroup> RouteGroup::open(LookupRouter& router, RouteSpec spec) {
  TRY_ASSIGN(Route route, router.claim(spec));
  return RouteGroup(std::move(route), std::move(spec));
}

Status RouteGroup::found(RevisionId revision, InstanceId owner,
                         std::span<TakenSocket const> taken) {
  auto const mine = sockets_for(bound(), taken);
  bool changed = false;
  for (std::size_t i = sockets_.size(); i-- > 0;) {
    if (sockets_[i].owner != owner) continue;
    std::uint64_t const inode = sockets_[i].inode;
    bool const still = std::ranges::any_of(
        mine, [inode](TakenSocket const* socket) { return socket->inode == inode; });
    if (still) continue;
    leave(std::move(sockets_[i]));
    sockets_.erase(sockets_.begin() + static_cast<std::ptrdiff_t>(i));
    changed = true;
  }
  for (TakenSocket const* socket : mine) {
    if (std::ranges::find(sockets_, socket->inode, &Socket::inode) != sockets_.end()) continue;
    TRY_ASSIGN(os::UniqueFd fd, os::duplicate(socket->fd.get()));
    Address address = socket->address;
    address.port = socket->hidden_port;
    sockets_.push_back({.revision = revision,
                        .owner = owner,
                        .fd = std::move(fd),
                        .inode = socket->inode,
                        .address = std::move(address)});
    changed = true;
  }
  return changed ? apply() : Status();
}

void RouteGroup::leave(Socket socket) {
  drops_ended_ += read_drops(socket.fd.get());
  left_.push_back(std::move(socket.fd));
}

Status RouteGroup::gone(InstanceId owner) {
  bool changed = false;
  for (std::size_t i = sockets_.size(); i-- > 0;) {
    if (sockets_[i].owner != owner) continue;
    leave(std::move(sockets_[i]));
    sockets_.erase(sockets_.begin() + static_cast<std::ptrdiff_t>(i));
    changed = true;
  }
  return changed ? apply() : Status();
}

Status RouteGroup::steer_to(RevisionId revision) {
  return split({.revision = revision});
}

Status RouteGroup::split(Split const& split) {
  Split const before = std::exchange(split_, split);
  auto applied = apply();
  if (!applied) split_ = before;
  return applied;
}

/// The weights of all shares come to the same sum whatever the part is, and the first revision's
/// come first: so a client that sticks to one of them only ever goes over to the first.
Status RouteGroup::apply() {
  std::vector<Socket const*> first = sockets_of(split_.revision);
  std::vector<Socket const*> other;
  if (split_.percent < 100) other = sockets_of(split_.other);
  std::size_t const most = other.empty() || first.empty() ? kRouteSharesMax : kRouteSharesMax / 2;
  for (auto* side : {&first, &other}) {
    if (side->size() <= most) continue;
    log::warn("listener \"{}\" on {}: {} sockets listen there, of which {} get connections", name(),
              bound().text(), side->size(), most);
    side->resize(most);
  }
  auto const part = static_cast<std::uint32_t>(other.empty() ? 100 : split_.percent);
  auto const rest = static_cast<std::uint32_t>(first.empty() ? 100 : 100 - split_.percent);
  auto const firsts = static_cast<std::uint32_t>(std::max<std::size_t>(first.size(), 1));
  auto const others = static_cast<std::uint32_t>(std::max<std::size_t>(other.size(), 1));
  std::vector<Share> shares;
  for (Socket const* socket : first)
    shares.push_back(
        {.fd = socket->fd.get(), .weight = part * others, .tag = socket->revision.value});
  for (Socket const* socket : other)
    shares.push_back(
        {.fd = socket->fd.get(), .weight = rest * firsts, .tag = socket->revision.value});
  TRY(route_.direct(shares, split_.stick));
  serving_ = shares.size();
  return {};
}

/// Those that listen: a program may have called shutdown() on one.
std::vector<RouteGroup::Socket const*> RouteGroup::sockets_of(RevisionId revision) const {
  std::vector<Socket const*> sockets;
  for (Socket const& socket : sockets_) {
    bool const listens = !has_left_listen(socket.fd.get(), spec_.address.transport);
    if (socket.revision == revision && listens) sockets.push_back(&socket);
  }
  return sockets;
}

bool RouteGroup::has(RevisionId revision) const {
  return !sockets_of(revision).empty();
}

bool RouteGroup::has(InstanceId owner) const {
  return std::ranges::find(sockets_, owner, &Socket::owner) != sockets_.end();
}

QueueDepth RouteGroup::queue(RevisionId revision) const {
  QueueDepth all;
  for (Socket const* socket : sockets_of(revision)) {
    auto const depth = read_queue(socket->fd.get(), spec_.address.transport);
    if (!depth) continue;
    all.empty = all.empty && depth->empty;
    all.connections += depth->connections;
    all.limit += depth->limit;
  }
  return all;
}

QueueDepth RouteGroup::waiting() const {
  return read_queue(route_.waiting_fd(), spec_.address.transport).value_or(QueueDepth{});
}

std::optional<Address> RouteGroup::own_address(RevisionId revision) const {
  auto const sockets = sockets_of(revision);
  if (sockets.empty()) return {};
  return reachable(sockets.front()->address);
}

std::optional<Address> RouteGroup::own_address(InstanceId owner) const {
  auto const found = std::ranges::find(sockets_, owner, &Socket::owner);
  if (found == sockets_.end()) return {};
  return reachable(found->address);
}

std::vector<std::uint16_t> RouteGroup::ports(RevisionId revision) const {
  std::vector<std::uint16_t> ports{bound().port};
  for (Socket const* socket : sockets_of(revision)) ports.push_back(socket->address.port);
  return ports;
}

std::vector<os::UniqueFd> RouteGroup::take_left() {
  return std::exchange(left_, {});
}

Result<os::UniqueFd> RouteGroup::duplicate_waiting() const {
  return os::duplicate(route_.waiting_fd());
}

std::uint64_t RouteGroup::overflows() const {
  std::uint64_t drops = drops_ended_ + read_drops(route_.waiting_fd());
  for (Socket const& socket : sockets_) drops += read_drops(socket.fd.get());
  return drops;
}

std::vector<RouteShareInfo> RouteGroup::shares() const {
  std::vector<RouteShareInfo> infos;
  auto const info_of = [&](RevisionId revision) -> RouteShareInfo& {
    auto const known = std::ranges::find(infos, revision, &RouteShareInfo::revision);
    if (known != infos.end()) return *known;
    infos.push_back({.revision = revision});
    return infos.back();
  };
  for (Socket const& socket : sockets_)
    info_of(socket.revision).hidden_ports.push_back(socket.address.port);
  for (ShareCount const& count : route_.counts()) {
    auto const known = std::ranges::find(infos, RevisionId{count.tag}, &RouteShareInfo::revision);
    if (known != infos.end()) known->given = count.given;
  }
  bool const is_split = split_.percent < 100 && has(split_.other);
  for (RouteShareInfo& info : infos) {
    bool const is_first = info.revision == split_.revision;
    bool const is_other = is_split && info.revision == split_.other;
    if (is_first) info.percent = is_split ? split_.percent : 100;
    if (is_other) info.percent = has(split_.revision) ? 100 - split_.percent : 100;
  }
  std::ranges::sort(infos, {}, &RouteShareInfo::revision);
  return infos;
}

}  // namespace aether::steer
