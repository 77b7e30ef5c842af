// SPDX-License-Identifier: Apache-2.0
#include "functions/ring_message.h"

#include <fmt/format.h>

namespace aether::functions {
namespace {

std::uint32_t byte_at(std::string_view bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]);
}

std::uint32_t word_at(std::string_view bytes, std::size_t at) {
  return byte_at(bytes, at) | byte_at(bytes, at + 1) << 8U | byte_at(bytes, at + 2) << 16U |
         byte_at(bytes, at + 3) << 24U;
}

constexpr std::size_t kKindAt = 4;
constexpr std::size_t kFlagsAt = 5;
constexpr std::size_t kReservedAt = 6;

}  // namespace

std::expected<RingMessage, std::string> parse_ring_message(std::string_view record) {
  if (record.size() < kRingMessageHead)
    return std::unexpected(fmt::format("a message of {} bytes", record.size()));
  std::uint32_t const kind = byte_at(record, kKindAt);
  std::uint32_t const flags = byte_at(record, kFlagsAt);
  if (kind < static_cast<std::uint32_t>(RingKind::Hello) ||
      kind > static_cast<std::uint32_t>(RingKind::Failure))
    return std::unexpected(fmt::format("a message of kind {}, which there is not", kind));
  if (flags > (RingMessage::kEnd | RingMessage::kMore) ||
      flags == (RingMessage::kEnd | RingMessage::kMore))
    return std::unexpected(fmt::format("a message with flags {:#x}", flags));
  if (byte_at(record, kReservedAt) != 0 || byte_at(record, kReservedAt + 1) != 0)
    return std::unexpected(std::string("a message whose reserved bytes are not 0"));
  return RingMessage{.call = word_at(record, 0),
                     .kind = static_cast<RingKind>(kind),
                     .end = (flags & RingMessage::kEnd) != 0,
                     .more = (flags & RingMessage::kMore) != 0,
                     .content = record.substr(kRingMessageHead)};
}

std::string write_ring_number(std::uint32_t number) {
  std::string bytes;
  for (unsigned shift = 0; shift < 32; shift += 8)
    bytes.push_back(static_cast<char>((number >> shift) & 0xFFU));
  return bytes;
}

std::string write_ring_message(RingMessage const& message) {
  std::string bytes;
  bytes.reserve(kRingMessageHead + message.content.size());
  bytes += write_ring_number(message.call);
  bytes.push_back(static_cast<char>(message.kind));
  unsigned const flags =
      (message.end ? RingMessage::kEnd : 0U) | (message.more ? RingMessage::kMore : 0U);
  bytes.push_back(static_cast<char>(flags));
  bytes.append(2, '\0');
  bytes.append(message.content);
  return bytes;
}

std::expected<std::uint32_t, std::string> ring_number(std::string_view content) {
  if (content.size() < 4)
    return std::unexpected(fmt::format("a number of {} bytes", content.size()));
  return word_at(content, 0);
}

}  // namespace aether::functions
