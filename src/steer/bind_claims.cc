// SPDX-License-Identifier: Apache-2.0
#include "steer/bind_claims.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include "steer/bind_rewriter.h"
#include "steer/lookup_table.h"

namespace aether::steer {
namespace {

bool has_ipv6_addresses(Address const& address, HostBytes const& host) {
  return address.host.empty() || !host.ipv4;
}

/// How well a socket bound to `socket` serves `route`; 0: not at all.
int fitness(Address const& route, Address const& socket) {
  if (route.transport != socket.transport || route.port != socket.port) return 0;
  auto const wanted = host_bytes(route);
  auto const bound = host_bytes(socket);
  bool const same = std::memcmp(wanted.bytes, bound.bytes, sizeof(bound.bytes)) == 0;
  if (same && wanted.any == bound.any) return 3;
  // "0.0.0.0" has no IPv6; "[::]" takes both.
  if (bound.any) return !bound.ipv4 || wanted.ipv4 || wanted.any ? 2 : 0;
  if (!wanted.any) return 0;
  return route.host.empty() || !wanted.ipv4 || bound.ipv4 ? 1 : 0;
}

}  // namespace

Result<aether_claims> make_claims(std::span<Address const> claims, std::uint64_t network,
                                  std::uint64_t cgroup) {
  if (claims.size() > kBindClaimsMax)
    return fail(ErrorCode::LimitReached, fmt::format("{} addresses of one instance to rewrite, and "
                                                     "{} can be",
                                                     claims.size(), kBindClaimsMax));
  aether_claims all{};
  all.netns = network;
  all.cgroup = cgroup;
  for (auto const& address : claims) {
    if (address.is_unix() || address.port == 0)
      return fail(
          ErrorCode::AddressInvalid,
          fmt::format("{}: only binds of a TCP or UDP port can be rewritten", address.text()));
    auto const host = host_bytes(address);
    auto& claim = all.claim[all.count++];
    claim.protocol = address.transport == Transport::Udp ? IPPROTO_UDP : IPPROTO_TCP;
    claim.port = address.port;
    claim.any = host.any ? 1 : 0;
    // "[::]" takes IPv4 too, unless told otherwise.
    claim.ipv4 = host.ipv4 || host.any ? 1 : 0;
    claim.ipv6 = has_ipv6_addresses(address, host) ? 1 : 0;
    std::memcpy(claim.address, host.bytes, sizeof(claim.address));
  }
  return all;
}

std::vector<TakenSocket const*> sockets_for(Address const& route,
                                            std::span<TakenSocket const> taken) {
  int best = 1;
  for (auto const& socket : taken) best = std::max(best, fitness(route, socket.address));
  // A route of both families can have a socket for each: "0.0.0.0" beside "[::]" for IPv6 only.
  bool const both = host_bytes(route).any && best > 1;
  std::vector<TakenSocket const*> sockets;
  for (auto const& socket : taken) {
    int const fits = fitness(route, socket.address);
    if (fits == best || (both && fits > 1)) sockets.push_back(&socket);
  }
  return sockets;
}

}  // namespace aether::steer
