// SPDX-License-Identifier: Apache-2.0
#include "steer/lookup_table.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace aether::steer {
namespace {

aether_key key_of(Address const& address, sa_family_t family) {
  aether_key key{};
  key.protocol = address.transport == Transport::Udp ? IPPROTO_UDP : IPPROTO_TCP;
  key.family = static_cast<__u8>(family);
  key.port = address.port;
  return key;
}

}  // namespace

Result<aether_table> make_table(std::span<SlotShare const> shares, Stick stick, std::uint32_t seed,
                                std::uint32_t waiting_slot) {
  if (shares.size() > kRouteSharesMax)
    return fail(ErrorCode::LimitReached,
                fmt::format("{} sockets for one address, and a route has {} at most", shares.size(),
                            kRouteSharesMax));
  aether_table table{};
  table.seed = seed;
  table.stick = stick == Stick::Source ? 1 : 0;
  table.waiting = waiting_slot;
  std::uint64_t total = 0;
  for (auto const& share : shares) {
    if (share.weight == 0) continue;
    total += share.weight;
    // A ticket is the product of this sum and 32 bits of hash.
    if (total > UINT32_MAX)
      return fail(ErrorCode::RequestInvalid, "the weights of a route add up to more than 2^32 - 1");
    table.share[table.count++] = {.until = static_cast<__u32>(total), .slot = share.slot};
  }
  table.active = table.count;
  table.total = static_cast<__u32>(total);
  for (auto const& share : shares)
    if (share.weight == 0) table.share[table.count++] = {.until = 0, .slot = share.slot};
  return table;
}

HostBytes host_bytes(Address const& address) {
  HostBytes host;
  if (address.host.empty()) {
    host.any = true;
    return host;
  }
  if (!address.is_ipv6()) {
    in_addr native{};
    inet_pton(AF_INET, address.host.c_str(), &native);
    host.ipv4 = true;
    host.any = native.s_addr == 0;
    host.bytes[10] = host.bytes[11] = 0xff;
    std::memcpy(host.bytes + 12, &native, sizeof(native));
    return host;
  }
  in6_addr native{};
  auto const zone = address.host.find('%');
  inet_pton(AF_INET6, address.host.substr(0, zone).c_str(), &native);
  std::memcpy(host.bytes, &native, sizeof(native));
  host.ipv4 = IN6_IS_ADDR_V4MAPPED(&native) != 0;
  host.any = IN6_IS_ADDR_UNSPECIFIED(&native) != 0;
  return host;
}

std::vector<aether_key> keys_of(Address const& address, bool v6_only) {
  auto const host = host_bytes(address);
  std::vector<aether_key> keys;
  if (host.any) {
    bool const dual = address.host.empty() || !v6_only;
    if (host.ipv4 || dual) keys.push_back(key_of(address, AF_INET));
    if (!host.ipv4) keys.push_back(key_of(address, AF_INET6));
    return keys;
  }
  keys.push_back(key_of(address, host.ipv4 ? AF_INET : AF_INET6));
  // A packet of IPv4 has its four bytes first (bpf/steer.bpf.c).
  if (host.ipv4)
    std::memcpy(keys.front().address, host.bytes + 12, 4);
  else
    std::memcpy(keys.front().address, host.bytes, 16);
  return keys;
}

}  // namespace aether::steer
