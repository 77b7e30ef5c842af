// SPDX-License-Identifier: Apache-2.0
#include "supervise/notify_message.h"

#include <charconv>
#include <limits>

#include "supervise/printable.h"

namespace aether::supervise {
namespace {

template <class Number>
std::optional<Number> parse_number(std::string_view text, Number least, Number most) {
  Number value{};
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (value < least || value > most) return std::nullopt;
  return value;
}

/// Microseconds up to a year: enough for every use, and far from overflow in nanoseconds.
std::optional<Duration> parse_microseconds(std::string_view text) {
  constexpr std::uint64_t kYear = 366ULL * 24 * 3600 * 1'000'000;
  auto const value = parse_number<std::uint64_t>(text, 1, kYear);
  if (!value) return std::nullopt;
  return std::chrono::microseconds(*value);
}

bool is_fd_name(std::string_view text) {
  if (text.empty() || text.size() > 255) return false;
  for (char c : text)
    if (c < 0x20 || c >= 0x7F || c == ':') return false;
  return true;
}

void assign(NotifyMessage& message, std::string_view name, std::string_view value) {
  bool const yes = value == "1";
  if (name == "READY") {
    message.ready |= yes;
  } else if (name == "RELOADING") {
    message.reloading |= yes;
  } else if (name == "STOPPING") {
    message.stopping |= yes;
  } else if (name == "BARRIER") {
    message.barrier |= yes;
  } else if (name == "FDSTORE") {
    message.fd_store |= yes;
  } else if (name == "FDSTOREREMOVE") {
    message.fd_store_remove |= yes;
  } else if (name == "WATCHDOG") {
    message.watchdog |= yes;
    message.watchdog_trigger |= value == "trigger";
  } else if (name == "STATUS") {
    std::string_view const cut = value.substr(0, cut_position(value, kNotifyStatusBytesMax));
    message.status = printable(cut, Controls::Replace);
  } else if (name == "MAINPID") {
    // 1 is init, or ourselves in a container: never a child's main process.
    message.main_pid = parse_number<pid_t>(value, 2, std::numeric_limits<pid_t>::max());
  } else if (name == "ERRNO") {
    message.error_number = parse_number<int>(value, 0, 4095);
  } else if (name == "EXTEND_TIMEOUT_USEC") {
    message.extend_timeout = parse_microseconds(value);
  } else if (name == "WATCHDOG_USEC") {
    message.watchdog_interval = parse_microseconds(value);
  } else if (name == "FDNAME" && is_fd_name(value)) {
    message.fd_name = value;
  }
}

}  // namespace

NotifyMessage parse_notify_message(std::string_view datagram) {
  constexpr std::string_view kLineEnds("\n\0", 2);
  NotifyMessage message;
  while (!datagram.empty()) {
    std::size_t const end = datagram.find_first_of(kLineEnds);
    std::string_view const line = datagram.substr(0, end);
    std::size_t const equals = line.find('=');
    if (equals != std::string_view::npos)
      assign(message, line.substr(0, equals), line.substr(equals + 1));
    if (end == std::string_view::npos) break;
    datagram.remove_prefix(end + 1);
  }
  return message;
}

}  // namespace aether::supervise
