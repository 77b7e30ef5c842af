// SPDX-License-Identifier: Apache-2.0
// Pattern: a regular expression that is safe to hold against text of others. POSIX extended syntax
// (man 7 regex) without what makes matching or compiling it take unbounded time or memory: counted
// repetitions, {n,m}, and back references, \1.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace aether {

/// Of a pattern. It is written by hand: longer ones are mistakes.
inline constexpr std::size_t kPatternBytesMax = 256;
/// Of a text only so much is looked at.
inline constexpr std::size_t kPatternTextBytesMax = std::size_t{8} * 1024;

/// Copies share the compiled expression.
class Pattern {
 public:
  /// ConfigInvalid, saying what is wrong with it.
  [[nodiscard]] static Result<Pattern> compile(std::string text);
  /// Whether it is found anywhere in the text. Any bytes may be in it.
  [[nodiscard]] bool found_in(std::string_view text) const;

 private:
  struct Compiled;
  explicit Pattern(std::shared_ptr<Compiled const> compiled);
  std::shared_ptr<Compiled const> compiled_;
};

}  // namespace aether
