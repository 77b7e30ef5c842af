// SPDX-License-Identifier: Apache-2.0
// The log: one line an event, to stderr, an output of the process's, or a sink of the test's.
// Thread-safe.
#pragma once
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace aether::log {

enum class Level : std::uint8_t { Debug, Info, Warn, Error, Off };

/// Lines below this level are dropped before they are formatted.
void set_level(Level level);
[[nodiscard]] Level level();
/// Takes the lines instead of stderr; an empty function restores it. For tests.
using Sink = std::function<void(Level, std::string_view)>;
void set_sink(Sink sink);
/// Takes what would be written to stderr, whole lines with time and level. For a process that must
/// not wait until somebody reads its stderr. False: it does not want them now, stderr gets them.
using Output = std::function<bool(std::string_view bytes)>;
void set_output(Output output);
void write(Level level, std::string_view line);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (level() <= Level::Debug)
    write(Level::Debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (level() <= Level::Info) write(Level::Info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  if (level() <= Level::Warn) write(Level::Warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (level() <= Level::Error)
    write(Level::Error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace aether::log
