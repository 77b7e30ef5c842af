// SPDX-License-Identifier: Apache-2.0
// Appending from a coroutine of the loop.
#pragma once
#include "async/task.h"
#include "journal/journal.h"

namespace aether::journal {

/// Appends and goes on when all of it is durable. Throws the fault. The batch is appended whether
/// or not the caller is cancelled meanwhile.
[[nodiscard]] async::Task<AppendOutcome> append(Journal& journal, Batch batch);

}  // namespace aether::journal
