// SPDX-License-Identifier: Apache-2.0
// NotifyMessage: one datagram of the sd_notify protocol (man 3 sd_notify), understood. Pure.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"
#include "config/config.h"

namespace aether::supervise {

/// A longer datagram is dropped whole and counted (systemd's own limit is 4 KiB).
inline constexpr std::size_t kNotifyBytesMax = std::size_t{64} * 1024;
/// A longer STATUS= is cut, at a character's border.
inline constexpr std::size_t kNotifyStatusBytesMax = 1024;
/// A longer BUSERROR= or VARLINKERROR= is no name of an error.
inline constexpr std::size_t kNotifyErrorNameBytesMax = 255;

/// What a child said. Assignments that are unknown, malformed or out of range are as if not said:
/// a child must not be able to stop its own supervision with a typing mistake.
struct NotifyMessage {
  bool ready = false;                 ///< READY=1
  bool reloading = false;             ///< RELOADING=1
  bool stopping = false;              ///< STOPPING=1
  bool watchdog = false;              ///< WATCHDOG=1: the child lives.
  bool watchdog_trigger = false;      ///< WATCHDOG=trigger: the child asks to be taken for silent.
  bool barrier = false;               ///< BARRIER=1: close the one fd sent with it.
  bool fd_store = false;              ///< FDSTORE=1
  bool fd_store_remove = false;       ///< FDSTOREREMOVE=1
  bool fd_poll = true;                ///< Not FDPOLL=0: a hang-up takes the fd out of the store.
  std::optional<std::string> status;  ///< STATUS=, valid UTF-8 without control characters.
  std::optional<pid_t> main_pid;      ///< MAINPID=, above 1.
  std::optional<std::uint64_t> main_pidfd_id;  ///< MAINPIDFDID=: st_ino of that process's pidfd.
  std::optional<int> error_number;             ///< ERRNO=, 0 to 4095.
  std::optional<std::string> bus_error;        ///< BUSERROR=, a D-Bus error's name.
  std::optional<std::string> varlink_error;    ///< VARLINKERROR=, likewise.
  std::optional<int> exit_status;              ///< EXIT_STATUS=, 0 to 255.
  std::optional<Duration> extend_timeout;      ///< EXTEND_TIMEOUT_USEC=
  std::optional<Duration> watchdog_interval;   ///< WATCHDOG_USEC=: a new interval.
  std::optional<Duration> reloading_since;     ///< MONOTONIC_USEC=: CLOCK_MONOTONIC at RELOADING=1.
  std::optional<std::string> fd_name;          ///< FDNAME=, as is_fd_name() takes it.
  std::optional<config::NotifyAccess> access;  ///< NOTIFYACCESS=; `exec` counts as `main`.
  bool operator==(NotifyMessage const&) const = default;
};

/// Whether a name can stand in LISTEN_FDNAMES: 1 to 255 printable ASCII characters, no ':'.
[[nodiscard]] bool is_fd_name(std::string_view text);

/// Understands a datagram of any bytes. Lines end with a newline or a NUL; the last may lack it.
/// When a name comes twice the last one counts, except that a READY=1 stays said.
[[nodiscard]] NotifyMessage parse_notify_message(std::string_view datagram);

}  // namespace aether::supervise
