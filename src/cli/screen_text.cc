// SPDX-License-Identifier: Apache-2.0
#include "cli/screen_text.h"

#include <algorithm>
#include <array>
#include <utility>

namespace aether::cli {

std::string plain_ascii(std::string_view text) {
  std::string plain;
  for (unsigned char const c : text) {
    bool const continues = (c & 0xC0U) == 0x80U;
    if (!continues) plain += c >= ' ' && c < 0x7F ? static_cast<char>(c) : '?';
  }
  return plain;
}

std::string cut(std::string_view text, std::size_t width) {
  std::size_t end = 0;
  for (std::size_t seen = 0; end < text.size(); ++end) {
    bool const begins = (static_cast<unsigned char>(text[end]) & 0xC0U) != 0x80U;
    if (begins && seen++ == width) break;
  }
  return std::string(text.substr(0, end));
}

std::string fit(std::string_view text, std::size_t width, Align align) {
  std::string fitted = cut(text, width);
  std::string const space(width - width_of(fitted), ' ');
  return align == Align::Left ? fitted + space : space + fitted;
}

ScreenLine line(std::string text, Style style) {
  return {{std::move(text), style}};
}

std::vector<std::string> wrapped(std::string text, std::size_t width) {
  std::vector<std::string> lines;
  while (text.size() > width) {
    std::size_t const space = text.rfind(' ', width);
    bool const breaks = space != std::string::npos && space > 0;
    lines.push_back(text.substr(0, breaks ? space : width));
    text.erase(0, breaks ? space + 1 : width);
  }
  lines.push_back(std::move(text));
  return lines;
}

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string sparkline(std::deque<std::optional<Duration>> const& values, std::size_t width,
                      Charset charset) {
  constexpr std::array<std::string_view, 8> kBars{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  constexpr std::array<std::string_view, 8> kPlain{".", ":", "-", "=", "+", "*", "#", "@"};
  auto const& levels = charset == Charset::Unicode ? kBars : kPlain;
  std::size_t const shown = std::min(width, values.size());
  auto const first = values.end() - static_cast<std::ptrdiff_t>(shown);
  Duration highest{1};
  for (auto value = first; value != values.end(); ++value) {
    highest = std::max(highest, value->value_or(Duration::zero()));
  }
  std::string text(width - shown, ' ');
  for (auto value = first; value != values.end(); ++value) {
    if (!*value) {
      text += ' ';
      continue;
    }
    double const share = to_seconds(**value) / to_seconds(highest);
    auto const level = static_cast<std::size_t>(share * static_cast<double>(levels.size()));
    text += levels[std::min(level, levels.size() - 1)];
  }
  return text;
}

}  // namespace aether::cli
