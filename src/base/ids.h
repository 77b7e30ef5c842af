// SPDX-License-Identifier: Apache-2.0
// Ids are distinct types, so that a revision cannot be passed where an instance is meant.
#pragma once
#include <compare>
#include <cstdint>
#include <functional>

#include <fmt/format.h>

namespace aether {

template <class Tag>
struct NumberId {
  std::uint64_t value = 0;
  auto operator<=>(NumberId const&) const = default;
};

/// One immutable version of a service, counted from 1 within the service. 0 is "none".
using RevisionId = NumberId<struct RevisionTag>;
/// One running process tree, counted from 1 within one Aether. 0 is "none".
using InstanceId = NumberId<struct InstanceTag>;
/// One swap, counted from 1 within the service.
using SwapId = NumberId<struct SwapTag>;

}  // namespace aether

template <class Tag>
struct fmt::formatter<aether::NumberId<Tag>> : fmt::formatter<std::uint64_t> {
  auto format(aether::NumberId<Tag> id, format_context& context) const {
    return fmt::formatter<std::uint64_t>::format(id.value, context);
  }
};
template <class Tag>
struct std::hash<aether::NumberId<Tag>> {
  std::size_t operator()(aether::NumberId<Tag> id) const {
    return std::hash<std::uint64_t>()(id.value);
  }
};
