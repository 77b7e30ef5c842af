// SPDX-License-Identifier: Apache-2.0
// What a child is given in its environment and arguments (docs/architecture.md, "What the child
// sees"). Pure: Aether's own environment is an argument.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "config/config.h"
#include "os/process.h"

namespace aether::supervise {

/// The number of the first passed listener in the child (SD_LISTEN_FDS_START).
inline constexpr int kFirstListenerFd = 3;

/// One listener as an instance gets it. The n-th becomes fd 3 + n in the child.
struct PassedListener {
  std::string name;         ///< For LISTEN_FDNAMES and {fd:NAME}.
  int fd = -1;              ///< Borrowed: the service's own; open until launch() has returned.
  Address address;          ///< As bound: never port 0.
  std::uint64_t inode = 0;  ///< Of the socket (fstat's st_ino); 0: asked from `fd` at launch.
  /// Of a unix listener: where this very socket was bound, which the address is only when it is
  /// steered to. Asked from `fd` at launch.
  std::string own_path = {};
};

struct ChildEnvironment {
  std::string service;
  RevisionId revision;
  InstanceId instance;
  std::string invocation_id;  ///< INVOCATION_ID; empty: not given.
  std::span<PassedListener const> listeners;
  std::vector<std::string> stored_names;  ///< Of the descriptors that follow the listeners.
  std::size_t fd_store_max = 0;           ///< FDSTORE; 0: not given.
  std::string state_socket;               ///< AETERNA_STATE_SOCK; empty: not given.
  std::string notify_socket;              ///< NOTIFY_SOCKET; empty: not given.
  int work_fd = -1;                       ///< AETHER_WORK_FD; -1: not given.
  std::optional<Duration> watchdog;
  std::span<config::Compat const> compat;
  config::Variables user_defaults;  ///< HOME, USER ... of `user:`; weaker than `configured`.
  config::Variables configured;     ///< The service's `env:`.
};

/// Aether's own environment without what an outer manager gave to Aether (LISTEN_*, NOTIFY_SOCKET,
/// WATCHDOG_*, NGINX, GUNICORN_FD ...), then the user's, then the configured variables, then ours.
/// "NAME=value" each, no name twice. LISTEN_PID is not among them: os::spawn writes it.
[[nodiscard]] std::vector<std::string> build_environment(std::span<std::string const> own,
                                                         ChildEnvironment const& child);

/// The environment of a hook or probe: as above, without listeners and sockets.
[[nodiscard]] std::vector<std::string> build_hook_environment(std::span<std::string const> own,
                                                              ChildEnvironment const& child);

/// How a service's process ended, in systemd's words (man 5 systemd.exec, SERVICE_RESULT).
struct EndFacts {
  std::string_view result = "success";        ///< "exit-code", "signal", "timeout", "watchdog" ...
  std::optional<os::ExitStatus> status = {};  ///< None: it never ran, or runs on.
};
/// What a hook is told besides: MAINPID of the process that serves (0: none does), and for hooks
/// after a swap SERVICE_RESULT, EXIT_CODE and EXIT_STATUS.
[[nodiscard]] std::vector<std::string> hook_facts(pid_t main_pid,
                                                  std::optional<EndFacts> const& end);

/// Replaces {fd:NAME}, and circus's $(circus.sockets.NAME), in each argument. ConfigInvalid, naming
/// the listeners, if there is no NAME.
[[nodiscard]] Result<std::vector<std::string>> substitute_fds(
    std::span<std::string const> command, std::span<PassedListener const> listeners);

/// The variables of this process, "NAME=value" each.
[[nodiscard]] std::vector<std::string> own_environment();

}  // namespace aether::supervise
