// SPDX-License-Identifier: Apache-2.0
// SHA-256, and its texts in base64 and hex.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace aether::journal {

/// A SHA-256.
struct Hash {
  std::array<std::uint8_t, 32> bytes{};
  auto operator<=>(Hash const&) const = default;
  [[nodiscard]] std::string_view view() const {
    return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
  }
  /// From exactly 32 bytes.
  [[nodiscard]] static std::optional<Hash> from(std::string_view bytes);
};

/// The SHA-256 of the parts, one after the other.
[[nodiscard]] Hash sha256(std::initializer_list<std::string_view> parts);

/// RFC 4648 section 4, with padding.
[[nodiscard]] std::string to_base64(std::string_view bytes);
/// Strict: nothing if the text is not what to_base64 gives for some bytes.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);
/// Lower case.
[[nodiscard]] std::string to_hex(std::string_view bytes);

/// A hash as its base64.
[[nodiscard]] std::string text_of(Hash const& hash);
[[nodiscard]] std::optional<Hash> hash_of_text(std::string_view text);

}  // namespace aether::journal

template <>
struct std::hash<aether::journal::Hash> {
  std::size_t operator()(aether::journal::Hash const& value) const {
    return std::hash<std::string_view>()(value.view());
  }
};
