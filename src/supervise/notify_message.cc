// SPDX-License-Identifier: Apache-2.0
#include "supervise/notify_message.h"

#include <algorithm>
#include <array>
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

/// D-Bus and varlink name their errors like "org.freedesktop.DBus.Error.NoReply".
std::optional<std::string> parse_error_name(std::string_view text) {
  auto const fits = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  bool const good =
      !text.empty() && text.size() <= kNotifyErrorNameBytesMax && std::ranges::all_of(text, fits);
  return good ? std::optional(std::string(text)) : std::nullopt;
}

std::optional<config::NotifyAccess> parse_access(std::string_view text) {
  if (text == "all") return config::NotifyAccess::All;
  if (text == "main" || text == "exec") return config::NotifyAccess::Main;
  if (text == "none") return config::NotifyAccess::None;
  return std::nullopt;
}

/// What is said by "1", and is not unsaid by anything else.
bool assign_word(NotifyMessage& message, std::string_view name, std::string_view value) {
  struct Word {
    std::string_view name;
    bool NotifyMessage::* member;
  };
  static constexpr std::array<Word, 7> kWords = {
      {{"READY", &NotifyMessage::ready},
       {"RELOADING", &NotifyMessage::reloading},
       {"STOPPING", &NotifyMessage::stopping},
       {"BARRIER", &NotifyMessage::barrier},
       {"WATCHDOG", &NotifyMessage::watchdog},
       {"FDSTORE", &NotifyMessage::fd_store},
       {"FDSTOREREMOVE", &NotifyMessage::fd_store_remove}}};
  auto const word = std::ranges::find(kWords, name, &Word::name);
  if (word == kWords.end()) return false;
  message.*(word->member) |= value == "1";
  if (name == "WATCHDOG") message.watchdog_trigger |= value == "trigger";
  return true;
}

bool assign_number(NotifyMessage& message, std::string_view name, std::string_view value) {
  if (name == "MAINPID") {
    // 1 is init, or ourselves in a container: never a child's main process.
    message.main_pid = parse_number<pid_t>(value, 2, std::numeric_limits<pid_t>::max());
  } else if (name == "MAINPIDFDID") {
    constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
    message.main_pidfd_id = parse_number<std::uint64_t>(value, 1, kMax);
  } else if (name == "ERRNO") {
    message.error_number = parse_number<int>(value, 0, 4095);
  } else if (name == "EXIT_STATUS") {
    message.exit_status = parse_number<int>(value, 0, 255);
  } else if (name == "EXTEND_TIMEOUT_USEC") {
    message.extend_timeout = parse_microseconds(value);
  } else if (name == "WATCHDOG_USEC") {
    message.watchdog_interval = parse_microseconds(value);
  } else if (name == "MONOTONIC_USEC") {
    message.reloading_since = parse_microseconds(value);
  } else {
    return false;
  }
  return true;
}

void assign(NotifyMessage& message, std::string_view name, std::string_view value) {
  if (assign_word(message, name, value) || assign_number(message, name, value)) return;
  if (name == "STATUS") {
    std::string_view const cut = value.substr(0, cut_position(value, kNotifyStatusBytesMax));
    message.status = printable(cut, Controls::Replace);
  } else if (name == "BUSERROR") {
    message.bus_error = parse_error_name(value);
  } else if (name == "VARLINKERROR") {
    message.varlink_error = parse_error_name(value);
  } else if (name == "FDNAME" && is_fd_name(value)) {
    message.fd_name = value;
  } else if (name == "FDPOLL") {
    message.fd_poll = value != "0";
  } else if (name == "NOTIFYACCESS") {
    message.access = parse_access(value);
  }
}

}  // namespace

bool is_fd_name(std::string_view text) {
  if (text.empty() || text.size() > 255) return false;
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c < 0x7F && c != ':'; });
}

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
