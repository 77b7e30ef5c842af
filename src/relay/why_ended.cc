// SPDX-License-Identifier: Apache-2.0
#include "relay/why_ended.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "supervise/printable.h"

namespace aether::relay {
namespace {

std::string what_happened(supervise::event::Exited const& exited) {
  switch (exited.cause) {
    case supervise::EndCause::ReadyTimeout:
      return exited.late.empty() ? "was not ready in time" : exited.late;
    case supervise::EndCause::Watchdog:
      return "missed its watchdog";
    case supervise::EndCause::Itself:
    case supervise::EndCause::Asked:
      break;
  }
  return exited.status.describe();
}

/// A service that ended well after it had served says nothing with its last lines.
bool tells_lines(supervise::event::Exited const& exited) {
  return !exited.was_ready || !exited.status.success();
}

bool wrote(supervise::event::Exited const& exited, std::string_view text) {
  return std::ranges::any_of(exited.last_lines,
                             [&](std::string const& line) { return line.contains(text); });
}

std::string_view port_hint(EndSurroundings const& around) {
  if (around.listeners == EndSurroundings::Listeners::Held)
    return "it binds its port by itself, but Aether holds that port for it (fd 3); let it take the "
           "listener from LISTEN_FDS or by {fd:NAME} in its command; or, for a program that "
           "cannot, set listen: none and orchestration: {mode: run}";
  if (around.neighbour == EndSurroundings::Neighbour::OldRevision)
    return "it binds its port by itself, and the old revision has that port still; set "
           "orchestration: {mode: run}, which stops the old one first; or give the service "
           "listen: and let the program take the listener (LISTEN_FDS), then both run side by side";
  return "another program has that port; `ss -ltnp` shows which";
}

}  // namespace

std::string why_ended(supervise::event::Exited const& exited, EndSurroundings const& around) {
  std::string why = what_happened(exited);
  if (!exited.reported.empty()) why += fmt::format("; it reported {}", exited.reported);
  if (tells_lines(exited)) {
    for (std::string const& line : exited.last_lines)
      why += fmt::format("{}{}", supervise::kQuoted, supervise::excerpt(line));
  }
  auto const hint = [&](std::string_view text) { why += fmt::format("\n  hint: {}", text); };
  if (exited.left_processes && !exited.was_ready && exited.status.success())
    hint(
        "it went to the background; run it in the foreground, or name the file it writes its pid "
        "to: pid_file:");
  if (wrote(exited, "ddress already in use") || wrote(exited, "EADDRINUSE"))
    hint(port_hint(around));
  if (wrote(exited, "No module named 'aeterna"))
    hint(
        "this Python has no Aeterna SDK; run `pip install ./sdk/python` from Aether's repository "
        "for it, or add that folder to PYTHONPATH under env:");
  if (wrote(exited, "Cannot find package 'aetheris'"))
    hint(
        "`import` does not look on NODE_PATH, where Aether puts its library; run `npm install "
        "FOLDER` beside the program with the folder sdk/node/aetheris of Aether (no network is "
        "needed), or require('aetheris')");
  return why;
}

}  // namespace aether::relay
