// SPDX-License-Identifier: Apache-2.0
#include "journal/hash.h"

#include <memory>

#include <openssl/evp.h>

#include "base/check.h"

namespace aether::journal {
namespace {

constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A context a thread: making one costs more than hashing an event.
struct Digest {
  std::unique_ptr<EVP_MD, decltype(&EVP_MD_free)> md{EVP_MD_fetch(nullptr, "SHA256", nullptr),
                                                     EVP_MD_free};
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free};
};

int base64_value(char letter) {
  std::size_t const at = kBase64.find(letter);
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

}  // namespace

std::optional<Hash> Hash::from(std::string_view bytes) {
  Hash hash;
  if (bytes.size() != hash.bytes.size()) return std::nullopt;
  std::copy(bytes.begin(), bytes.end(), hash.bytes.begin());
  return hash;
}

Hash sha256(std::initializer_list<std::string_view> parts) {
  thread_local Digest digest;
  AETHER_CHECK(digest.md && digest.context, "this OpenSSL has no SHA-256");
  Hash hash;
  bool done = EVP_DigestInit_ex2(digest.context.get(), digest.md.get(), nullptr) == 1;
  for (std::string_view const part : parts) {
    done = done && EVP_DigestUpdate(digest.context.get(), part.data(), part.size()) == 1;
  }
  done = done && EVP_DigestFinal_ex(digest.context.get(), hash.bytes.data(), nullptr) == 1;
  AETHER_CHECK(done, "SHA-256 failed");
  return hash;
}

std::string to_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::size_t const count = std::min<std::size_t>(3, bytes.size() - at);
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8U | (i < count ? static_cast<std::uint8_t>(bytes[at + i]) : 0U);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text += i <= count ? kBase64[group >> (18 - 6 * i) & 63U] : '=';
    }
  }
  return text;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  std::uint32_t group = 0;
  std::size_t const padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    bool const is_padding = at >= text.size() - padding;
    int const value = is_padding ? 0 : base64_value(text[at]);
    if (value < 0) return std::nullopt;
    group = group << 6U | static_cast<std::uint32_t>(value);
    if (at % 4 != 3) continue;
    for (int shift : {16, 8, 0}) bytes += static_cast<char>(group >> shift & 255U);
    group = 0;
  }
  bytes.resize(bytes.size() - padding);
  // Bits below the padding must be zero, or one text more would mean the same bytes.
  if (padding > 0 && to_base64(std::string_view(bytes).substr((text.size() / 4 - 1) * 3)) !=
                         text.substr(text.size() - 4)) {
    return std::nullopt;
  }
  return bytes;
}

std::string to_hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (char const byte : bytes) {
    text += kDigits[static_cast<std::uint8_t>(byte) >> 4U];
    text += kDigits[static_cast<std::uint8_t>(byte) & 15U];
  }
  return text;
}

std::string text_of(Hash const& hash) {
  return to_base64(hash.view());
}

std::optional<Hash> hash_of_text(std::string_view text) {
  std::optional<std::string> const bytes = from_base64(text);
  return bytes ? Hash::from(*bytes) : std::nullopt;
}

}  // namespace aether::journal
