// SPDX-License-Identifier: Apache-2.0
// Any bytes as an address: refused with words, or taken and kept through its own text.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/address.h"
#include "base/check.h"

using namespace aether;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  auto const address = parse_address(text);
  if (!address) {
    AETHER_CHECK(!address.error().message().empty());
    return 0;
  }
  AETHER_CHECK(address->path.size() <= kUnixPathMax);
  AETHER_CHECK(address->is_unix() || address->path.empty());
  auto const again = parse_address(address->text());
  AETHER_CHECK(again && *again == *address);
  return 0;
}
