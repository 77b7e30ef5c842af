// SPDX-License-Identifier: Apache-2.0
#include "supervise/printable.h"

#include <algorithm>

namespace aether::supervise {
namespace {

bool is_continuation(unsigned char byte) {
  return (byte & 0xC0U) == 0x80U;
}

/// The length of the valid UTF-8 character that `bytes` (not empty) begins with; 0 if it is none.
std::size_t character_length(std::string_view bytes) {
  auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  unsigned char const first = at(0);
  if (first < 0x80) return 1;
  std::size_t const length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || bytes.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if (!is_continuation(at(i))) return 0;
  // RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
  if (first == 0xE0 && at(1) < 0xA0) return 0;
  if (first == 0xED && at(1) > 0x9F) return 0;
  if (first == 0xF0 && at(1) < 0x90) return 0;
  if (first == 0xF4 && at(1) > 0x8F) return 0;
  return length;
}

bool is_plain(std::string_view bytes) {
  return std::ranges::all_of(bytes, [](char c) { return c >= 0x20 && c < 0x7F; });
}

}  // namespace

std::string printable(std::string_view bytes, Controls controls) {
  if (is_plain(bytes)) return std::string(bytes);
  std::string text;
  text.reserve(bytes.size() + 16);
  while (!bytes.empty()) {
    std::size_t const length = character_length(bytes);
    auto const first = static_cast<unsigned char>(bytes[0]);
    bool const control = first < 0x20 || first == 0x7F;
    if (length == 0 || (first == 0 && controls == Controls::Keep))
      text += "\xEF\xBF\xBD";
    else if (control && controls == Controls::Replace)
      text += ' ';
    else
      text += bytes.substr(0, length);
    bytes.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return text;
}

std::size_t cut_position(std::string_view bytes, std::size_t limit) {
  if (bytes.size() <= limit) return bytes.size();
  for (std::size_t back = 0; back < 4 && back < limit; ++back)
    if (!is_continuation(static_cast<unsigned char>(bytes[limit - back]))) return limit - back;
  return limit;
}

std::string excerpt(std::string_view line) {
  if (line.size() <= kExcerptMax) return std::string(line);
  return std::string(line.substr(0, cut_position(line, kExcerptMax))) + "...";
}

std::string without_quotes(std::string_view message) {
  std::string rest;
  while (true) {
    std::size_t const quoted = std::min(message.find(kQuoted), message.size());
    rest += message.substr(0, quoted);
    if (quoted == message.size()) return rest;
    message.remove_prefix(quoted + kQuoted.size());
    message.remove_prefix(std::min(message.find('\n'), message.size()));
  }
}

}  // namespace aether::supervise
