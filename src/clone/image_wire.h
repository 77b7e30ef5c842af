// SPDX-License-Identifier: Apache-2.0
// The bytes of CRIU's image files: two magic numbers, then messages of protocol buffers, each
// behind its length (32 bits, little-endian). Only as much of protocol buffers as is needed to find
// fields and to write them anew. Pure: what is read may be anybody's bytes.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace aether::clone {

/// One field of a message.
struct WireField {
  enum class Kind : std::uint8_t { Varint = 0, Fixed64 = 1, Bytes = 2, Fixed32 = 5 };
  std::uint32_t number = 0;
  Kind kind = Kind::Varint;
  std::uint64_t value = 0;  ///< Of a number.
  std::string_view bytes;   ///< Of Kind::Bytes.
  std::string_view whole;   ///< As it stands in the message, with its tag.
};

/// All fields of a message, in their order. None: these bytes are no message.
[[nodiscard]] std::optional<std::vector<WireField>> read_message(std::string_view bytes);
/// The number in the first field of that number; none: there is no such field.
[[nodiscard]] std::optional<std::uint64_t> find_number(std::vector<WireField> const& fields,
                                                       std::uint32_t number);
[[nodiscard]] std::optional<std::string_view> find_bytes(std::vector<WireField> const& fields,
                                                         std::uint32_t number);
void append_number(std::string& message, std::uint32_t number, std::uint64_t value);
void append_bytes(std::string& message, std::uint32_t number, std::string_view bytes);

/// An image file: its magic numbers and its messages.
struct ImageFile {
  std::string_view magic;
  std::vector<std::string_view> messages;
};
/// ChecksumMismatch for what is none, with `name` in the message.
[[nodiscard]] Result<ImageFile> read_image_file(std::string_view bytes, std::string_view name);
void append_message(std::string& file, std::string_view message);

}  // namespace aether::clone
