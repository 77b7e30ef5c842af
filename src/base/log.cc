// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <atomic>
#include <memory>
#include <mutex>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace aether::log {
namespace {

std::atomic<Level> minimum{Level::Info};
std::mutex sink_mutex;
Sink custom_sink;

spdlog::logger& stderr_logger() {
  static std::shared_ptr<spdlog::logger> const logger = [] {
    auto made = spdlog::stderr_color_mt("aether");
    made->set_level(spdlog::level::trace);
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%-5l%$ %v");
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::Debug:
      return spdlog::level::debug;
    case Level::Info:
      return spdlog::level::info;
    case Level::Warn:
      return spdlog::level::warn;
    case Level::Error:
      return spdlog::level::err;
    case Level::Off:
      break;
  }
  return spdlog::level::off;
}

}  // namespace

void set_level(Level level) {
  minimum = level;
}
Level level() {
  return minimum.load(std::memory_order_relaxed);
}

void set_sink(Sink sink) {
  std::lock_guard const lock(sink_mutex);
  custom_sink = std::move(sink);
}

void write(Level level, std::string_view line) {
  if (level < log::level()) return;
  std::lock_guard const lock(sink_mutex);
  if (custom_sink) {
    custom_sink(level, line);
    return;
  }
  stderr_logger().log(to_spdlog(level), line);
}

}  // namespace aether::log
