// SPDX-License-Identifier: Apache-2.0
// What the kernel reads of a route (bpf_steer_maps.h), made from shares and addresses. Pure.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "steer/bpf_steer_maps.h"
#include "steer/lookup_router.h"

namespace aether::steer {

/// One share and the place of its socket in the kernel's map.
struct SlotShare {
  std::uint32_t slot = 0;
  std::uint32_t weight = 0;
};

/// Those with a weight first, each in the order given: when only weights change and their sum does
/// not, sources move from shares that shrink to those that grow, and no others.
/// RequestInvalid: the weights are too large. LimitReached: too many shares.
[[nodiscard]] Result<aether_table> make_table(std::span<SlotShare const> shares, Stick stick,
                                              std::uint32_t seed, std::uint32_t waiting_slot);

/// What packets to an address look up: one key of each family that it has.
[[nodiscard]] std::vector<aether_key> keys_of(Address const& address, bool v6_only);

/// The 16 bytes of a host, IPv4 as ::ffff:a.b.c.d; all zero for none.
struct HostBytes {
  unsigned char bytes[16] = {};
  bool ipv4 = false;
  bool any = false;
};
[[nodiscard]] HostBytes host_bytes(Address const& address);

}  // namespace aether::steer
