// SPDX-License-Identifier: Apache-2.0
// Any records from a handler: taken or refused, and never more held of a call than its window.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "functions/ring_exchange.h"

using namespace aether::functions;

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<char const*>(data), size);
  RingExchange exchange(4096);
  constexpr std::uint32_t kCalls = 3;
  for (std::uint32_t i = 0; i < kCalls; ++i)
    exchange.begin("GET / HTTP/1.1\r\n\r\n", i == 1 ? "body" : "", i != 1);
  while (bytes.size() > 2) {
    std::size_t const length =
        std::min<std::size_t>(bytes.size() - 2, static_cast<unsigned char>(bytes[0]) +
                                                    256U * static_cast<unsigned char>(bytes[1]));
    std::string_view const record = bytes.substr(2, length);
    bytes.remove_prefix(2 + length);
    if (!exchange.take(record)) return 0;
    if (auto const message = parse_ring_message(record))
      AETHER_CHECK(write_ring_message(*message) == record);
    for (std::uint32_t id = 1; id <= kCalls; ++id) {
      RingExchange::Call* const call = exchange.find(id);
      AETHER_CHECK(call->body.size() <= kRingWindow && call->head.size() <= kRingHeadMax);
      if (call->body.size() > kRingWindow / 2) exchange.taken(id, call->body.size());
    }
    for (std::string const& out : exchange.outbox()) AETHER_CHECK(parse_ring_message(out));
  }
  return 0;
}
