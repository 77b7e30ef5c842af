// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <errno.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include <spdlog/details/null_mutex.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>

namespace aether::log {
namespace {

std::atomic<Level> minimum{Level::Info};
std::mutex sink_mutex;
Sink custom_sink;
Output custom_output;

void write_to_stderr(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t const count = ::write(STDERR_FILENO, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR) return;  // Nobody is there to be told.
    if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

std::string_view colour_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::debug:
      return "\x1b[36m";
    case spdlog::level::info:
      return "\x1b[32m";
    case spdlog::level::warn:
      return "\x1b[33m\x1b[1m";
    case spdlog::level::err:
      return "\x1b[31m\x1b[1m";
    default:
      return "";
  }
}

/// A line in one write, so that the lines of several processes do not mix; its level is coloured
/// on a terminal. The caller holds sink_mutex.
class LineSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 protected:
  void sink_it_(spdlog::details::log_msg const& message) override {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    std::string line(formatted.data(), formatted.size());
    if (coloured_ && message.color_range_end > message.color_range_start) {
      line.insert(message.color_range_end, "\x1b[0m");
      line.insert(message.color_range_start, colour_of(message.level));
    }
    if (!custom_output || !custom_output(line)) write_to_stderr(line);
  }
  void flush_() override {}

 private:
  bool coloured_ = ::isatty(STDERR_FILENO) == 1;
};

spdlog::logger& stderr_logger() {
  static std::shared_ptr<spdlog::logger> const logger = [] {
    auto made = std::make_shared<spdlog::logger>("aether", std::make_shared<LineSink>());
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

void set_output(Output output) {
  std::lock_guard const lock(sink_mutex);
  custom_output = std::move(output);
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
