// SPDX-License-Identifier: Apache-2.0
// What a service may be called, and what it is called when the file does not say.
#include <algorithm>
#include <array>

#include "config/resolve.h"

namespace aether::config {

bool is_service_name(std::string_view name) {
  auto const is_alnum = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= 64 && is_alnum(name[0]) &&
         std::ranges::all_of(
             name, [&](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; });
}

std::string default_service_name(Command const& command) {
  constexpr std::array<std::string_view, 13> interpreters{
      "python", "python3", "node", "deno", "bun", "ruby", "perl",
      "php",    "bash",    "sh",   "java", "uv",  "env"};
  constexpr std::array<std::string_view, 2> subcommands{"run", "exec"};
  if (command.empty()) return "service";
  auto const base = [](std::string_view path) { return path.substr(path.rfind('/') + 1); };
  auto const is_interpreter = [&](std::string_view name) {
    return std::ranges::find(interpreters, name) != interpreters.end() ||
           name.starts_with("python3.");
  };
  std::string_view chosen = base(command[0]);
  // Past the interpreter, its options and further interpreters (`env python3 -u x.py`).
  for (std::size_t i = 1; i < command.size() && is_interpreter(base(chosen)); ++i) {
    std::string_view const argument = command[i];
    bool const skipped = argument.empty() || argument.starts_with('-') || argument.contains('=') ||
                         argument.contains(' ') ||
                         std::ranges::find(subcommands, argument) != subcommands.end();
    if (!skipped) chosen = base(argument);
  }
  std::size_t const dot = chosen.rfind('.');
  bool const is_version = chosen.starts_with("python3.");
  if (dot != std::string_view::npos && dot > 0 && !is_version) chosen = chosen.substr(0, dot);
  std::string name(chosen.substr(0, 64));
  for (char& c : name) {
    if (!is_service_name(std::string("a") + c)) c = '-';
  }
  name.erase(0, name.find_first_not_of("-_."));
  return name.empty() ? "service" : name;
}

}  // namespace aether::config
