// SPDX-License-Identifier: Apache-2.0
// For the tests of this room: rings, payloads that say what they are, and the messages read.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "ring/ring.h"

namespace aether::ring {

using namespace std::chrono_literals;

inline RingMemory make_ring(RingSpec const& spec) {
  Result<RingMemory> memory = RingMemory::create(std::span(&spec, 1));
  EXPECT_TRUE(memory.has_value()) << memory.error().describe();
  return std::move(*memory);
}

template <class T>
T must(Result<T> result) {
  if (!result) ADD_FAILURE() << result.error().describe();
  return std::move(result).value();
}

/// `size` bytes that depend on the number, so that a piece of another message shows.
inline std::string text_of(std::uint64_t number, std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t at = 0; at < size; ++at) {
    text[at] = static_cast<char>(number * 131 + at * 7 + (at >> 8));
  }
  return text;
}

inline std::span<std::byte const> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

inline std::string as_text(std::span<std::byte const> bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

/// One record, or a test failure when there is no room.
inline void put(Producer& out, std::string_view text, std::uint16_t type = 1) {
  auto room = must(out.claim(type, AETHER_RING_FIRST | AETHER_RING_LAST, text.size()));
  ASSERT_TRUE(room.has_value()) << "no room for " << text.size() << " bytes";
  std::ranges::copy(bytes_of(text), room->begin());
  out.commit(text.size());
}

/// All that can be read now.
inline std::vector<std::string> take_all(Consumer& in, std::size_t limit = 1000) {
  std::vector<std::string> texts;
  must(in.drain(limit, [&](Message const& each) { texts.push_back(as_text(each.payload)); }));
  return texts;
}

}  // namespace aether::ring
