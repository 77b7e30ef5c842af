// SPDX-License-Identifier: Apache-2.0
#include "journal/json_extent.h"

#include <bitset>
#include <cstdint>

#include "journal/limits.h"

namespace aether::journal {
namespace {

bool is_digit(char letter) {
  return letter >= '0' && letter <= '9';
}
bool is_hex(char letter) {
  return is_digit(letter) || (letter >= 'a' && letter <= 'f') || (letter >= 'A' && letter <= 'F');
}

/// Bytes of the UTF-8 character that begins here; 0 if it is none (RFC 3629 section 4).
std::size_t utf8_length(std::string_view text) {
  auto const byte = [&](std::size_t at) {
    return at < text.size() ? static_cast<std::uint8_t>(text[at]) : 0U;
  };
  auto const follows = [&](std::size_t at) { return (byte(at) & 0xC0U) == 0x80U; };
  unsigned const first = byte(0);
  unsigned const second = byte(1);
  if (first >= 0xC2 && first <= 0xDF) return follows(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    bool const shortest = first != 0xE0 || second >= 0xA0;
    bool const no_surrogate = first != 0xED || second < 0xA0;
    return shortest && no_surrogate && follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    bool const shortest = first != 0xF0 || second >= 0x90;
    bool const in_range = first != 0xF4 || second < 0x90;
    return shortest && in_range && follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  std::optional<std::size_t> scan() {
    while (true) {
      if (!begin_value()) return std::nullopt;
      if (opened_) continue;
      while (depth_ > 0 && end_container()) {
      }
      if (depth_ == 0) return at_;
      if (!next_member()) return std::nullopt;
    }
  }

 private:
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char letter) {
    if (at_ >= text_.size() || text_[at_] != letter) return false;
    ++at_;
    return true;
  }
  bool take(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  /// A whole scalar or empty container, or the opening of one with members (opened_).
  bool begin_value() {
    opened_ = false;
    switch (peek()) {
      case '{':
      case '[':
        return open();
      case '"':
        return string();
      case 't':
        return take("true");
      case 'f':
        return take("false");
      case 'n':
        return take("null");
      default:
        return number();
    }
  }

  bool open() {
    bool const is_object = peek() == '{';
    ++at_;
    if (take(is_object ? '}' : ']')) return true;
    if (depth_ == kJsonDepthMax) return false;
    objects_[depth_++] = is_object;
    opened_ = true;
    return !is_object || name();
  }

  bool end_container() {
    if (!take(objects_[depth_ - 1] ? '}' : ']')) return false;
    --depth_;
    return true;
  }

  bool next_member() { return take(',') && (!objects_[depth_ - 1] || name()); }
  bool name() { return string() && take(':'); }

  bool string() {
    if (!take('"')) return false;
    while (at_ < text_.size()) {
      auto const letter = static_cast<std::uint8_t>(text_[at_]);
      if (letter == '"') return take('"');
      if (letter < 0x20) return false;
      if (letter == '\\') {
        if (!escape()) return false;
        continue;
      }
      std::size_t const length = letter < 0x80 ? 1 : utf8_length(text_.substr(at_));
      if (length == 0) return false;
      at_ += length;
    }
    return false;
  }

  bool escape() {
    ++at_;
    if (take('u')) {
      for (int i = 0; i < 4; ++i, ++at_) {
        if (!is_hex(peek())) return false;
      }
      return true;
    }
    bool const known = at_ < text_.size() && std::string_view("\"\\/bfnrt").contains(text_[at_]);
    ++at_;
    return known;
  }

  bool digits() {
    std::size_t const begin = at_;
    while (is_digit(peek())) ++at_;
    return at_ > begin;
  }

  bool number() {
    take('-');
    if (!take('0') && !digits()) return false;
    if (take('.') && !digits()) return false;
    if (peek() != 'e' && peek() != 'E') return true;
    ++at_;
    if (!take('+')) take('-');
    return digits();
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;
  bool opened_ = false;
  std::bitset<kJsonDepthMax> objects_;  ///< Which of the open containers are objects.
};

}  // namespace

std::optional<std::size_t> json_extent(std::string_view text) {
  return Scanner(text).scan();
}

}  // namespace aether::journal
