// SPDX-License-Identifier: Apache-2.0
// What the terminal can show. Colour only on terminals, and not if NO_COLOR is set.
#pragma once
#include <cstdio>
#include <string_view>

namespace aether::cli {

/// Escape sequences, or nothing.
struct Paint {
  std::string_view red;
  std::string_view green;
  std::string_view yellow;
  std::string_view dim;
  std::string_view bold;
  std::string_view reset;
};
[[nodiscard]] Paint paint_for(std::FILE* stream);
/// Whether the stream is a terminal that a person reads.
[[nodiscard]] bool is_terminal(std::FILE* stream);

}  // namespace aether::cli
