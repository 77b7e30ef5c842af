// SPDX-License-Identifier: Apache-2.0
// RuntimeDir: where a running Aether keeps its sockets, and where the command line finds them. One
// control socket for each configuration file, named after it, in a folder private to the user.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace aether::daemon {

/// The folder of all Aethers of this user: $AETHER_RUNTIME_DIR, $XDG_RUNTIME_DIR/aether,
/// /run/aether (root), /tmp/aether-UID, or /dev/shm/aether-UID, whichever may be written to.
[[nodiscard]] std::string runtime_root();

/// The names that belong to one configuration file (found by its real path).
struct RuntimeNames {
  std::string folder;          ///< Private folder of this Aether: sockets of its services.
  std::string control_socket;  ///< HTTP API for the command line.
  std::string log_file;        ///< Where `up` in the background writes.
};
[[nodiscard]] RuntimeNames runtime_names(std::string const& config_path);

/// Makes a folder with its parents. Others may pass through it (0711), because a service with
/// `user:` must reach its sockets; each socket says who may use it. Refuses one that belongs to
/// somebody else (Forbidden).
[[nodiscard]] Status make_private_folder(std::string const& path);

/// AddressInvalid if the sockets of services would not fit into the folder's path (man 7 unix).
[[nodiscard]] Status check_socket_room(std::string const& folder);

/// Control sockets of this user on which somebody listens.
[[nodiscard]] std::vector<std::string> living_control_sockets();

/// The control socket the command line means: that of `config_path` if given, else that of the
/// first of `default_files` that exists and is running, else the only one there is. NotRunning if
/// there is none; UsageInvalid if there are several to choose from.
[[nodiscard]] Result<std::string> find_control_socket(
    std::optional<std::string> const& config_path, std::vector<std::string> const& default_files);

}  // namespace aether::daemon
