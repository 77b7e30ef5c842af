// SPDX-License-Identifier: Apache-2.0
#include "clone/image_wire.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace aether::clone {
namespace {

constexpr std::size_t kVarintMax = 10;
constexpr std::size_t kMagicBytes = 8;

std::optional<std::uint64_t> take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < std::min(bytes.size(), kVarintMax); ++i) {
    auto const byte = static_cast<unsigned char>(bytes[i]);
    value |= std::uint64_t{byte & 0x7FU} << (7 * i);
    if ((byte & 0x80U) != 0) continue;
    bytes.remove_prefix(i + 1);
    return value;
  }
  return std::nullopt;
}

void append_varint(std::string& text, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) text += static_cast<char>(0x80U | (value & 0x7FU));
  text += static_cast<char>(value);
}

std::optional<std::string_view> take_bytes(std::string_view& bytes, std::uint64_t count) {
  if (count > bytes.size()) return std::nullopt;
  std::string_view const taken = bytes.substr(0, count);
  bytes.remove_prefix(count);
  return taken;
}

bool take_value(std::string_view& rest, WireField& field) {
  switch (field.kind) {
    case WireField::Kind::Varint: {
      auto const value = take_varint(rest);
      field.value = value.value_or(0);
      return value.has_value();
    }
    case WireField::Kind::Fixed64:
      return take_bytes(rest, 8).has_value();
    case WireField::Kind::Fixed32:
      return take_bytes(rest, 4).has_value();
    case WireField::Kind::Bytes: {
      auto const length = take_varint(rest);
      auto const bytes = length ? take_bytes(rest, *length) : std::nullopt;
      field.bytes = bytes.value_or(std::string_view());
      return bytes.has_value();
    }
  }
  return false;
}

}  // namespace

std::optional<std::vector<WireField>> read_message(std::string_view bytes) {
  std::vector<WireField> fields;
  std::string_view rest = bytes;
  while (!rest.empty()) {
    std::string_view const begin = rest;
    auto const tag = take_varint(rest);
    if (!tag || *tag >> 3 == 0 || *tag >> 3 > UINT32_MAX) return std::nullopt;
    WireField field{.number = static_cast<std::uint32_t>(*tag >> 3),
                    .kind = static_cast<WireField::Kind>(*tag & 7U),
                    .bytes = {},
                    .whole = {}};
    if (!take_value(rest, field)) return std::nullopt;
    field.whole = begin.substr(0, begin.size() - rest.size());
    fields.push_back(field);
  }
  return fields;
}

std::optional<std::uint64_t> find_number(std::vector<WireField> const& fields,
                                         std::uint32_t number) {
  auto const found = std::ranges::find_if(fields, [&](WireField const& field) {
    return field.number == number && field.kind == WireField::Kind::Varint;
  });
  return found == fields.end() ? std::nullopt : std::optional(found->value);
}

std::optional<std::string_view> find_bytes(std::vector<WireField> const& fields,
                                           std::uint32_t number) {
  auto const found = std::ranges::find_if(fields, [&](WireField const& field) {
    return field.number == number && field.kind == WireField::Kind::Bytes;
  });
  return found == fields.end() ? std::nullopt : std::optional(found->bytes);
}

void append_number(std::string& message, std::uint32_t number, std::uint64_t value) {
  append_varint(message, std::uint64_t{number} << 3);
  append_varint(message, value);
}

void append_bytes(std::string& message, std::uint32_t number, std::string_view bytes) {
  append_varint(message,
                (std::uint64_t{number} << 3) | static_cast<unsigned>(WireField::Kind::Bytes));
  append_varint(message, bytes.size());
  message += bytes;
}

Result<ImageFile> read_image_file(std::string_view bytes, std::string_view name) {
  auto const torn = [&] {
    return fail(ErrorCode::ChecksumMismatch, fmt::format("{} is no image file of CRIU", name));
  };
  if (bytes.size() < kMagicBytes) return torn();
  ImageFile file{.magic = bytes.substr(0, kMagicBytes), .messages = {}};
  bytes.remove_prefix(kMagicBytes);
  while (!bytes.empty()) {
    std::uint32_t length = 0;
    if (bytes.size() < sizeof(length)) return torn();
    std::memcpy(&length, bytes.data(), sizeof(length));
    bytes.remove_prefix(sizeof(length));
    auto const message = take_bytes(bytes, length);
    if (!message) return torn();
    file.messages.push_back(*message);
  }
  return file;
}

void append_message(std::string& file, std::string_view message) {
  auto const length = static_cast<std::uint32_t>(message.size());
  char bytes[sizeof(length)];
  std::memcpy(bytes, &length, sizeof(length));
  file.append(bytes, sizeof(length));
  file += message;
}

}  // namespace aether::clone
