// SPDX-License-Identifier: Apache-2.0
// Handler: the program of a function: the command that runs it, and what it is told in its
// environment.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "config/config.h"

namespace aether::functions {

/// The command for a handler's file: the file itself, or `python3 FILE` for a .py that is not
/// executable. Looks at the file: CommandNotFound if it is not there, CommandNotExecutable, with
/// what to do, if the kernel would not run it (a folder, no right, no #! line, one that ends in a
/// carriage return).
[[nodiscard]] Result<config::Command> handler_command(std::string const& path);

/// What a handler with `ipc: ring` inherits, in this order: the memory, the pipe that it is woken
/// by, and the one that it wakes Aether by. AETHER_RING names them, "3,4,5".
inline constexpr std::array<int, 3> kRingDescriptors{3, 4, 5};

struct HandlerFacts {
  std::string_view function;
  std::string_view socket;  ///< AETHER_SOCKET.
  std::uint16_t port = 0;   ///< Where it shall listen.
  bool has_ring = false;    ///< It inherits a ring: AETHER_RING.
  std::string_view sdk;     ///< Folder of the hook libraries; empty: none are loaded.
};
/// AETHER_SOCKET and the like, HOST unless `configured` has it, and `configured`. What every child
/// is told (AETHER_INSTANCE_ID, AETHER_REVISION) is added when it is launched.
[[nodiscard]] config::Variables handler_environment(HandlerFacts const& facts,
                                                    config::Variables const& configured);

/// A port of this machine on which nobody listens, below those that the kernel gives to outgoing
/// connections (ip_local_port_range), so that none of them takes it before the handler does.
[[nodiscard]] Result<std::uint16_t> free_inner_port();

}  // namespace aether::functions
