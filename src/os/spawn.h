// SPDX-License-Identifier: Apache-2.0
// The inside of spawn(), with the choices that tests make. Private to the room.
#pragma once
#include "base/time.h"
#include "os/clone_process.h"
#include "os/process.h"

namespace aether::os {

/// As spawn(), beginning with the given system call. `patience` bounds the wait for execve, which
/// can hang on a network file system, or because somebody stopped the child: SpawnFailed then.
[[nodiscard]] Result<Child> spawn_with(SpawnSpec const& spec, CloneCall first_call,
                                       Duration patience);

}  // namespace aether::os
