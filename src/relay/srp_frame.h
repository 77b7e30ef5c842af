// SPDX-License-Identifier: Apache-2.0
// The State Relay Protocol's frames: bytes to values and back. Pure; knows no socket.
// docs/srp.md is the protocol for authors of SDKs; its golden bytes are compared by srp_frame_test.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace aether::relay {

inline constexpr std::uint32_t kFrameMagic = 0xAE7E2024;
inline constexpr std::uint8_t kFrameVersion = 1;
/// Length, magic, version, type and flags.
inline constexpr std::size_t kFrameHeaderBytes = 12;
/// Largest payload of a state frame. Bounds what one peer can make us hold.
inline constexpr std::size_t kStatePayloadMax = std::size_t{64} << 20;
/// Largest payload of every other frame: a JSON object of a few fields.
inline constexpr std::size_t kControlPayloadMax = std::size_t{64} << 10;
/// How much of a state Aether puts into one frame: fills a socket buffer, keeps copies in cache.
inline constexpr std::size_t kStateChunkBytes = std::size_t{1} << 20;

enum class FrameType : std::uint8_t {
  Hello = 0x01,
  StateJson = 0x02,
  StateProtobuf = 0x03,
  StateBytes = 0x04,
  StateFd = 0x05,
  ConnectionFd = 0x06,
  Listen = 0x07,
  Export = 0x10,
  Resume = 0x11,
  Release = 0x12,
  Checkpoint = 0x13,
  Load = 0x14,
  Drain = 0x15,
  Error = 0xFE,
  Ack = 0xFF,
};

/// Frame flags. Unknown bits are a protocol violation, so that they can get a meaning later.
inline constexpr std::uint16_t kMore = 0x0001;    ///< State frames: more of this state follows.
inline constexpr std::uint16_t kCrc32 = 0x0002;   ///< State frames: CRC-32, not CRC-32C.
inline constexpr std::uint16_t kPickle = 0x0004;  ///< StateBytes: the bytes are a Python pickle.

/// The type's name as docs/srp.md writes it, "?" for one that does not exist.
[[nodiscard]] std::string_view frame_name(FrameType type);
/// StateJson, StateProtobuf or StateBytes: payload = u32 running checksum + data.
[[nodiscard]] bool carries_state(FrameType type);

struct Frame {
  FrameType type = FrameType::Hello;
  std::uint16_t flags = 0;
  std::string payload;
  bool operator==(Frame const&) const = default;
};

/// The bytes of a frame. The caller keeps payloads within the limits above (checked).
[[nodiscard]] std::string encode(Frame const& frame);
/// Only the header of a frame whose payload is sent from elsewhere.
[[nodiscard]] std::array<char, kFrameHeaderBytes> encode_header(FrameType type, std::uint16_t flags,
                                                                std::size_t payload_bytes);

/// Splits a byte stream into frames. Holds at most one frame and what was fed after it. Lengths are
/// checked before anything is stored for them. After an error it only repeats that error.
class FrameDecoder {
 public:
  void feed(std::string_view bytes);
  /// The next whole frame, nothing if more bytes are needed, or ProtocolViolation.
  [[nodiscard]] Result<std::optional<Frame>> next();
  /// Whether a frame has begun and not ended: a stream that closes now was cut.
  [[nodiscard]] bool inside_frame() const { return buffer_.size() > consumed_; }

 private:
  std::string buffer_;
  std::size_t consumed_ = 0;
  std::optional<Error> broken_;
};

enum class ChecksumKind : std::uint8_t { Crc32c, Crc32 };
/// "crc32c" or "crc32": the key in an ACK.
[[nodiscard]] std::string_view checksum_name(ChecksumKind kind);

/// The checksum of a state so far; each state frame carries it as it is after that frame's data, so
/// that a lost, repeated or reordered frame shows, and the last one covers the whole state.
class RunningChecksum {
 public:
  explicit RunningChecksum(ChecksumKind kind) : kind_(kind) {}
  void update(std::string_view data);
  [[nodiscard]] std::uint32_t value() const { return value_; }
  [[nodiscard]] ChecksumKind kind() const { return kind_; }

 private:
  ChecksumKind kind_;
  std::uint32_t value_ = 0;
};

/// CRC-32 as zlib and binascii compute it (ISO 3309), eight bytes a step.
[[nodiscard]] std::uint32_t crc32_zlib(std::string_view bytes, std::uint32_t crc = 0);

/// A state frame taken apart.
struct StatePart {
  std::uint32_t checksum = 0;
  std::string_view data;  ///< Into the frame's payload.
};
/// ProtocolViolation when the payload has no room for its checksum.
[[nodiscard]] Result<StatePart> split_state(Frame const& frame);
/// Header and checksum of a state frame: what goes before its data. Updates `checksum` with `data`.
[[nodiscard]] std::array<char, kFrameHeaderBytes + 4> encode_state_prefix(FrameType type,
                                                                          std::uint16_t flags,
                                                                          RunningChecksum& checksum,
                                                                          std::string_view data);

}  // namespace aether::relay
