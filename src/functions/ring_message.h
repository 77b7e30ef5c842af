// SPDX-License-Identifier: Apache-2.0
// What a handler with `ipc: ring` and the gateway say to each other: one message in each record of
// their rings (docs/functions-ring.md). Pure: bytes in, values out.
//
// A message is 8 bytes and what follows them: u32 call, u8 kind, u8 flags, u16 0; little endian.
#pragma once
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace aether::functions {

inline constexpr std::uint32_t kRingProtocol = 1;
inline constexpr std::size_t kRingMessageHead = 8;
/// Of one body, so much may be on its way in one direction: the receiver grants more as it goes on.
/// What of a body is held for a slower side is bounded by this.
inline constexpr std::uint32_t kRingWindow = 64 * 1024;
/// What may be granted at once, far above any window: more is nonsense.
inline constexpr std::uint32_t kRingWindowMax = 1U << 30U;
/// Bytes of a message at most, whatever the ring would take: others have their turn sooner.
inline constexpr std::size_t kRingMessageMax = 32 * 1024;

enum class RingKind : std::uint8_t {
  Hello = 1,    ///< Handler, call 0: u32 of kRingProtocol, then its name. It has attached.
  Request = 2,  ///< Aether: an HTTP/1.1 head, then the first bytes of the body.
  Answer = 3,   ///< Handler: likewise.
  Body = 4,     ///< Both: more of the body, without any frames.
  Window = 5,   ///< Both: u32, as many bytes of the body more.
  Cancel = 6,   ///< Aether: nobody waits for this call any more.
  Failure = 7,  ///< Handler: there will be no (more) answer; the reason, as text.
};

struct RingMessage {
  /// In `flags`. The last message of this side of the call.
  static constexpr std::uint8_t kEnd = 1;
  /// In `flags`. The head goes on in the next Request, or Answer, of this call.
  static constexpr std::uint8_t kMore = 2;

  std::uint32_t call = 0;
  RingKind kind = RingKind::Hello;
  bool end = false;
  bool more = false;
  std::string_view content;  ///< A view into the record.
  bool operator==(RingMessage const&) const = default;
};

/// Gives the reason why this is no message.
[[nodiscard]] std::expected<RingMessage, std::string> parse_ring_message(std::string_view record);
[[nodiscard]] std::string write_ring_message(RingMessage const& message);

/// The number that a Window or Hello begins with; nothing if it is too short.
[[nodiscard]] std::expected<std::uint32_t, std::string> ring_number(std::string_view content);
[[nodiscard]] std::string write_ring_number(std::uint32_t number);

}  // namespace aether::functions
