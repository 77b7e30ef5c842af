// SPDX-License-Identifier: Apache-2.0
#include "base/pattern.h"

#include <regex.h>

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace aether {

struct Pattern::Compiled {
  Compiled() = default;
  Compiled(Compiled const&) = delete;
  Compiled& operator=(Compiled const&) = delete;
  ~Compiled() {
    if (valid) ::regfree(&expression);
  }
  regex_t expression{};
  bool valid = false;
};

namespace {

/// What is in the pattern that may not be, or an empty text. A backslash takes the next byte's
/// meaning away, in a bracket expression it does not (man 7 regex).
std::string_view forbidden_part(std::string_view text) {
  bool in_brackets = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char const c = text[i];
    if (c == '\0') return "a NUL byte";
    if (in_brackets) {
      in_brackets = c != ']';
    } else if (c == '\\' && i + 1 < text.size()) {
      char const next = text[++i];
      if (next >= '0' && next <= '9') return "a back reference such as \\1";
    } else if (c == '{') {
      return "a counted repetition such as {2,3}; write it out, or \\{ for the character";
    } else if (c == '[') {
      in_brackets = true;
      if (i + 1 < text.size() && text[i + 1] == '^') ++i;
      if (i + 1 < text.size() && text[i + 1] == ']') ++i;  // "[]a]" holds a bracket
    }
  }
  return {};
}

}  // namespace

Pattern::Pattern(std::shared_ptr<Compiled const> compiled) : compiled_(std::move(compiled)) {}

Result<Pattern> Pattern::compile(std::string text) {
  auto const refuse = [&](std::string_view why) {
    return fail(ErrorCode::ConfigInvalid,
                fmt::format("\"{}\" is not a pattern that can be used: {}", text, why));
  };
  if (text.empty()) return refuse("it is empty, and would be found in every line");
  if (text.size() > kPatternBytesMax)
    return refuse(fmt::format("it is longer than {} bytes", kPatternBytesMax));
  if (std::string_view const part = forbidden_part(text); !part.empty()) {
    return refuse(fmt::format("it has {}", part));
  }
  auto compiled = std::make_shared<Compiled>();
  int const problem = ::regcomp(&compiled->expression, text.c_str(), REG_EXTENDED | REG_NOSUB);
  if (problem != 0) {
    std::array<char, 128> words{};
    ::regerror(problem, &compiled->expression, words.data(), words.size());
    return refuse(words.data());
  }
  compiled->valid = true;
  return Pattern(std::move(compiled));
}

bool Pattern::found_in(std::string_view text) const {
  text = text.substr(0, kPatternTextBytesMax);
  regmatch_t range{.rm_so = 0, .rm_eo = static_cast<regoff_t>(text.size())};
  // REG_STARTEND takes the length from `range`: the text need not end with NUL, and may have some.
  return ::regexec(&compiled_->expression, text.empty() ? "" : text.data(), 1, &range,
                   REG_STARTEND) == 0;
}

}  // namespace aether
