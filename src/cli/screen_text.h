// SPDX-License-Identifier: Apache-2.0
// Text for a screen: pieces with a style, cut and filled to a width. Pure. Each character of UTF-8
// is taken to be one column wide; plain_ascii makes that true of what comes from outside.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"

namespace aether::cli {

/// What a piece of text is; the terminal decides how that looks.
enum class Style : std::uint8_t { Plain, Title, Heading, Selected, Good, Bad, Dim };
struct Span {
  std::string text;
  Style style = Style::Plain;
  friend bool operator==(Span const&, Span const&) = default;
};
using ScreenLine = std::vector<Span>;
enum class Align : std::uint8_t { Left, Right };
enum class Charset : std::uint8_t { Ascii, Unicode };

[[nodiscard]] ScreenLine line(std::string text, Style style = Style::Plain);
/// Characters of UTF-8 text.
[[nodiscard]] std::size_t width_of(std::string_view text);
/// Each character that is not of ASCII, or could move the cursor, as a question mark.
[[nodiscard]] std::string plain_ascii(std::string_view text);
/// The first `width` characters.
[[nodiscard]] std::string cut(std::string_view text, std::size_t width);
/// Exactly `width` characters.
[[nodiscard]] std::string fit(std::string_view text, std::size_t width, Align align = Align::Left);
/// Lines of at most `width` bytes of ASCII, broken at spaces where there are any.
[[nodiscard]] std::vector<std::string> wrapped(std::string text, std::size_t width);
/// The last `width` of these as bars, the highest one as high as a line; spaces for nothing.
[[nodiscard]] std::string sparkline(std::deque<std::optional<Duration>> const& values,
                                    std::size_t width, Charset charset);

}  // namespace aether::cli
