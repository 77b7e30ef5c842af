// SPDX-License-Identifier: Apache-2.0
#include "cli/terminal.h"

#include <unistd.h>

#include <cstdlib>

namespace aether::cli {

bool is_terminal(std::FILE* stream) {
  return ::isatty(::fileno(stream)) == 1;
}

Paint paint_for(std::FILE* stream) {
  char const* const term = std::getenv("TERM");
  bool const dumb = term == nullptr || std::string_view(term) == "dumb";
  char const* const no_colour = std::getenv("NO_COLOR");
  bool const forbidden = no_colour != nullptr && *no_colour != '\0';
  if (!is_terminal(stream) || dumb || forbidden) return {};
  return {.red = "\x1b[31m",
          .green = "\x1b[32m",
          .yellow = "\x1b[33m",
          .dim = "\x1b[2m",
          .bold = "\x1b[1m",
          .reset = "\x1b[0m"};
}

}  // namespace aether::cli
