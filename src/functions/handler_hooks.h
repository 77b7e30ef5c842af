// SPDX-License-Identifier: Apache-2.0
// What Aether and the hook libraries (sdk/python/aetherless, sdk/node/aetherless) say to each
// other, so that copies of a handler do not share random numbers (docs/handlers.md).
//
// On the connection to AETHER_SOCKET, lines:
//   handler -> Aether  READY, and from a hook library HOOKS after it: there is a hook.
//   Aether -> template SNAPSHOT; answered by OK, or not at all by a handler without a library.
//   Aether -> copy     RESTORED <instance> <32 hex digits of chance>; answered by OK.
// With each of the two Aether also sends kHookSignal, to the template and to the copy: after the
// words were written, before the copy is offered any request. Programs that know nothing ignore it
// (man 7 signal: its default is to be ignored). It is what makes the zero-code hook work, which
// has no connection of its own, and it interrupts a Python that waits for its next request.
//
// Copies should have process numbers of their own, not those of a pid namespace: OpenSSL, of which
// Node's and Python's TLS keys and tokens come, notices by the number that it was copied.
#pragma once
#include <signal.h>
#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace aether::functions {

inline constexpr int kHookSignal = SIGURG;
/// What a hook library says after READY, with or without a line's end between them.
inline constexpr std::string_view kHooksWord = "HOOKS";
inline constexpr std::string_view kSnapshotLine = "SNAPSHOT\n";
inline constexpr std::string_view kHookAnswer = "OK\n";
/// How long the hooks before the snapshot may take: gc.collect() of a big heap. Only a handler that
/// said HOOKS is waited for.
inline constexpr auto kSnapshotPatienceSeconds = 10;

/// "RESTORED 7 0123...\n" with fresh chance.
[[nodiscard]] std::string restored_line(InstanceId instance);

/// The variables that load the zero-code hook into Python and Node handlers, and let them find the
/// library: PYTHONPATH, NODE_OPTIONS and NODE_PATH, before what `environment` ("NAME=value" each)
/// says there. `sdk_folder` holds python/ and node/; nothing if they are not there, or if
/// AETHER_HOOKS=off is in `environment`.
[[nodiscard]] std::vector<std::string> hook_variables(std::vector<std::string> const& environment,
                                                      std::string const& sdk_folder);

/// Where this program finds the hook libraries: AETHER_SDK, else ../share/aether/sdk beside its
/// binary, else the source folder it was built from. Empty: nowhere.
[[nodiscard]] std::string find_sdk_folder();

/// Whether a Python or Node with that number has taken the zero-code hook on: it waits for
/// kHookSignal. What a library said (kHooksWord) needs no such guess.
[[nodiscard]] bool has_loaded_hook(pid_t pid);

}  // namespace aether::functions
