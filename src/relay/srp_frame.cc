// SPDX-License-Identifier: Apache-2.0
#include "relay/srp_frame.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/checksum.h"

namespace aether::relay {
namespace {

/// What the length field counts besides the payload: magic, version, type, flags.
constexpr std::size_t kLengthOverhead = kFrameHeaderBytes - 4;
/// Below this much dead space in front it is not worth moving what is behind it.
constexpr std::size_t kCompactBytes = std::size_t{64} << 10;

void put_u32(char* to, std::uint32_t value) {
  to[0] = static_cast<char>(value >> 24);
  to[1] = static_cast<char>(value >> 16);
  to[2] = static_cast<char>(value >> 8);
  to[3] = static_cast<char>(value);
}

std::uint32_t get_u32(char const* from) {
  auto byte = [&](int i) { return std::uint32_t{static_cast<unsigned char>(from[i])}; };
  return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

bool is_known(FrameType type) {
  return frame_name(type) != "?";
}

std::uint16_t allowed_flags(FrameType type) {
  if (type == FrameType::StateBytes) return kMore | kCrc32 | kPickle;
  return carries_state(type) ? kMore | kCrc32 : 0;
}

std::size_t payload_max(FrameType type) {
  return carries_state(type) ? kStatePayloadMax : kControlPayloadMax;
}

Error frame_violation(std::string what) {
  return {ErrorCode::ProtocolViolation, std::move(what)};
}

struct Header {
  FrameType type;
  std::uint16_t flags;
  std::size_t payload_bytes;
};

Result<Header> parse_header(char const* bytes) {
  std::uint32_t const length = get_u32(bytes);
  std::uint32_t const magic = get_u32(bytes + 4);
  if (magic != kFrameMagic) {
    return fail(frame_violation(fmt::format(
        "a frame begins with magic 0x{:08X} instead of 0x{:08X}; the peer does not speak SRP",
        magic, kFrameMagic)));
  }
  auto const version = static_cast<unsigned char>(bytes[8]);
  if (version != kFrameVersion) {
    return fail(frame_violation(fmt::format("a frame has version {}; this Aether speaks version {}",
                                            version, kFrameVersion)));
  }
  auto const type = static_cast<FrameType>(static_cast<unsigned char>(bytes[9]));
  if (!is_known(type)) {
    return fail(frame_violation(
        fmt::format("a frame has the unknown type 0x{:02X}", static_cast<unsigned>(type))));
  }
  auto const flags = static_cast<std::uint16_t>(get_u32(bytes + 8) & 0xFFFF);
  if ((flags & ~allowed_flags(type)) != 0) {
    return fail(frame_violation(
        fmt::format("a {} frame has flags 0x{:04X} that it cannot have", frame_name(type), flags)));
  }
  if (length < kLengthOverhead || length - kLengthOverhead > payload_max(type)) {
    return fail(frame_violation(fmt::format("a {} frame says its length is {}; it must be {} to {}",
                                            frame_name(type), length, kLengthOverhead,
                                            kLengthOverhead + payload_max(type))));
  }
  return Header{type, flags, length - kLengthOverhead};
}

constexpr std::array<std::array<std::uint32_t, 256>, 8> make_crc_tables() {
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t crc = n;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0xEDB88320U : 0U);
    tables[0][n] = crc;
  }
  for (std::size_t n = 0; n < 256; ++n) {
    for (std::size_t slice = 1; slice < 8; ++slice) {
      std::uint32_t const before = tables[slice - 1][n];
      tables[slice][n] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}
constexpr auto kCrcTables = make_crc_tables();

std::uint32_t load_le32(char const* from) {
  auto byte = [&](int i) { return std::uint32_t{static_cast<unsigned char>(from[i])}; };
  return byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
}

}  // namespace

std::string_view frame_name(FrameType type) {
  switch (type) {
    case FrameType::Hello:
      return "HELLO";
    case FrameType::StateJson:
      return "STATE_JSON";
    case FrameType::StateProtobuf:
      return "STATE_PROTOBUF";
    case FrameType::StateBytes:
      return "STATE_BYTES";
    case FrameType::StateFd:
      return "STATE_FD";
    case FrameType::ConnectionFd:
      return "CONNECTION_FD";
    case FrameType::Listen:
      return "LISTEN";
    case FrameType::Export:
      return "EXPORT";
    case FrameType::Resume:
      return "RESUME";
    case FrameType::Release:
      return "RELEASE";
    case FrameType::Checkpoint:
      return "CHECKPOINT";
    case FrameType::Load:
      return "LOAD";
    case FrameType::Drain:
      return "DRAIN";
    case FrameType::Error:
      return "ERROR";
    case FrameType::Ack:
      return "ACK";
  }
  return "?";
}

bool carries_state(FrameType type) {
  return type == FrameType::StateJson || type == FrameType::StateProtobuf ||
         type == FrameType::StateBytes;
}

std::array<char, kFrameHeaderBytes> encode_header(FrameType type, std::uint16_t flags,
                                                  std::size_t payload_bytes) {
  AETHER_CHECK(payload_bytes <= payload_max(type), "{} bytes in a {} frame", payload_bytes,
               frame_name(type));
  AETHER_CHECK((flags & ~allowed_flags(type)) == 0);
  std::array<char, kFrameHeaderBytes> header{};
  put_u32(header.data(), static_cast<std::uint32_t>(kLengthOverhead + payload_bytes));
  put_u32(header.data() + 4, kFrameMagic);
  put_u32(header.data() + 8, std::uint32_t{kFrameVersion} << 24 |
                                 static_cast<std::uint32_t>(type) << 16 | std::uint32_t{flags});
  return header;
}

std::string encode(Frame const& frame) {
  auto const header = encode_header(frame.type, frame.flags, frame.payload.size());
  std::string bytes;
  bytes.reserve(header.size() + frame.payload.size());
  bytes.append(header.data(), header.size());
  bytes.append(frame.payload);
  return bytes;
}

void FrameDecoder::feed(std::string_view bytes) {
  if (broken_) return;
  if (consumed_ >= kCompactBytes || consumed_ == buffer_.size()) {
    buffer_.erase(0, consumed_);
    consumed_ = 0;
  }
  buffer_.append(bytes);
}

Result<std::optional<Frame>> FrameDecoder::next() {
  if (broken_) return fail(*broken_);
  std::size_t const available = buffer_.size() - consumed_;
  if (available < kFrameHeaderBytes) return std::nullopt;
  char const* const start = buffer_.data() + consumed_;
  auto const header = parse_header(start);
  if (!header) {
    broken_ = header.error();
    return fail(*broken_);
  }
  if (available - kFrameHeaderBytes < header->payload_bytes) return std::nullopt;
  Frame frame{header->type, header->flags,
              std::string(start + kFrameHeaderBytes, header->payload_bytes)};
  consumed_ += kFrameHeaderBytes + header->payload_bytes;
  return frame;
}

std::string_view checksum_name(ChecksumKind kind) {
  return kind == ChecksumKind::Crc32 ? "crc32" : "crc32c";
}

void RunningChecksum::update(std::string_view data) {
  value_ = kind_ == ChecksumKind::Crc32 ? crc32_zlib(data, value_) : crc32c(data, value_);
}

std::uint32_t crc32_zlib(std::string_view bytes, std::uint32_t crc) {
  crc = ~crc;
  char const* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    std::uint32_t const low = load_le32(at) ^ crc;
    std::uint32_t const high = load_le32(at + 4);
    crc = kCrcTables[7][low & 0xFF] ^ kCrcTables[6][(low >> 8) & 0xFF] ^
          kCrcTables[5][(low >> 16) & 0xFF] ^ kCrcTables[4][low >> 24] ^
          kCrcTables[3][high & 0xFF] ^ kCrcTables[2][(high >> 8) & 0xFF] ^
          kCrcTables[1][(high >> 16) & 0xFF] ^ kCrcTables[0][high >> 24];
  }
  for (; left > 0; --left, ++at) {
    crc = (crc >> 8) ^ kCrcTables[0][(crc ^ static_cast<unsigned char>(*at)) & 0xFF];
  }
  return ~crc;
}

Result<StatePart> split_state(Frame const& frame) {
  if (!carries_state(frame.type) || frame.payload.size() < 4) {
    return fail(
        frame_violation(fmt::format("a {} frame of {} bytes has no checksum before its data",
                                    frame_name(frame.type), frame.payload.size())));
  }
  return StatePart{get_u32(frame.payload.data()), std::string_view(frame.payload).substr(4)};
}

std::array<char, kFrameHeaderBytes + 4> encode_state_prefix(FrameType type, std::uint16_t flags,
                                                            RunningChecksum& checksum,
                                                            std::string_view data) {
  if (checksum.kind() == ChecksumKind::Crc32) flags |= kCrc32;
  checksum.update(data);
  auto const header = encode_header(type, flags, data.size() + 4);
  std::array<char, kFrameHeaderBytes + 4> prefix{};
  std::ranges::copy(header, prefix.begin());
  put_u32(prefix.data() + kFrameHeaderBytes, checksum.value());
  return prefix;
}

}  // namespace aether::relay
