// SPDX-License-Identifier: Apache-2.0
// The addresses that the programs of a cgroup may bind although they are taken, as the kernel's
// program reads them (bpf_steer_maps.h). Pure.
#pragma once
#include <cstdint>
#include <span>

#include "base/address.h"
#include "base/result.h"
#include "steer/bpf_steer_maps.h"

namespace aether::steer {

/// LimitReached over kBindClaimsMax; AddressInvalid for what is not TCP or UDP with a port.
[[nodiscard]] Result<aether_claims> make_claims(std::span<Address const> claims,
                                                std::uint64_t network, std::uint64_t cgroup);

}  // namespace aether::steer
